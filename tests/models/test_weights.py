"""Files of weights: round trips, torchvision's files, and files that are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import resnet18

from hkd.models.build import build_detector
from hkd.models.detector import Detector
from hkd.models.weight_formats.errors import CheckpointError
from hkd.models.weights import (
    load_backbone,
    load_detector,
    load_first_weights,
    load_weights,
    read_metadata,
    read_weights,
    save_detector,
)
from tests.training.tiny import STUDENT, TEACHER_SHAPE, build


@pytest.fixture(scope="module")
def detector() -> Detector:
    return build(STUDENT, 0)


@pytest.fixture
def saved(detector: Detector, tmp_path: Path) -> Path:
    path = tmp_path / "detector.safetensors"
    save_detector(path, detector, STUDENT, image_height=64, image_width=96, metrics={"mr2_reasonable": 0.25})
    return path


def weights_of(detector: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in detector.state_dict().items()}


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


def test_detector_round_trip(detector: Detector, saved: Path) -> None:
    loaded, metadata = load_detector(saved)
    assert_same(weights_of(loaded), weights_of(detector))
    assert not loaded.training
    assert metadata == read_metadata(saved)
    assert metadata.config == STUDENT
    assert (metadata.image_height, metadata.image_width) == (64, 96)
    assert metadata.metrics == {"mr2_reasonable": 0.25}


def test_channels_last_weights_round_trip(tmp_path: Path) -> None:
    # safetensors stores memory as it is: a tensor with other strides must be made contiguous first.
    detector = build(STUDENT, 0).to(memory_format=torch.channels_last)
    save_detector(tmp_path / "a.safetensors", detector, STUDENT, image_height=64, image_width=96)
    assert_same(weights_of(load_detector(tmp_path / "a.safetensors")[0]), weights_of(detector))


def test_other_architecture_is_refused_with_names_and_shapes(saved: Path) -> None:
    other = build(TEACHER_SHAPE, 1)
    before = weights_of(other)
    with pytest.raises(CheckpointError) as caught:
        load_weights(other, saved)
    message = str(caught.value)
    assert message.startswith(f"{saved}: holds a detector of another architecture")
    # The first of the pyramid's convolutions: 8 channels out in the file, 16 in the detector.
    assert "backbone.fpn.inner_blocks.0.0.weight is (8, 8, 1, 1) instead of (16, 8, 1, 1)" in message
    assert " more." in message
    assert "Allowed: weights of the same backbone" in message
    assert_same(weights_of(other), before)


def test_missing_and_unexpected_tensors_are_named(detector: Detector, tmp_path: Path) -> None:
    weights = weights_of(detector)
    del weights["rpn.head.cls_logits.bias"]
    weights["rpn.head.extra"] = torch.zeros(2, 3)
    torch.save(weights, tmp_path / "a.pth")
    with pytest.raises(CheckpointError) as caught:
        load_weights(build_detector(STUDENT), tmp_path / "a.pth")
    assert "1 tensors are missing: rpn.head.cls_logits.bias (1)." in str(caught.value)
    assert "1 tensors are unexpected: rpn.head.extra (2, 3)." in str(caught.value)


@pytest.mark.parametrize(("from_norm", "to_norm"), [("batch", "frozen_batch"), ("frozen_batch", "batch")])
def test_weights_load_between_frozen_and_trained_norms(
    tmp_path: Path, from_norm: Literal["batch", "frozen_batch"], to_norm: Literal["batch", "frozen_batch"]
) -> None:
    trained, tuned = (STUDENT.model_copy(update={"norm": norm}) for norm in (from_norm, to_norm))
    source, target = build(trained, 0), build(tuned, 1)
    source.state_dict()["backbone.body.bn1.running_mean"].fill_(0.5)
    save_detector(tmp_path / "a.safetensors", source, trained, image_height=64, image_width=96)
    load_weights(target, tmp_path / "a.safetensors")
    images, sizes = torch.rand(1, 3, 64, 96), torch.tensor([[64.0, 96.0]])
    expected, found = (detector.eval().forward_pyramid(images, sizes) for detector in (source, target))
    for level, features in expected.items():
        torch.testing.assert_close(found[level], features, rtol=1e-4, atol=1e-5, msg=level)


@pytest.mark.parametrize("wrap", [False, True])
def test_class_predictor_of_more_classes_is_cut_to_background_and_person(tmp_path: Path, wrap: bool) -> None:
    # 91 classes, as torchvision's COCO detectors have; person is 1. Four box deltas a class, class by class.
    coco = build_detector(STUDENT, num_classes=91)
    # torchvision's frozen norms count no batches.
    weights = {name: tensor for name, tensor in weights_of(coco).items() if "num_batches_tracked" not in name}
    torch.save({"model": weights} if wrap else weights, tmp_path / "coco.pth")
    ours = build_detector(STUDENT)
    load_first_weights(ours, tmp_path / "coco.pth")
    theirs, loaded = coco.roi_heads.box_predictor, ours.roi_heads.box_predictor
    assert torch.equal(loaded.cls_score.weight, theirs.cls_score.weight[:2])
    assert torch.equal(loaded.cls_score.bias, theirs.cls_score.bias[:2])
    assert torch.equal(loaded.bbox_pred.weight, theirs.bbox_pred.weight[:8])
    assert torch.equal(loaded.bbox_pred.bias, theirs.bbox_pred.bias[:8])
    assert torch.equal(ours.backbone.body.conv1.weight, coco.backbone.body.conv1.weight)


def spread_scores(detector: Detector) -> None:
    """Make class scores differ: those of random weights are all about 1 / K."""
    detector.roi_heads.box_predictor.cls_score.weight.data.mul_(30)


def person_scores(detector: Detector) -> torch.Tensor:
    """Probability of class 1 for eight random regions."""
    features = torch.rand(8, STUDENT.pyramid_channels, 7, 7, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        probabilities: torch.Tensor = detector.roi_heads(features).class_logits.softmax(dim=1)
    return probabilities[:, 1]


def test_trained_detector_of_more_classes_keeps_its_scores_of_people(tmp_path: Path) -> None:
    torch.manual_seed(0)  # with some weights, no region has a score of a person that is far from 0
    coco = build_detector(STUDENT, num_classes=91).eval()
    spread_scores(coco)
    torch.save(weights_of(coco), tmp_path / "coco.pth")
    ours = build_detector(STUDENT).eval()
    (note,) = load_weights(ours, tmp_path / "coco.pth")
    assert "91 classes" in note
    expected = person_scores(coco)
    torch.testing.assert_close(person_scores(ours), expected)
    # The first two rows alone would give others.
    cut = build_detector(STUDENT).eval()
    load_first_weights(cut, tmp_path / "coco.pth")
    assert (person_scores(cut) - expected).abs().max() > 0.1
    # And so does the file that hkd writes of it.
    save_detector(tmp_path / "ours.safetensors", ours, STUDENT, image_height=64, image_width=96)
    torch.testing.assert_close(person_scores(load_detector(tmp_path / "ours.safetensors")[0]), expected)
    images, sizes = torch.rand(1, 3, 64, 96), torch.tensor([[64.0, 96.0]])
    found = ours.detect(images, sizes, score_threshold=0.0, nms_iou=0.5, max_detections=8)
    assert set(found.labels[found.valid].tolist()) == {1}


def test_row_of_person_is_set_for_unknown_classes_and_ignored_for_our_files(tmp_path: Path) -> None:
    other = build_detector(STUDENT, num_classes=4).eval()
    spread_scores(other)
    torch.save(weights_of(other), tmp_path / "other.pth")
    ours = build_detector(STUDENT).eval()
    with pytest.raises(CheckpointError, match=r"scores 4 classes.*teacher\.person_class"):
        load_weights(ours, tmp_path / "other.pth")
    load_weights(ours, tmp_path / "other.pth", person_class=3)
    features = torch.rand(8, STUDENT.pyramid_channels, 7, 7, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = other.roi_heads(features).class_logits.softmax(dim=1)[:, 3]
    torch.testing.assert_close(person_scores(ours), expected)
    save_detector(tmp_path / "ours.safetensors", ours, STUDENT, image_height=64, image_width=96)
    again = build_detector(STUDENT).eval()
    load_weights(again, tmp_path / "ours.safetensors", person_class=3)
    torch.testing.assert_close(person_scores(again), expected)


def test_classifier_initialises_backbone_and_is_no_trained_detector(tmp_path: Path) -> None:
    config = STUDENT.model_copy(update={"width_multiplier": 1.0})
    classifier = resnet18(weights=None)
    torch.save({"state_dict": {f"module.{n}": t for n, t in classifier.state_dict().items()}}, tmp_path / "a.pth")
    ours = build(config, 0)
    before = weights_of(ours)
    with pytest.raises(CheckpointError, match=r"a\.pth: holds a classification ResNet.*teacher\.init_from"):
        load_weights(ours, tmp_path / "a.pth")
    (note,) = load_first_weights(ours, tmp_path / "a.pth")
    # What stays random is listed.
    assert "random: backbone.fpn, roi_heads.box_head, roi_heads.box_predictor, rpn.head" in note
    after = weights_of(ours)
    assert torch.equal(after["backbone.body.layer4.1.conv2.weight"], classifier.layer4[1].conv2.weight)
    assert_same(
        {name: tensor for name, tensor in after.items() if not name.startswith("backbone.body.")},
        {name: tensor for name, tensor in before.items() if not name.startswith("backbone.body.")},
    )
    # A narrower backbone takes evenly spaced channels: one in eight.
    narrow = build_detector(STUDENT)
    load_first_weights(narrow, tmp_path / "a.pth")
    selected = weights_of(narrow)["backbone.body.layer1.0.bn1.weight"]
    assert torch.equal(selected, classifier.layer1[0].bn1.weight[::8])
    bottlenecks = build_detector(STUDENT.model_copy(update={"backbone": "resnet50"}))
    with pytest.raises(CheckpointError, match=r"holds a ResNet of another.*same backbone"):
        load_first_weights(bottlenecks, tmp_path / "a.pth")


def test_backbone_alone_is_read_from_classifier_and_not_from_detector(tmp_path: Path) -> None:
    classifier = resnet18(weights=None)
    torch.save(classifier.state_dict(), tmp_path / "a.pth")
    detector = build(STUDENT, 0)
    before = weights_of(detector)
    load_backbone(detector, tmp_path / "a.pth")
    after = weights_of(detector)
    # One channel in eight.
    assert torch.equal(after["backbone.body.layer2.1.bn2.weight"], classifier.layer2[1].bn2.weight[::8])
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert changed
    assert all(name.startswith("backbone.body.") for name in changed)
    torch.save(after, tmp_path / "detector.pth")
    with pytest.raises(CheckpointError, match=r"detector\.pth: holds a detector.*classification ResNet.*init_from"):
        load_backbone(detector, tmp_path / "detector.pth")
    wide = build_detector(STUDENT.model_copy(update={"width_multiplier": 1.5}))
    with pytest.raises(CheckpointError, match=r"a\.pth: .*fewer channels"):
        load_backbone(wide, tmp_path / "a.pth")


def test_refusal_names_recognised_detector(tmp_path: Path) -> None:
    torch.save({"model": {"backbone.bottom_up.stem.conv1.weight": torch.zeros(1)}}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="detectron2"):
        load_weights(build_detector(STUDENT), tmp_path / "a.pth")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.pth", None, "no such file"),
        ("garbage.pth", b"not a checkpoint", "cannot be read|not a file that can be read safely"),
        ("empty.pth", b"", "not a file that can be read safely"),
        ("garbage.safetensors", b"not a checkpoint", "not a readable .safetensors file"),
    ],
)
def test_unreadable_files_are_refused(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=message) as caught:
        read_weights(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


class Payload:
    """Unpickling an object may run any code."""

    def __setstate__(self, state: object) -> None:
        raise AssertionError("the payload was unpickled")


def test_objects_are_not_unpickled(tmp_path: Path) -> None:
    payload = Payload()
    payload.__dict__["x"] = 1  # __setstate__ is called only for an object with state
    torch.save({"weight": torch.zeros(1), "args": payload}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"read safely.*tests\.models\.test_weights\.Payload.*state_dict"):
        read_weights(tmp_path / "a.pth")


@pytest.mark.parametrize("content", [{}, {"model": {}}, {"a": 1}, [torch.zeros(1)], torch.zeros(1)])
def test_files_without_named_tensors_are_refused(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match="holds no state dict"):
        read_weights(tmp_path / "a.pt")


def tampered(**changes: object) -> str:
    """A detector's metadata with parts changed."""
    whole = {
        "format": "hkd.detector.1",
        "config": {},
        "image_height": 64,
        "image_width": 64,
        "hkd_version": "0",
        "metrics": {},
    }
    return json.dumps({**whole, **changes})


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (None, 'no entry "hkd"'),
        ({"hkd": "{"}, "is damaged"),
        ({"hkd": "[]"}, "is damaged"),
        # A value that is not a number, and one that no integer can represent.
        ({"hkd": tampered(image_height="tall")}, "is damaged.*tall"),
        ({"hkd": tampered(image_width=float("inf"))}, "is damaged"),
        ({"hkd": tampered(metrics={"ap": "good"})}, "is damaged.*good"),
        ({"hkd": json.dumps({"format": "hkd.detector.0"})}, 'has format "hkd.detector.0"'),
        ({"hkd": tampered(config={"backbone": "vgg"})}, "is damaged.*backbone"),
    ],
)
def test_invalid_metadata_is_refused(tmp_path: Path, metadata: dict[str, str] | None, message: str) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors", metadata=metadata)
    with pytest.raises(CheckpointError, match=f"(?s){message}"):
        load_detector(tmp_path / "a.safetensors")
