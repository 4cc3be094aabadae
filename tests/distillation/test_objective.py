from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hkd.config import (
    ComparedCells,
    DetectorConfig,
    DistillationConfig,
    FeatureLoss,
    FeatureStageConfig,
    LogitStageConfig,
    TeacherConfig,
)
from hkd.distillation import cells
from hkd.distillation.logits import box_delta_loss, kl_distillation_loss
from hkd.distillation.objective import DistillationObjective, build_objective, total_loss
from hkd.distillation.pyramid import pyramid_distillation_loss
from hkd.distillation.region import embedding_distillation_loss, region_distillation_loss
from hkd.structures import DetectorOutput, RegionOutput, Regions, RegionTaps, RpnOutput, SampledRegions

IMAGES, REGIONS, CLASSES = 2, 6, 3
IMAGE_SIZE = (64, 96)
VALID_SIZES = torch.tensor([[64.0, 80.0], [48.0, 96.0]])
VALID = torch.tensor([[True, True, True, True, False, False], [True, False, True, True, True, True]])
STUDENT = DetectorConfig(pyramid_channels=8, head_channels=16)
TEACHER = TeacherConfig(pyramid_channels=16, head_channels=24)
PARTS = ("distill_pyramid", "distill_region", "distill_embedding", "distill_logits", "distill_box_deltas")


def _distillation(weights: Mapping[str, float], loss: FeatureLoss = "pearson") -> DistillationConfig:
    """Weights by stage; those left out are 0."""

    def feature(stage: str) -> FeatureStageConfig:
        return FeatureStageConfig(loss=loss, weight=weights.get(stage, 0.0))

    return DistillationConfig(
        pyramid=feature("pyramid"),
        region=feature("region"),
        embedding=feature("embedding"),
        logits=LogitStageConfig(
            weight=weights.get("logits", 0.0), temperature=3.0, box_deltas_weight=weights.get("box_deltas", 0.0)
        ),
    )


ALL_STAGES = {"pyramid": 2.0, "region": 3.0, "embedding": 5.0, "logits": 7.0, "box_deltas": 11.0}


def _features(config: DetectorConfig, seed: int) -> tuple[dict[str, Tensor], RegionOutput]:
    """Random outputs of a detector of this shape for two images, as leaves with gradients."""
    generator = torch.Generator().manual_seed(seed)

    def leaf(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).requires_grad_()

    channels = config.pyramid_channels
    pyramid = {
        f"p{level}": leaf(IMAGES, channels, -(-IMAGE_SIZE[0] // 2**level), -(-IMAGE_SIZE[1] // 2**level))
        for level in range(2, 7)
    }
    count = IMAGES * REGIONS
    return pyramid, RegionOutput(
        region_features=leaf(count, channels, 7, 7),
        embedding=leaf(count, config.head_channels),
        class_logits=leaf(count, CLASSES),
        box_deltas=leaf(count, 4 * CLASSES),
    )


def _output(pyramid: dict[str, Tensor], region: RegionOutput) -> DetectorOutput:
    boxes = torch.zeros(IMAGES, REGIONS, 4)
    regions = Regions(boxes_xyxy=boxes, scores=torch.zeros(IMAGES, REGIONS), valid=VALID)
    return DetectorOutput(
        pyramid=pyramid,
        rpn=RpnOutput(objectness=torch.zeros(IMAGES, 1), deltas=torch.zeros(IMAGES, 1, 4), anchors_xyxy=boxes[0, :1]),
        proposals=regions,
        sampled=SampledRegions(
            regions=regions, labels=torch.zeros(IMAGES, REGIONS, dtype=torch.int64), matched_boxes_xyxy=boxes
        ),
        region=region,
        taps=RegionTaps(cells=torch.zeros(0, 16, dtype=torch.int32), weights=torch.zeros(0, 16)),
    )


def _taps(pyramid: dict[str, Tensor], region: RegionOutput) -> dict[str, list[Tensor]]:
    """The tensors that each stage may read."""
    return {
        "pyramid": list(pyramid.values()),
        "region": [region.region_features],
        "embedding": [region.embedding],
        "logits": [region.class_logits],
        "box_deltas": [region.box_deltas],
    }


class TestParts:
    @pytest.mark.parametrize("loss", ["pearson", "mse"])
    def test_each_loss_is_weight_times_loss_of_adapted_features(self, loss: FeatureLoss) -> None:
        objective = build_objective(_distillation(ALL_STAGES, loss), STUDENT, TEACHER, seed=0)
        pyramid, region = _features(STUDENT, seed=0)
        teacher_pyramid, teacher = _features(TEACHER, seed=1)
        parts = objective(_output(pyramid, region), teacher_pyramid, teacher, VALID_SIZES, IMAGE_SIZE)
        assert tuple(parts) == PARTS

        valid = VALID.reshape(-1)
        adapters = objective.adapters
        assert adapters.region is not None
        assert adapters.embedding is not None
        adapted = {level: adapters.pyramid[level](features) for level, features in pyramid.items()}
        adapted_region = adapters.region(region.region_features)
        adapted_embedding = adapters.embedding(region.embedding)
        expected = {
            "distill_pyramid": 2.0 * pyramid_distillation_loss(adapted, teacher_pyramid, VALID_SIZES, IMAGE_SIZE, loss),
            "distill_region": 3.0 * region_distillation_loss(adapted_region, teacher.region_features, valid, loss),
            "distill_embedding": 5.0 * embedding_distillation_loss(adapted_embedding, teacher.embedding, valid, loss),
            "distill_logits": 7.0 * kl_distillation_loss(region.class_logits, teacher.class_logits, 3.0, valid),
            "distill_box_deltas": 11.0 * box_delta_loss(region.box_deltas, teacher.box_deltas, valid),
        }
        for name, part in parts.items():
            assert part.dtype == torch.float32
            assert part.shape == ()
            # pearson has an adapted map's moments without the map: other sums, other last bits.
            assert part.item() == pytest.approx(expected[name].item(), rel=0.0 if loss == "mse" else 1e-6, abs=0.0)
            assert part.item() > 0.1  # unrelated features: no loss is near 0

    @pytest.mark.parametrize("kind", ["pearson", "mse"])
    def test_pyramid_and_regions_are_compared_at_configured_cells(
        self, monkeypatch: pytest.MonkeyPatch, kind: FeatureLoss
    ) -> None:
        monkeypatch.setattr(cells, "_MINIMUM_CELLS", 10)  # these maps are small
        (pyramid, region), (teacher_pyramid, teacher) = _features(STUDENT, seed=0), _features(TEACHER, seed=1)
        found: dict[str, list[float]] = {"distill_pyramid": [], "distill_region": []}
        asked: tuple[ComparedCells, ...] = ("sample", "all")
        for compared_cells in asked:
            distillation = _distillation(ALL_STAGES, kind).model_copy(update={"compared_cells": compared_cells})
            objective = build_objective(distillation, STUDENT, TEACHER, seed=0)
            parts = objective(_output(pyramid, region), teacher_pyramid, teacher, VALID_SIZES, IMAGE_SIZE)
            adapters = objective.adapters
            assert adapters.region is not None
            adapted = {level: adapters.pyramid[level](features) for level, features in pyramid.items()}
            expected = {
                "distill_pyramid": pyramid_distillation_loss(
                    adapted, teacher_pyramid, VALID_SIZES, IMAGE_SIZE, kind, cells=compared_cells
                ),
                "distill_region": region_distillation_loss(
                    adapters.region(region.region_features),
                    teacher.region_features,
                    VALID.reshape(-1),
                    kind,
                    cells=compared_cells,
                ),
            }
            for name, loss in expected.items():
                weight = ALL_STAGES[name.removeprefix("distill_")]
                assert parts[name].item() == pytest.approx(weight * loss.item(), abs=1e-5)
                found[name].append(parts[name].item())
        assert all(abs(sample - every) > 1e-3 for sample, every in found.values())

    @pytest.mark.parametrize("loss", ["pearson", "mse"])
    def test_identical_student_and_teacher_have_exactly_zero_losses(self, loss: FeatureLoss) -> None:
        objective = build_objective(_distillation(ALL_STAGES, loss), STUDENT, STUDENT, seed=0)
        pyramid, region = _features(STUDENT, seed=0)
        parts = objective(_output(pyramid, region), *_features(STUDENT, seed=0), VALID_SIZES, IMAGE_SIZE)
        assert {name: part.item() for name, part in parts.items()} == dict.fromkeys(PARTS, 0.0)

    @pytest.mark.parametrize("loss", ["pearson", "mse"])
    @pytest.mark.parametrize("stage", list(ALL_STAGES))
    def test_each_stage_trains_only_its_own_features_and_adapters(self, stage: str, loss: FeatureLoss) -> None:
        objective = build_objective(_distillation({stage: 1.0}, loss), STUDENT, TEACHER, seed=0)
        student_features, teacher_features = _features(STUDENT, seed=0), _features(TEACHER, seed=1)
        parts = objective(_output(*student_features), *teacher_features, VALID_SIZES, IMAGE_SIZE)
        assert list(parts) == [f"distill_{stage}"]
        torch.autograd.backward(parts[f"distill_{stage}"])
        for name, taps in _taps(*student_features).items():
            for tap in taps:
                assert (tap.grad is not None) == (name == stage)
                assert tap.grad is None or tap.grad.abs().sum() > 0
        assert all(tap.grad is None for taps in _taps(*teacher_features).values() for tap in taps)
        trained = {name.split(".")[0] for name, parameter in objective.adapters.named_parameters()}
        assert trained == ({stage} if stage in ("pyramid", "region", "embedding") else set())
        for parameter in objective.parameters():
            assert parameter.grad is not None
            assert parameter.grad.abs().sum() > 0

    def test_losses_have_separate_graphs_for_gradient_norms(self) -> None:
        objective = build_objective(_distillation(ALL_STAGES), STUDENT, TEACHER, seed=0)
        source = torch.ones((), requires_grad=True)
        pyramid, region = _features(STUDENT, seed=0)
        shared = _output(
            {level: features * source for level, features in pyramid.items()},
            replace(region, class_logits=region.class_logits * source, box_deltas=region.box_deltas * source),
        )
        parts = objective(shared, *_features(TEACHER, seed=1), VALID_SIZES, IMAGE_SIZE)
        for name, reaches in (("distill_logits", True), ("distill_box_deltas", True), ("distill_region", False)):
            (gradient,) = torch.autograd.grad(parts[name], source, retain_graph=True, allow_unused=True)
            assert (gradient is not None) == reaches
        # Pearson does not see the scale of the whole pyramid: the slope along it is 0, up to rounding.
        (gradient,) = torch.autograd.grad(parts["distill_pyramid"], source)
        assert gradient.item() == pytest.approx(0.0, abs=1e-5)

    def test_padding_and_unused_regions_do_not_affect_losses(self) -> None:
        objective = build_objective(_distillation(ALL_STAGES), STUDENT, TEACHER, seed=0)
        pyramid, region = _features(STUDENT, seed=0)
        teacher = _features(TEACHER, seed=1)
        expected = objective(_output(pyramid, region), *teacher, VALID_SIZES, IMAGE_SIZE)

        def spoilt(features: Tensor) -> Tensor:
            return torch.where(VALID.reshape(-1).view(-1, *[1] * (features.dim() - 1)), features, float("nan"))

        # The first image's picture ends at 80 of 96 columns, the second's at 48 of 64 rows.
        spoilt_p2 = pyramid["p2"].detach().clone()
        spoilt_p2[0, :, :, 80 // 4 :] = float("nan")
        spoilt_p2[1, :, 48 // 4 :] = float("nan")
        spoilt_region = RegionOutput(
            region_features=spoilt(region.region_features),
            embedding=spoilt(region.embedding),
            class_logits=spoilt(region.class_logits),
            box_deltas=spoilt(region.box_deltas),
        )
        parts = objective(_output(pyramid | {"p2": spoilt_p2}, spoilt_region), *teacher, VALID_SIZES, IMAGE_SIZE)
        assert {name: part.item() for name, part in parts.items()} == {
            name: part.item() for name, part in expected.items()
        }

    @pytest.mark.parametrize("autocast", [False, True])
    def test_bf16_features_work_with_and_without_autocast(self, autocast: bool) -> None:
        objective = build_objective(_distillation(ALL_STAGES), STUDENT, TEACHER, seed=0)
        pyramid, region = _features(STUDENT, seed=0)
        teacher = _features(TEACHER, seed=1)
        expected = objective(_output(pyramid, region), *teacher, VALID_SIZES, IMAGE_SIZE)
        half_region = RegionOutput(
            region_features=region.region_features.bfloat16(),
            embedding=region.embedding.bfloat16(),
            class_logits=region.class_logits.bfloat16(),
            box_deltas=region.box_deltas.bfloat16(),
        )
        half = _output({level: features.bfloat16() for level, features in pyramid.items()}, half_region)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            parts = objective(half, *teacher, VALID_SIZES, IMAGE_SIZE)
        for name, part in parts.items():
            assert part.dtype == torch.float32
            # bf16 keeps 8 bits: inputs differ by 0.4%, losses, which are means over many, by less.
            assert part.item() == pytest.approx(expected[name].item(), rel=4e-3)

    def test_losses_trace_as_one_graph(self) -> None:
        distillation = _distillation(ALL_STAGES)
        both_losses = distillation.model_copy(update={"region": FeatureStageConfig(loss="mse", weight=1.0)})
        objective = build_objective(both_losses, STUDENT, TEACHER, seed=0)
        teacher = _features(TEACHER, seed=1)

        def step(student_output: DetectorOutput) -> Tensor:
            parts = objective(student_output, *teacher, VALID_SIZES, IMAGE_SIZE)
            return total_loss({"roi_box": student_output.region.box_deltas.sum()}, parts)[0]

        def gradients(run: Callable[[DetectorOutput], Tensor]) -> tuple[Tensor, list[Tensor]]:
            features = _features(STUDENT, seed=0)
            leaves = [tap for taps in _taps(*features).values() for tap in taps] + list(objective.parameters())
            total = run(_output(*features))
            return total.detach(), list(torch.autograd.grad(total, leaves))

        torch.compiler.reset()
        # A read on the host (.item(), nonzero(), a boolean index, an if on a tensor) would break the graph.
        compiled = torch.compile(step, fullgraph=True, backend="eager")
        total, expected = gradients(step)
        compiled_total, compiled_gradients = gradients(compiled)
        # A traced graph cannot read whether a mask is full, and uses a masked sum instead: last bits differ.
        torch.testing.assert_close(compiled_total, total, rtol=1e-6, atol=0.0)
        for gradient, of_eager in zip(compiled_gradients, expected, strict=True):
            torch.testing.assert_close(gradient, of_eager, rtol=1e-5, atol=1e-5 * of_eager.abs().max().item())


class TestWeightZero:
    @pytest.mark.parametrize("left_out", list(ALL_STAGES))
    def test_stage_has_no_loss_and_no_adapter(self, left_out: str) -> None:
        weights = {stage: weight for stage, weight in ALL_STAGES.items() if stage != left_out}
        objective = build_objective(_distillation(weights), STUDENT, TEACHER, seed=0)
        parts = objective(_output(*_features(STUDENT, seed=0)), *_features(TEACHER, seed=1), VALID_SIZES, IMAGE_SIZE)
        assert set(parts) == {f"distill_{stage}" for stage in weights}
        assert not any(name.startswith(f"adapters.{left_out}") for name, _ in objective.named_parameters())
        # The other stages have the same initial weights as with it.
        every = build_objective(_distillation(ALL_STAGES), STUDENT, TEACHER, seed=0)
        all_parts = every(_output(*_features(STUDENT, seed=0)), *_features(TEACHER, seed=1), VALID_SIZES, IMAGE_SIZE)
        assert {name: part.item() for name, part in parts.items()} == {name: all_parts[name].item() for name in parts}

    @pytest.mark.parametrize(
        ("stage", "pyramid", "region"),
        [
            ("pyramid", True, False),
            ("region", False, True),
            ("embedding", False, True),
            ("logits", False, True),
            ("box_deltas", False, True),
            (None, False, False),
        ],
    )
    def test_only_required_teacher_outputs_are_requested(self, stage: str | None, pyramid: bool, region: bool) -> None:
        distillation = _distillation({stage: 0.5} if stage else {})
        assert distillation.is_active == (pyramid or region)
        objective = build_objective(distillation, STUDENT, TEACHER, seed=0)
        assert objective.needs_teacher_pyramid == pyramid
        assert objective.needs_teacher_region == region
        teacher_pyramid, teacher_region = _features(TEACHER, seed=1)
        parts = objective(
            _output(*_features(STUDENT, seed=0)),
            teacher_pyramid if pyramid else None,
            teacher_region if region else None,
            VALID_SIZES,
            IMAGE_SIZE,
        )
        assert len(parts) == (stage is not None)

    def test_missing_teacher_output_is_refused(self) -> None:
        objective = build_objective(_distillation(ALL_STAGES), STUDENT, TEACHER, seed=0)
        teacher_pyramid, teacher_region = _features(TEACHER, seed=1)
        output = _output(*_features(STUDENT, seed=0))
        with pytest.raises(AssertionError, match="teacher's pyramid"):
            objective(output, None, teacher_region, VALID_SIZES, IMAGE_SIZE)
        with pytest.raises(AssertionError, match="teacher's box head"):
            objective(output, teacher_pyramid, None, VALID_SIZES, IMAGE_SIZE)

    def test_training_is_bit_identical_to_plain_training(self) -> None:
        def train(with_objective: bool) -> tuple[Tensor, Tensor]:
            torch.manual_seed(0)
            weight = nn.Parameter(torch.randn(4, 4))
            parameters = [weight]
            objective: DistillationObjective | None = None
            if with_objective:
                objective = build_objective(_distillation({}), STUDENT, TEACHER, seed=0)
                parameters += list(objective.parameters())
            optimizer = torch.optim.AdamW(parameters, lr=0.1)
            for _ in range(5):
                # Draws of the global generator, as dropout or sampling would make.
                losses = {"roi_classification": (torch.rand(8, 4) @ weight).square().mean(), "roi_box": weight.std()}
                parts: dict[str, Tensor] = {}
                if objective is not None:
                    parts = objective(_output(*_features(STUDENT, seed=0)), None, None, VALID_SIZES, IMAGE_SIZE)
                optimizer.zero_grad()
                torch.autograd.backward(total_loss(losses, parts)[0])
                optimizer.step()
            return weight.detach(), torch.get_rng_state()

        plain, with_objective = train(False), train(True)
        assert torch.equal(plain[0], with_objective[0])
        assert torch.equal(plain[1], with_objective[1])


class TestBuild:
    def test_every_setting_is_passed_to_objective(self) -> None:
        distillation = DistillationConfig(
            pyramid=FeatureStageConfig(loss="mse", weight=1.5),
            region=FeatureStageConfig(loss="pearson", weight=2.5),
            embedding=FeatureStageConfig(loss="mse", weight=3.5),
            logits=LogitStageConfig(weight=4.5, temperature=5.5, box_deltas_weight=6.5),
        )
        objective = build_objective(distillation, STUDENT, TEACHER, seed=0)
        settings: dict[str, Any] = {
            name: getattr(objective, name)
            for name in (
                *("pyramid_loss", "pyramid_weight", "region_loss", "region_weight"),
                *("embedding_loss", "embedding_weight", "logits_weight", "temperature", "box_deltas_weight"),
            )
        }
        assert settings == {
            "pyramid_loss": "mse",
            "pyramid_weight": 1.5,
            "region_loss": "pearson",
            "region_weight": 2.5,
            "embedding_loss": "mse",
            "embedding_weight": 3.5,
            "logits_weight": 4.5,
            "temperature": 5.5,
            "box_deltas_weight": 6.5,
        }
        biases = {name for name, _ in objective.named_parameters() if name.endswith("bias")}
        assert biases == {f"adapters.pyramid.p{level}.bias" for level in range(2, 7)} | {"adapters.embedding.bias"}

    def test_adapters_map_student_widths_to_teacher_widths(self) -> None:
        objective = build_objective(_distillation(ALL_STAGES), STUDENT, TEACHER, seed=0)
        shapes = {name: tuple(parameter.shape) for name, parameter in objective.named_parameters()}
        assert shapes == {
            **{f"adapters.pyramid.p{level}.weight": (16, 8) for level in range(2, 7)},
            "adapters.region.weight": (16, 8),
            "adapters.embedding.weight": (24, 16),
        }

    def test_initial_weights_depend_on_seed(self) -> None:
        first, again, other = (
            build_objective(_distillation(ALL_STAGES), STUDENT, TEACHER, seed=seed).state_dict() for seed in (1, 1, 2)
        )
        assert all(torch.equal(first[name], again[name]) for name in first)
        assert not any(torch.equal(first[name], other[name]) for name in first)
