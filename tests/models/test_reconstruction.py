"""Layers fitted to a larger network's outputs: exact where that is possible, closer otherwise, and equal left alone."""

from __future__ import annotations

import copy
from dataclasses import asdict, replace

import pytest
import torch
from torch import Tensor, nn

from hkd.config import DetectorConfig
from hkd.models import reconstruction
from hkd.models.build import build_detector
from hkd.models.detector import Detector
from hkd.models.reconstruction import LayerFit, reconstruct
from hkd.models.weight_selection import select_weights
from hkd.structures import Batch
from tests.models.widening import doubled
from tests.training.tiny import SAMPLING, STUDENT, build, make_batch

NARROW = STUDENT.model_copy(update={"width_multiplier": 0.25})
WIDE = STUDENT.model_copy(update={"width_multiplier": 0.5, "pyramid_channels": 16, "head_channels": 32})
BATCHES = [make_batch(seed) for seed in range(5)]


def _detector(config: DetectorConfig, seed: int) -> Detector:
    """A random detector whose norms have the statistics of the batches."""
    measured = build(config.model_copy(update={"norm": "batch"}), seed)
    for module in measured.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0  # the statistics of the last forward pass
    with torch.no_grad():
        measured.forward_pyramid(
            torch.cat([batch.images for batch in BATCHES]), torch.cat([batch.valid_sizes for batch in BATCHES])
        )
    detector = build_detector(config)
    detector.load_state_dict(measured.state_dict(), strict=config.norm == "batch")
    return detector.eval()


def _selected(config: DetectorConfig, teacher: Detector) -> Detector:
    student = build(config, 5).eval()
    frozen = config.norm == "frozen_batch"
    selected = select_weights(teacher.state_dict(), student.state_dict(), norm_is_frozen=frozen, name="the teacher")
    student.load_state_dict(selected.tensors, strict=False)
    return student


def _fit(student: Detector, teacher: Detector, *, with_body: bool = True) -> list[LayerFit]:
    return reconstruct(student, teacher, BATCHES, sampling=asdict(SAMPLING), with_body=with_body, seed=0)


def _unlike_twins(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A doubled network that computes the same, in which the weights of two equal inputs differ."""
    generator = torch.Generator().manual_seed(1)
    changed = {}
    for name, tensor in state.items():
        changed[name] = tensor
        if tensor.dim() > 1 and tensor.shape[1] % 2 == 0:
            cells = 49 if name == "roi_heads.box_head.fc6.weight" else 1
            pairs = tensor.reshape(len(tensor), -1, 2, cells, *tensor.shape[2:])
            moved = torch.rand(pairs[:, :, 0].shape, generator=generator) * pairs[:, :, 0]
            changed[name] = torch.stack([pairs[:, :, 0] - moved, pairs[:, :, 1] + moved], dim=2).view_as(tensor)
    return changed


@pytest.mark.parametrize(
    ("backbone", "norm"), [("resnet18", "batch"), ("resnet18", "frozen_batch"), ("resnet50", "batch")]
)
def test_network_within_a_network_is_found(backbone: str, norm: str) -> None:
    # Every channel of the teacher exists twice, so that a student of half the width can compute the same. The selected
    # weights do not, as they lack the other twin's share; least squares gives it to the twin that is left.
    narrow, wide = (config.model_copy(update={"backbone": backbone, "norm": norm}) for config in (NARROW, WIDE))
    original = _detector(narrow, 3)
    teacher = build_detector(wide).eval()
    teacher.load_state_dict(_unlike_twins(doubled(original.state_dict(), teacher.state_dict())))
    student = _selected(narrow, teacher)
    batch = BATCHES[0]

    def pyramid(detector: Detector) -> Tensor:
        with torch.no_grad():
            return detector.forward_pyramid(batch.images, batch.valid_sizes)["p3"]

    # Features of about 2, after up to 53 layers in fp32.
    torch.testing.assert_close(pyramid(teacher)[:, ::2], pyramid(original), rtol=1e-3, atol=2e-3)
    error = (pyramid(student) - pyramid(original)).abs().mean()
    fits = _fit(student, teacher)
    # Ridges keep a small part of the first weights.
    assert (pyramid(student) - pyramid(original)).abs().mean() < 0.2 * error
    assert all(fit.after > fit.before or fit.before > 0.99 for fit in fits), fits
    # Layers 3 and 4 have fewer rows (24 and 6 cells of 10 images) than inputs, which do not determine all weights.
    exact = [fit for fit in fits if fit.name.startswith(("backbone.body.layer1", "backbone.body.layer2"))]
    assert all(fit.after > 0.95 for fit in exact), exact


def test_every_layer_follows_the_teacher_more_closely() -> None:
    teacher = _detector(WIDE, 1)
    student = _selected(NARROW, teacher)
    before = copy.deepcopy(student.state_dict())
    fits = _fit(student, teacher)
    names = {name.removesuffix(".weight") for name, tensor in before.items() if tensor.dim() > 1}
    assert {fit.name for fit in fits} == {name.replace("rpn.head.conv.0.0", "rpn.head.conv") for name in names}
    assert all(fit.before <= fit.after <= 1.0 for fit in fits), fits
    after = student.state_dict()
    name = "backbone.body.layer3.0.conv1.weight"
    assert not torch.equal(after[name], before[name])


def test_norm_has_the_statistics_of_its_layer_and_the_teachers_scale() -> None:
    teacher = _detector(WIDE, 1)
    student = _selected(NARROW, teacher)
    _fit(student, teacher)
    maps: list[Tensor] = []
    norm, teacher_norm = student.backbone.body.layer3[0].bn1, teacher.backbone.body.layer3[0].bn1
    norm.register_forward_hook(lambda _module, inputs, _output: maps.append(inputs[0].clone()))
    with torch.no_grad():
        for batch in BATCHES:
            student.forward_pyramid(batch.images, batch.valid_sizes)
    inputs = torch.cat(maps).transpose(0, 1).flatten(1)
    # All 24 cells of all 10 images are among the 24,000 rows of the fit.
    torch.testing.assert_close(norm.running_mean, inputs.mean(dim=1), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(norm.running_var, inputs.var(dim=1, unbiased=False), rtol=1e-3, atol=1e-5)
    assert torch.equal(norm.weight, teacher_norm.weight[::2])
    assert torch.equal(norm.bias, teacher_norm.bias[::2])


def test_channel_that_is_not_explained_is_not_amplified_without_bound() -> None:
    teacher = _detector(WIDE, 1)
    # Dead channels: the inputs of the next layer are constant, so that nothing of its outputs is explained.
    with torch.no_grad():
        teacher.backbone.body.bn1.weight.zero_()
        teacher.backbone.body.bn1.bias.fill_(-1.0)
    student = _selected(NARROW, teacher)
    variances = student.backbone.body.layer1[0].bn1.running_var.clone()
    _fit(student, teacher)
    torch.testing.assert_close(student.backbone.body.layer1[0].bn1.running_var, 0.01 * variances)
    assert all(parameter.isfinite().all() for parameter in student.parameters())


def test_teacher_runs_once_on_each_batch() -> None:
    teacher = _detector(WIDE, 1)
    seen: list[Tensor] = []
    teacher.backbone.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    _fit(_selected(NARROW, teacher), teacher)
    assert len(seen) == len(BATCHES)


def test_ridge_of_the_rpn_is_chosen_by_halves_of_the_images(monkeypatch: pytest.MonkeyPatch) -> None:
    # One batch of two images, of which the second differs: so does the second half of the rows, and it alone.
    teacher = _detector(WIDE, 1)
    rows: list[Tensor] = []

    def keep(name: str, layer: nn.Conv2d, inputs: Tensor, outputs: Tensor) -> LayerFit:
        rows.append(torch.cat([inputs, outputs], dim=1))
        return LayerFit(name, 0.0, 0.0)

    monkeypatch.setattr(reconstruction, "_fit_rows", keep)
    first, second = BATCHES[0].images.clone(), BATCHES[0].images.clone()
    second[1] = 1 - second[1]
    for images in (first, second):
        batch = replace(BATCHES[0], images=images)
        with torch.no_grad():
            pyramids = [teacher.forward_pyramid(batch.images, batch.valid_sizes)]
            generator = torch.Generator().manual_seed(0)
            student = _selected(NARROW, teacher)
            reconstruction._fit_rpn(student, teacher, [batch], pyramids, generator, with_outputs=False)
    half = len(rows[0]) // 2
    assert torch.equal(rows[0][:half], rows[1][:half])
    assert not torch.equal(rows[0][half:], rows[1][half:])


def test_equal_network_is_left_as_it_is() -> None:
    teacher = _detector(WIDE, 1)
    student = copy.deepcopy(teacher)
    fits = _fit(student, teacher)
    assert all(fit.before == fit.after for fit in fits)
    for name, tensor in teacher.state_dict().items():
        assert torch.equal(student.state_dict()[name], tensor), name


def test_student_of_fewer_classes_is_fitted_to_the_first_ones() -> None:
    # Equal but for the class predictor, of which the first two of five classes are selected: nothing is left to fit.
    # Evenly spaced ones would be the first and the third.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        teacher = build_detector(WIDE, num_classes=5).eval()
    student = _selected(WIDE, teacher)
    fits = {fit.name: fit for fit in _fit(student, teacher)}
    for layer, rows in (("cls_score", 2), ("bbox_pred", 8)):
        fit = fits[f"roi_heads.box_predictor.{layer}"]
        assert fit.before == fit.after == pytest.approx(1.0)
        weights = [getattr(each.roi_heads.box_predictor, layer).weight for each in (student, teacher)]
        assert torch.equal(weights[0], weights[1][:rows])


def test_body_is_left_on_request() -> None:
    bottlenecks = WIDE.model_copy(update={"backbone": "resnet50"})
    teacher = _detector(bottlenecks, 1)
    student = _selected(NARROW, teacher)
    before = copy.deepcopy(student.state_dict())
    fits = _fit(student, teacher, with_body=False)
    # The convolutions that read the student's own body are fitted, although there was nothing to select.
    assert fits[0].name == "backbone.fpn.inner_blocks.3.0"
    assert fits[0].after > fits[0].before
    for name, tensor in student.state_dict().items():
        if name.startswith("backbone.body."):
            assert torch.equal(tensor, before[name]), name


def test_labels_of_the_images_do_not_change_the_backbone() -> None:
    teacher = _detector(WIDE, 1)
    students = [_selected(NARROW, teacher) for _ in range(2)]
    other_labels = [
        Batch(batch.images, batch.valid_sizes, make_batch(seed + 1).targets) for seed, batch in enumerate(BATCHES)
    ]
    other_labels[0].targets.boxes_xyxy.add_(4.0)
    for student, batches in zip(students, (BATCHES, other_labels), strict=True):
        reconstruct(student, teacher, batches, sampling=asdict(SAMPLING), with_body=True, seed=0)
    for (name, one), other in zip(students[0].state_dict().items(), students[1].state_dict().values(), strict=True):
        if not name.startswith("roi_heads."):
            assert torch.equal(one, other), name
