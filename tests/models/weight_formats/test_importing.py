"""Weights of torchvision and mmdetection are brought to our names without a change of value."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.models import resnet18
from torchvision.models.detection import (
    fasterrcnn_mobilenet_v3_large_fpn,
    fasterrcnn_resnet50_fpn_v2,
    keypointrcnn_resnet50_fpn,
    maskrcnn_resnet50_fpn,
    retinanet_resnet50_fpn,
)
from torchvision.ops import FeaturePyramidNetwork, FrozenBatchNorm2d

from hkd.models.build import build_detector
from hkd.models.weight_formats import torchvision_names
from hkd.models.weight_formats.errors import CheckpointError
from hkd.models.weight_formats.importing import import_weights
from hkd.models.weight_formats.other_detectors import recognised_as
from hkd.models.weights import load_first_weights, load_weights
from tests.models.weight_formats.torchvision_files import old_names
from tests.training.tiny import STUDENT, build

FILE = Path("a.pth")


@pytest.fixture
def ours() -> dict[str, Tensor]:
    return dict(build(STUDENT, 0).state_dict())


@pytest.fixture(autouse=True)
def _no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchvision_names, "is_trained_without_epsilon", lambda _path: False)


def mmdetection(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """mmdetection's names (README of its Faster R-CNN), background last and without deltas."""
    named = {}
    for name, tensor in tensors.items():
        new = name.replace("backbone.body.", "backbone.")
        for index in range(4):
            new = new.replace(f"backbone.fpn.inner_blocks.{index}.0.", f"neck.lateral_convs.{index}.conv.")
            new = new.replace(f"backbone.fpn.layer_blocks.{index}.0.", f"neck.fpn_convs.{index}.conv.")
        for theirs, mine in {
            "rpn_head.rpn_conv": "rpn.head.conv.0.0",
            "rpn_head.rpn_cls": "rpn.head.cls_logits",
            "rpn_head.rpn_reg": "rpn.head.bbox_pred",
            "roi_head.bbox_head.shared_fcs.0": "roi_heads.box_head.fc6",
            "roi_head.bbox_head.shared_fcs.1": "roi_heads.box_head.fc7",
            "roi_head.bbox_head.fc_cls": "roi_heads.box_predictor.cls_score",
            "roi_head.bbox_head.fc_reg": "roi_heads.box_predictor.bbox_pred",
        }.items():
            new = new.replace(mine, theirs)
        if "fc_cls" in new:
            tensor = torch.cat([tensor[1:], tensor[:1]])
        if "fc_reg" in new:
            tensor = tensor[4:]
        named[new] = tensor
    return named


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


def test_old_names_become_present_ones(ours: dict[str, Tensor]) -> None:
    old = old_names(ours)
    assert "backbone.fpn.layer_blocks.2.bias" in old
    # torchvision's own pyramid accepts these names, so they are what old files have.
    pyramid = FeaturePyramidNetwork([8, 16, 32, 64], 8)
    prefix = "backbone.fpn."
    pyramid.load_state_dict({name[len(prefix) :]: t for name, t in old.items() if name.startswith(prefix)})
    assert_equal(import_weights(old, FILE).tensors, ours)
    assert_equal(import_weights({"model": old}, FILE).tensors, ours)


def test_names_of_present_files_are_kept(ours: dict[str, Tensor]) -> None:
    weights = import_weights(ours, FILE)
    assert_equal(weights.tensors, ours)
    assert (weights.notes, weights.is_classifier, weights.person_class) == ((), False, None)


@pytest.mark.parametrize("build_torchvision", [maskrcnn_resnet50_fpn, keypointrcnn_resnet50_fpn])
def test_mask_and_keypoint_heads_are_left_out_and_counted(build_torchvision: Any) -> None:
    with torch.device("meta"):
        names = list(build_torchvision(weights=None, weights_backbone=None).state_dict())
    tensors = dict.fromkeys(names, torch.zeros(1))
    weights = import_weights(tensors, FILE)
    others = [name for name in tensors if "mask" in name or "keypoint" in name]
    assert len(others) > 5
    assert set(weights.tensors) == set(tensors) - set(others)
    assert f"{len(others)} tensors of mask or keypoint heads" in weights.notes[0]


def test_classifier_becomes_backbone() -> None:
    tensors = resnet18(weights=None).state_dict()
    weights = import_weights(tensors, FILE)
    assert weights.is_classifier
    expected = {f"backbone.body.{name}": t for name, t in tensors.items() if name not in ("fc.weight", "fc.bias")}
    assert_equal(weights.tensors, expected)


def test_norms_trained_without_epsilon_compute_the_same(
    monkeypatch: pytest.MonkeyPatch, ours: dict[str, Tensor]
) -> None:
    monkeypatch.setattr(torchvision_names, "is_trained_without_epsilon", lambda _path: True)
    generator = torch.Generator().manual_seed(0)
    before = {name: torch.rand(tensor.shape, generator=generator) for name, tensor in ours.items()}
    before["backbone.body.bn1.running_var"][0] = 1e-6  # where epsilon matters: sqrt(1e-6 / 1.1e-5) = 0.30
    after = import_weights(before, FILE).tensors
    channels = len(before["backbone.body.bn1.weight"])
    outputs = []
    for tensors, epsilon in ((before, 0.0), (after, 1e-5)):
        norm = FrozenBatchNorm2d(channels, eps=epsilon)
        norm.load_state_dict({kind: tensors[f"backbone.body.bn1.{kind}"] for kind in norm.state_dict()})
        outputs.append(norm(torch.rand(2, channels, 3, 3, generator=torch.Generator().manual_seed(1))))
    torch.testing.assert_close(outputs[1], outputs[0])
    assert torch.equal(after["rpn.head.conv.0.0.weight"], before["rpn.head.conv.0.0.weight"])


def test_file_without_epsilon_is_recognised_by_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    (tmp_path / "a.pth").write_bytes(b"abc")
    assert not torchvision_names.is_trained_without_epsilon(tmp_path / "a.pth")
    # SHA-256 of "abc" (FIPS 180-4, example 1).
    monkeypatch.setattr(torchvision_names, "_hash_in_url", lambda _url: "ba7816bf")
    assert torchvision_names.is_trained_without_epsilon(tmp_path / "a.pth")


def test_hash_is_part_of_url() -> None:
    assert torchvision_names._hash_in_url("https://x/fasterrcnn_resnet50_fpn_coco-258fb6c6.pth") == "258fb6c6"


def test_mmdetection_is_converted_with_background_first(ours: dict[str, Tensor]) -> None:
    ours["roi_heads.box_predictor.bbox_pred.weight"][:4] = 0  # mmdetection has no deltas of the background
    ours["roi_heads.box_predictor.bbox_pred.bias"][:4] = 0
    weights = import_weights({"meta": {"CLASSES": ("person",)}, "state_dict": mmdetection(ours)}, FILE)
    assert_equal(weights.tensors, ours)
    assert weights.person_class == 1
    assert "aligned=True" in weights.notes[0]
    assert "states no configuration" in weights.notes[1]


@pytest.mark.parametrize(
    ("meta", "row"),
    [
        ({"CLASSES": ("car", "person", "bus")}, 2),
        ({"dataset_meta": {"classes": ("car", "bus", "Pedestrian")}}, 3),  # version 3
        ({"CLASSES": ("person", "pedestrian", "car")}, None),
        ({"CLASSES": ("person",)}, None),  # not the classes of this predictor
        ({}, None),
    ],
)
def test_mmdetection_states_row_of_person(meta: dict[str, Any], row: int | None) -> None:
    tensors = build_detector(STUDENT, num_classes=4).state_dict()
    weights = import_weights({"meta": meta, "state_dict": mmdetection(dict(tensors))}, FILE)
    assert weights.person_class == row


def test_class_agnostic_deltas_of_mmdetection_are_those_of_every_class() -> None:
    theirs = mmdetection(dict(build_detector(STUDENT, num_classes=4).state_dict()))
    shared = theirs["roi_head.bbox_head.fc_reg.bias"][:4].clone()
    for kind in ("weight", "bias"):
        theirs[f"roi_head.bbox_head.fc_reg.{kind}"] = theirs[f"roi_head.bbox_head.fc_reg.{kind}"][:4]
    deltas = import_weights({"state_dict": theirs}, FILE).tensors["roi_heads.box_predictor.bbox_pred.bias"]
    assert torch.equal(deltas.view(4, 4)[1:], shared.expand(3, 4))


def test_deltas_of_background_mean_that_it_is_first(ours: dict[str, Tensor]) -> None:
    theirs = mmdetection(ours)
    for kind in ("weight", "bias"):
        theirs[f"roi_head.bbox_head.fc_cls.{kind}"] = ours[f"roi_heads.box_predictor.cls_score.{kind}"]
        theirs[f"roi_head.bbox_head.fc_reg.{kind}"] = ours[f"roi_heads.box_predictor.bbox_pred.{kind}"]
    assert_equal(import_weights({"state_dict": theirs}, FILE).tensors, ours)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"meta": {"config": "backbone=dict(type='ResNet', depth=50, style='caffe')"}}, "style caffe"),
        ({"meta": {"cfg": "img_norm_cfg = dict(mean=[1], std=[1], to_rgb=False)"}}, "BGR"),
    ],
)
def test_mmdetection_that_cannot_be_represented_is_refused(
    ours: dict[str, Tensor], changed: dict[str, Any], message: str
) -> None:
    with pytest.raises(CheckpointError, match=message):
        import_weights({"state_dict": mmdetection(ours), **changed}, FILE)


def test_mmdetection_1_is_refused_with_its_converter(ours: dict[str, Tensor]) -> None:
    old = {name.removeprefix("roi_head."): tensor for name, tensor in mmdetection(ours).items()}
    with pytest.raises(CheckpointError, match="upgrade_model_version"):
        import_weights({"state_dict": old}, FILE)


def test_mmdetection_with_other_number_of_deltas_is_refused(ours: dict[str, Tensor]) -> None:
    theirs = mmdetection(ours)
    theirs["roi_head.bbox_head.fc_reg.bias"] = torch.zeros(12)
    with pytest.raises(CheckpointError, match=r"fc_reg\.bias has 12 rows, for 2 of fc_cls; allowed: 4"):
        import_weights(theirs, FILE)


@pytest.mark.parametrize(
    ("build_torchvision", "name"),
    [
        (fasterrcnn_resnet50_fpn_v2, "fasterrcnn_resnet50_fpn_v2"),
        (fasterrcnn_mobilenet_v3_large_fpn, "MobileNet"),
        (retinanet_resnet50_fpn, "RetinaNet"),
    ],
)
def test_other_detectors_are_recognised(build_torchvision: Any, name: str) -> None:
    with torch.device("meta"):
        tensors = build_torchvision(weights=None, weights_backbone=None).state_dict()
    assert name in (recognised_as(tensors) or "")


@pytest.mark.parametrize(
    ("parameter", "name"),
    [
        ("backbone.bottom_up.res2.0.conv1.weight", "detectron2"),
        ("module.proposal_generator.rpn_head.conv.weight", "detectron2"),
        ("roi_head.bbox_head.2.fc_cls.weight", "Cascade"),
        ("model.0.conv.weight", "YOLO"),
        ("transformer.encoder.layers.0.linear1.weight", "DETR"),
    ],
)
def test_other_networks_are_recognised_by_their_names(parameter: str, name: str) -> None:
    assert name in (recognised_as([parameter]) or "")


def test_our_detector_is_not_recognised_as_another(ours: dict[str, Tensor]) -> None:
    assert recognised_as(ours) is None


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (torch.zeros(1).expand(10**12), "states more numbers than are stored"),
        (torch.zeros(2, 2).to_sparse(), "is sparse"),
        (torch.zeros(2, device="meta"), "without values"),
    ],
)
@pytest.mark.parametrize("name", ["roi_head.bbox_head.fc_cls.weight", "roi_head.bbox_head.fc_reg.bias"])
def test_tensors_that_cannot_be_reordered_are_refused(
    ours: dict[str, Tensor], name: str, tensor: Tensor, message: str
) -> None:
    with pytest.raises(CheckpointError, match=message):
        import_weights({"state_dict": {**mmdetection(ours), name: tensor}}, FILE)


@pytest.mark.parametrize("shape", [(), (0,), (0, 16), (3,), (2, 0)])
@pytest.mark.parametrize("kind", ["weight", "bias"])
@pytest.mark.parametrize("layer", ["fc_cls", "fc_reg"])
def test_class_predictor_of_any_shape_is_refused_without_traceback(
    ours: dict[str, Tensor], layer: str, kind: str, shape: tuple[int, ...], tmp_path: Path
) -> None:
    torch.save({**mmdetection(ours), f"roi_head.bbox_head.{layer}.{kind}": torch.zeros(shape)}, tmp_path / "a.pth")
    for load in (load_weights, load_first_weights):
        with pytest.raises(CheckpointError):
            load(build(STUDENT, 0), tmp_path / "a.pth", person_class=1)
