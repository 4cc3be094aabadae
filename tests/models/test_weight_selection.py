"""Weights selected from a larger network: copies at equal width, the right channels, and errors."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hkd.models.build import build_detector
from hkd.models.detector import Detector
from hkd.models.weight_formats.errors import CheckpointError
from hkd.models.weight_selection import select_weights
from hkd.structures import evenly_spaced
from tests.models.widening import doubled, state_with_statistics
from tests.training.tiny import STUDENT, build, make_batch

NARROW = STUDENT.model_copy(update={"width_multiplier": 0.25, "pyramid_channels": 8, "head_channels": 16})
WIDE = STUDENT.model_copy(update={"width_multiplier": 0.5, "pyramid_channels": 16, "head_channels": 32})


def test_indices_are_evenly_spaced() -> None:
    # floor(k * 8 / 3) for k = 0, 1, 2.
    assert evenly_spaced(3, 8).tolist() == [0, 2, 5]
    assert evenly_spaced(4, 4).tolist() == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="5 of 4"):
        evenly_spaced(5, 4)


def test_equal_network_is_copied() -> None:
    source = state_with_statistics(WIDE, 1)
    selected = select_weights(source, state_with_statistics(WIDE, 2), norm_is_frozen=False, name="the teacher")
    assert selected.left == ()
    for name, tensor in source.items():
        assert torch.equal(selected.tensors[name], tensor), name


@pytest.mark.parametrize("backbone", ["resnet18", "resnet50"])
def test_detector_selected_from_itself_gives_its_own_answers(backbone: str) -> None:
    config = WIDE.model_copy(update={"backbone": backbone})
    source, student = build(config, 1), build(config, 2)
    source.load_state_dict(state_with_statistics(config, 1))
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


@pytest.mark.parametrize("backbone", ["resnet18", "resnet50"])
def test_channels_of_doubled_network_give_the_network_back(backbone: str) -> None:
    # Frozen norms keep their statistics, so that every layer needs the ratio of its inputs.
    narrow_config, wide_config = (
        config.model_copy(update={"backbone": backbone, "norm": "frozen_batch"}) for config in (NARROW, WIDE)
    )
    narrow, target = state_with_statistics(narrow_config, 3), state_with_statistics(narrow_config, 4)
    wide = doubled(narrow, state_with_statistics(wide_config))
    selected = select_weights(wide, target, norm_is_frozen=True, name="the teacher")
    assert selected.left == ()
    for name, tensor in narrow.items():
        # Halving and doubling are exact.
        assert torch.equal(selected.tensors[name], tensor), name


def test_layers_before_a_norm_keep_their_scale() -> None:
    wide = state_with_statistics(WIDE)
    tensors = select_weights(wide, state_with_statistics(NARROW), norm_is_frozen=False, name="the teacher").tensors
    name = "backbone.body.layer2.0.conv1.weight"  # (32, 16) of (64, 32) channels
    assert torch.equal(tensors[name], wide[name][::2, ::2])
    name = "backbone.fpn.layer_blocks.0.0.weight"  # (8, 8) of (16, 16) channels, without a norm
    assert torch.equal(tensors[name], 2 * wide[name][::2, ::2])
    for part in ("weight", "bias", "running_mean", "running_var"):
        name = f"backbone.body.layer2.0.bn1.{part}"
        assert torch.equal(tensors[name], wide[name][::2])


def test_first_blocks_of_deeper_network_are_selected() -> None:
    deeper = state_with_statistics(WIDE.model_copy(update={"backbone": "resnet34"}))
    selected = select_weights(deeper, state_with_statistics(NARROW), norm_is_frozen=False, name="the teacher")
    assert selected.left == ()
    name = "backbone.body.layer3.1.conv2.weight"
    assert torch.equal(selected.tensors[name], deeper[name][::2, ::2])


def test_backbone_of_other_blocks_is_left() -> None:
    bottlenecks = state_with_statistics(WIDE.model_copy(update={"backbone": "resnet50"}))
    target = state_with_statistics(NARROW)
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
    tensors = select_weights(coco, state_with_statistics(NARROW), norm_is_frozen=False, name="coco.pth").tensors
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
    source = state_with_statistics(NARROW.model_copy(update=changes))
    with pytest.raises(CheckpointError, match=f"^teacher.pth: .*{name} is .*width_multiplier"):
        select_weights(source, state_with_statistics(NARROW), norm_is_frozen=False, name="teacher.pth")
