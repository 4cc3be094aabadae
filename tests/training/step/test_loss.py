"""The training step: what it sums, what it leaves alone, and that it traces as one graph."""

from __future__ import annotations

import os
import traceback
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from hkd.config import DistillationConfig, FeatureStageConfig, LogitStageConfig
from hkd.distillation.objective import build_objective
from hkd.models.detector import Detector
from hkd.structures import Batch
from hkd.training.step.loss import StepLoss, forward_teacher_pyramid, gradient_ratios, training_loss
from tests.training.tiny import ALL_STAGES, HEIGHT, SAMPLING, STUDENT, TEACHER_SHAPE, WIDTH, build, make_batch


def step(
    student: Detector,
    teacher: Detector | None,
    distillation: DistillationConfig | None,
    batch: Batch,
    autocast_dtype: torch.dtype | None = None,
) -> StepLoss:
    """One step with keys and adapters that depend on nothing but the batch."""
    generator = torch.Generator().manual_seed(1)
    anchor_keys, region_keys = student.draw_sampling_keys(batch.images, batch.targets, generator)
    return training_loss(
        student,
        teacher,
        None if distillation is None else build_objective(distillation, STUDENT, TEACHER_SHAPE, 3),
        batch,
        anchor_keys=anchor_keys,
        region_keys=region_keys,
        sampling=SAMPLING,
        autocast_dtype=autocast_dtype,
    )


def build_teacher() -> Detector:
    return build(TEACHER_SHAPE, 1).requires_grad_(False).eval()


def test_step_traces_as_one_graph() -> None:
    # fullgraph refuses whatever makes the host wait: .item(), nonzero(), branches on tensors.
    student, teacher, batch = build(STUDENT, 0), build_teacher(), make_batch()
    objective = build_objective(ALL_STAGES, STUDENT, TEACHER_SHAPE, 3)
    generator = torch.Generator().manual_seed(1)
    anchor_keys, region_keys = student.draw_sampling_keys(batch.images, batch.targets, generator)

    def run(images: Batch, of_anchors: Tensor, of_regions: Tensor) -> StepLoss:
        return training_loss(
            student,
            teacher,
            objective,
            images,
            anchor_keys=of_anchors,
            region_keys=of_regions,
            sampling=SAMPLING,
            autocast_dtype=torch.bfloat16,
        )

    traced = torch.compile(run, fullgraph=True, backend="eager")(batch, anchor_keys, region_keys)
    eager = run(batch, anchor_keys, region_keys)
    assert traced.parts.keys() == eager.parts.keys()
    for name, part in eager.parts.items():
        # The same kernels in the same order; only NMS counts its passes another way.
        torch.testing.assert_close(traced.parts[name], part, rtol=1e-6, atol=1e-6, msg=name)


class CopiesThatWait(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it untyped
    """Records synchronous copies from the host to a GPU."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.places: set[str] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = function(*args, **kwargs)
        if (
            function is torch.ops.aten._to_copy.default
            and args[0].device.type != result.device.type
            and not kwargs.get("non_blocking")
        ):
            frames = [frame for frame in traceback.extract_stack() if f"{os.sep}hkd{os.sep}" in frame.filename]
            self.places.add(f"{Path(frames[-1].filename).name}:{frames[-1].name}")
        return result


def on_fake_gpu(value: Any) -> Any:
    """The same, tensors without content on a GPU that need not exist."""
    if isinstance(value, Tensor):
        return torch.empty(value.shape, dtype=value.dtype, device="cuda")
    return type(value)(**{field.name: on_fake_gpu(getattr(value, field.name)) for field in fields(value)})


def move_to_fake_gpu(module: torch.nn.Module) -> None:
    for part in module.modules():
        for name, parameter in list(part.named_parameters(recurse=False)):
            part.register_parameter(name, torch.nn.Parameter(on_fake_gpu(parameter), parameter.requires_grad))
        for name, buffer in list(part.named_buffers(recurse=False)):
            setattr(part, name, on_fake_gpu(buffer))


def test_step_has_no_device_to_host_synchronization() -> None:
    # A fake tensor has a device and a shape, but no content: whatever needs a number of it (.item(), nonzero(), a
    # branch on a tensor) raises, and code meant for CUDA alone is what runs.
    student, teacher, batch = build(STUDENT, 0), build_teacher(), make_batch()
    objective = build_objective(ALL_STAGES, STUDENT, TEACHER_SHAPE, 3)
    generator = torch.Generator().manual_seed(1)
    with FakeTensorMode():
        for module in (student, teacher, objective):
            move_to_fake_gpu(module)
        images = on_fake_gpu(batch)
        student.anchors(HEIGHT, WIDTH, images.images.device)  # computed once per training
        with CopiesThatWait() as copies:
            anchor_keys, region_keys = student.draw_sampling_keys(images.images, images.targets, generator)
            loss = training_loss(
                student,
                teacher,
                objective,
                images,
                anchor_keys=anchor_keys,
                region_keys=region_keys,
                sampling=SAMPLING,
            )
    assert loss.total.device.type == "cuda"
    assert copies.places == set()


def test_total_is_sum_of_all_parts() -> None:
    loss = step(build(STUDENT, 0), build_teacher(), ALL_STAGES, make_batch())
    assert set(loss.detection) == {"rpn_objectness", "rpn_box", "roi_classification", "roi_box"}
    assert set(loss.distillation) == {
        "distill_pyramid",
        "distill_region",
        "distill_embedding",
        "distill_logits",
        "distill_box_deltas",
    }
    parts = {name: part.item() for name, part in loss.parts.items()}
    total = parts.pop("loss_total")
    assert set(parts) == set(loss.detection) | set(loss.distillation)
    assert total == pytest.approx(sum(parts.values()), rel=1e-6)
    assert total == loss.total.item()


def test_detection_losses_do_not_depend_on_teacher() -> None:
    batch = make_batch()
    alone = step(build(STUDENT, 0), None, None, batch)
    taught = step(build(STUDENT, 0), build_teacher(), ALL_STAGES, batch)
    assert alone.distillation == {}
    for name, part in alone.detection.items():
        assert torch.equal(part, taught.detection[name]), name


def test_forwards_run_in_bf16_and_losses_in_fp32() -> None:
    student, teacher, batch = build(STUDENT, 0), build_teacher(), make_batch()
    exact = step(student, teacher, ALL_STAGES, batch)
    rough = step(student, teacher, ALL_STAGES, batch, torch.bfloat16)
    for name, part in rough.parts.items():
        assert part.dtype == torch.float32, name
        assert not torch.equal(part, exact.parts[name]), f"{name}: the forwards were not in bf16"
        # A mean of many terms that was computed in fp32 has more digits than bf16 can hold.
        assert not torch.equal(part.bfloat16().float(), part), f"{name}: computed in bf16"
    for name, part in rough.detection.items():
        # bf16 rounds to 2^-9 = 0.2 %, an operation; some 30 layers deep.
        assert part.item() == pytest.approx(exact.parts[name].item(), rel=0.05), name


def test_gradients_reach_student_and_adapters_but_not_teacher() -> None:
    student, batch = build(STUDENT, 0), make_batch()
    teacher = build(TEACHER_SHAPE, 1).eval()  # not frozen: no gradient may reach it all the same
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    objective = build_objective(ALL_STAGES, STUDENT, TEACHER_SHAPE, 3)
    anchor_keys, region_keys = student.draw_sampling_keys(batch.images, batch.targets, None)
    loss = training_loss(
        student, teacher, objective, batch, anchor_keys=anchor_keys, region_keys=region_keys, sampling=SAMPLING
    )
    torch.autograd.backward(loss.total)
    assert all(parameter.grad is None for parameter in teacher.parameters())
    for name, tensor in teacher.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert all(parameter.grad is not None for parameter in student.parameters())
    assert all(parameter.grad is not None for parameter in objective.parameters())


def test_only_teacher_outputs_of_objective_are_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    pyramid_alone = DistillationConfig(region=FeatureStageConfig(weight=0.0), logits=LogitStageConfig(weight=0.0))
    teacher = build_teacher()

    original = teacher.forward_pyramid
    graphs: list[bool] = []

    def count(*args: Any) -> dict[str, Tensor]:
        graphs.append(torch.is_grad_enabled())
        return original(*args)

    def refuse(*_: Any) -> None:
        raise AssertionError("the teacher's box head was computed")

    monkeypatch.setattr(teacher, "forward_pyramid", count)
    monkeypatch.setattr(teacher, "forward_regions", refuse)
    loss = step(build(STUDENT, 0), teacher, pyramid_alone, make_batch())
    assert set(loss.distillation) == {"distill_pyramid"}
    assert graphs == [False], "the teacher's forward kept a graph"


def test_given_pyramid_replaces_forward_of_teacher(monkeypatch: pytest.MonkeyPatch) -> None:
    student, teacher, batch = build(STUDENT, 0), build_teacher(), make_batch()
    objective = build_objective(ALL_STAGES, STUDENT, TEACHER_SHAPE, 3)
    keys = student.draw_sampling_keys(batch.images, batch.targets, torch.Generator().manual_seed(1))

    def loss(pyramid: dict[str, Tensor] | None) -> StepLoss:
        return training_loss(
            student,
            teacher,
            objective,
            batch,
            anchor_keys=keys[0],
            region_keys=keys[1],
            sampling=SAMPLING,
            autocast_dtype=torch.bfloat16,
            teacher_pyramid=pyramid,
        )

    expected = loss(None)
    pyramid = forward_teacher_pyramid(teacher, batch, torch.bfloat16)
    assert not any(level.requires_grad for level in pyramid.values())
    assert {level.dtype for level in pyramid.values()} == {torch.bfloat16}

    def refuse(*_: Any) -> None:
        raise AssertionError("the teacher computed its pyramid")

    monkeypatch.setattr(teacher, "forward_pyramid", refuse)
    given = loss(pyramid)
    assert given.parts.keys() == expected.parts.keys()
    for name, part in expected.parts.items():
        assert torch.equal(given.parts[name], part), name


def test_gradient_ratios_are_ratios_of_norms_and_change_no_gradient() -> None:
    student, teacher, batch = build(STUDENT, 0), build_teacher(), make_batch()

    def norm_at_backbone(name: str | None) -> float:
        """Norm of the gradient of one level (or of all detection losses), by plain backward passes."""
        student.zero_grad()
        loss = step(student, teacher, ALL_STAGES, batch)
        part = loss.distillation[name] if name else torch.stack(list(loss.detection.values())).sum()
        torch.autograd.backward(part)
        squares = [p.grad.square().sum() for p in student.backbone.parameters() if p.grad is not None]
        return float(torch.stack(squares).sum().sqrt())

    expected = {
        "gradient_ratio_" + name: norm_at_backbone("distill_" + name) / norm_at_backbone(None)
        for name in ("pyramid", "region", "embedding", "logits", "box_deltas")
    }
    student.zero_grad()
    loss = step(student, teacher, ALL_STAGES, batch)
    ratios = gradient_ratios(student, loss)
    assert {name: float(ratio) for name, ratio in ratios.items()} == pytest.approx(expected, rel=1e-4)
    assert all(parameter.grad is None for parameter in student.parameters())
    torch.autograd.backward(loss.total)
    gradients = [parameter.grad for parameter in student.parameters()]
    student.zero_grad()
    torch.autograd.backward(step(student, teacher, ALL_STAGES, batch).total)
    for parameter, gradient in zip(student.parameters(), gradients, strict=True):
        assert parameter.grad is not None
        assert gradient is not None
        assert torch.equal(parameter.grad, gradient)
