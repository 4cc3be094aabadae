"""Weights selected from a larger network: copies at equal width, the right channels, and errors."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hkd.config import DetectorConfig
from hkd.models.build import build_detector
from hkd.models.detector import Detector
from hkd.models.weight_formats.errors import CheckpointError
from hkd.models.weight_selection import select_weights
from hkd.structures import evenly_spaced
from tests.training.tiny import STUDENT, build, make_batch

NARROW = STUDENT.model_copy(update={"width_multiplier": 0.25, "pyramid_channels": 8, "head_channels": 16})
WIDE = STUDENT.model_copy(update={"width_multiplier": 0.5, "pyramid_channels": 16, "head_channels": 32})


def _state(config: DetectorConfig, seed: int = 0) -> dict[str, Tensor]:
    state: dict[str, Tensor] = build(config, seed).state_dict()
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in state.items():
        # Initial statistics are all 0 and 1, of which any choice is right.
        if name.endswith(("running_mean", "running_var")):
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    return state


def test_indices_are_evenly_spaced() -> None:
    # floor(k * 8 / 3) for k = 0, 1, 2.
    assert evenly_spaced(3, 8).tolist() == [0, 2, 5]
    assert evenly_spaced(4, 4).tolist() == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="5 of 4"):
        evenly_spaced(5, 4)


def test_equal_network_is_copied() -> None:
    source = _state(WIDE, 1)
    selected = select_weights(source, _state(WIDE, 2), norm_is_frozen=False, name="the teacher")
    assert selected.left == ()
    for name, tensor in source.items():
        assert torch.equal(selected.tensors[name], tensor), name


@pytest.mark.parametrize("backbone", ["resnet18", "resnet50"])
def test_detector_selected_from_itself_gives_its_own_answers(backbone: str) -> None:
    config = WIDE.model_copy(update={"backbone": backbone})
    source, student = build(config, 1), build(config, 2)
    source.load_state_dict(_state(config, 1))
    batch = make_batch()

    def answers(detector: Detector) -> list[Tensor]:
        with torch.no_grad():
            detections = detector.eval().detect(
                batch.images, batch.valid_sizes, score_threshold=0.0, nms_iou=0.5, max_detections=8
            )
            return [*detector.forward_pyramid(batch.images, batch.valid_sizes).values(), *vars(detections).values()]

    expected = answers(source)
    assert not torch.equal(answers(student)[0], expected[0])
    selected = select_weights(source.state_dict(), student.state_dict(), norm_is_frozen=False, name="itself")
    student.load_state_dict(selected.tensors, strict=False)
    for one, other in zip(answers(student), expected, strict=True):
        assert torch.equal(one, other)


def _doubled(narrow: dict[str, Tensor], wide: dict[str, Tensor]) -> dict[str, Tensor]:
    """The narrow network with every channel twice, one beside the other: it computes the same."""
    doubled = {}
    for name, tensor in narrow.items():
        grown = tensor
        for axis in range(min(tensor.dim(), 2)):
            if wide[name].shape[axis] == tensor.shape[axis]:  # image channels, anchors, classes
                continue
            if name == "roi_heads.box_head.fc6.weight" and axis == 1:
                grown = grown.reshape(len(grown), -1, 49).repeat_interleave(2, dim=1).flatten(1)
            else:
                grown = grown.repeat_interleave(2, dim=axis)
            if axis == 1:
                grown = grown / 2  # two equal inputs instead of one
        doubled[name] = grown
    return doubled


@pytest.mark.parametrize("backbone", ["resnet18", "resnet50"])
def test_channels_of_doubled_network_give_the_network_back(backbone: str) -> None:
    # Frozen norms keep their statistics, so that every layer needs the ratio of its inputs.
    narrow_config, wide_config = (
        config.model_copy(update={"backbone": backbone, "norm": "frozen_batch"}) for config in (NARROW, WIDE)
    )
    narrow, target = _state(narrow_config, 3), _state(narrow_config, 4)
    wide = _doubled(narrow, _state(wide_config))
    selected = select_weights(wide, target, norm_is_frozen=True, name="the teacher")
    assert selected.left == ()
    for name, tensor in narrow.items():
        # Halving and doubling are exact.
        assert torch.equal(selected.tensors[name], tensor), name


def test_layers_before_a_norm_keep_their_scale() -> None:
    wide = _state(WIDE)
    tensors = select_weights(wide, _state(NARROW), norm_is_frozen=False, name="the teacher").tensors
    name = "backbone.body.layer2.0.conv1.weight"  # (32, 16) of (64, 32) channels
    assert torch.equal(tensors[name], wide[name][::2, ::2])
    name = "backbone.fpn.layer_blocks.0.0.weight"  # (8, 8) of (16, 16) channels, without a norm
    assert torch.equal(tensors[name], 2 * wide[name][::2, ::2])
    for part in ("weight", "bias", "running_mean", "running_var"):
        name = f"backbone.body.layer2.0.bn1.{part}"
        assert torch.equal(tensors[name], wide[name][::2])


def test_first_blocks_of_deeper_network_are_selected() -> None:
    deeper = _state(WIDE.model_copy(update={"backbone": "resnet34"}))
    selected = select_weights(deeper, _state(NARROW), norm_is_frozen=False, name="the teacher")
    assert selected.left == ()
    name = "backbone.body.layer3.1.conv2.weight"
    assert torch.equal(selected.tensors[name], deeper[name][::2, ::2])


def test_backbone_of_other_blocks_is_left() -> None:
    bottlenecks = _state(WIDE.model_copy(update={"backbone": "resnet50"}))
    target = _state(NARROW)
    selected = select_weights(bottlenecks, target, norm_is_frozen=False, name="the teacher")
    assert selected.tensors.keys() | set(selected.left) == {
        name for name in target if not name.endswith("num_batches_tracked")
    }
    assert all(name.startswith(("backbone.body.", "backbone.fpn.inner_blocks.")) for name in selected.left)
    assert "backbone.fpn.layer_blocks.3.0.weight" in selected.tensors
    assert "roi_heads.box_head.fc6.weight" in selected.tensors


def test_more_classes_give_background_and_person() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        coco = build_detector(WIDE, num_classes=91).state_dict()
    tensors = select_weights(coco, _state(NARROW), norm_is_frozen=False, name="coco.pth").tensors
    name = "roi_heads.box_predictor.cls_score.weight"
    assert torch.equal(tensors[name], 2 * coco[name][:2, ::2])
    name = "roi_heads.box_predictor.bbox_pred.bias"  # four deltas of each class
    assert torch.equal(tensors[name], coco[name][:8])


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"width_multiplier": 0.125}, "backbone.body.conv1.weight"),
        ({"pyramid_channels": 8, "head_channels": 8}, "roi_heads.box_head.fc6.weight"),
        ({"anchor_aspect_ratios": (1.0, 2.0)}, "rpn.head.cls_logits.weight"),
    ],
)
def test_smaller_source_is_refused(changes: dict[str, object], name: str) -> None:
    source = _state(NARROW.model_copy(update=changes))
    with pytest.raises(CheckpointError, match=f"^teacher.pth: .*{name} is .*width_multiplier"):
        select_weights(source, _state(NARROW), norm_is_frozen=False, name="teacher.pth")
