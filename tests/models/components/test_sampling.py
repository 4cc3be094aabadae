from __future__ import annotations

from functools import partial

import pytest
import torch

from hkd.models.components.sampling import match_anchors, match_regions, sample_anchors, sample_regions
from hkd.structures import Regions, Targets


def _targets(boxes: list[list[float]], ignore: list[bool], slots: int = 4) -> Targets:
    padded = torch.zeros(1, slots, 4)
    padded[0, : len(boxes)] = torch.tensor(boxes)
    valid = torch.arange(slots)[None] < len(boxes)
    flags = torch.zeros(1, slots, dtype=torch.bool)
    flags[0, : len(ignore)] = torch.tensor(ignore)
    return Targets(padded, valid, flags)


def test_anchors_match_by_iou_thresholds_or_as_best_anchor() -> None:
    targets = _targets([[0, 0, 10, 20]], [False])
    anchors = torch.tensor(
        [
            [0.0, 0.0, 10.0, 18.0],  # IoU 180 / 200 = 0.9: positive
            [0.0, 0.0, 10.0, 10.0],  # IoU 100 / 200 = 0.5: neither
            [0.0, 0.0, 10.0, 5.0],  # IoU 50 / 200 = 0.25: negative
            [50.0, 50.0, 60.0, 70.0],  # IoU 0: negative
        ]
    )
    matches = match_anchors(anchors, targets)
    assert matches.positive.tolist() == [[True, False, False, False]]
    assert matches.negative.tolist() == [[False, False, True, True]]
    # Without the first, the best overlap is 0.5: that anchor becomes positive all the same.
    assert match_anchors(anchors[1:], targets).positive.tolist() == [[True, False, False]]


def test_anchors_in_ignore_regions_are_neither_positive_nor_negative() -> None:
    targets = _targets([[0, 0, 10, 20], [40, 0, 60, 40]], [False, True])
    anchors = torch.tensor(
        [
            [0.0, 0.0, 10.0, 20.0],  # the pedestrian itself
            [40.0, 0.0, 60.0, 40.0],  # the ignore region itself
            [42.0, 5.0, 50.0, 25.0],  # wholly inside it
            [52.0, 0.0, 68.0, 40.0],  # 8 / 16 of its area inside: still ignored
            [53.0, 0.0, 69.0, 40.0],  # 7 / 16 inside: background
        ]
    )
    matches = match_anchors(anchors, targets)
    assert matches.positive.tolist() == [[True, False, False, False, False]]
    assert matches.negative.tolist() == [[False, False, False, False, True]]


def test_regions_in_ignore_regions_are_neither_positive_nor_negative() -> None:
    targets = _targets([[0, 0, 10, 20], [40, 0, 60, 40]], [False, True])
    boxes = torch.tensor([[[0.0, 0.0, 10.0, 20.0], [40.0, 0.0, 60.0, 40.0], [70.0, 0.0, 80.0, 20.0], [0.0] * 4]])
    valid = torch.tensor([[True, True, True, False]])
    matches = match_regions(boxes, valid, targets)
    assert matches.positive.tolist() == [[True, False, False, False]]
    assert matches.negative.tolist() == [[False, False, True, False]]


def test_image_without_objects_has_only_negatives() -> None:
    targets = _targets([[0, 0, 1, 1]], [False])
    nothing = Targets(targets.boxes_xyxy * 0, targets.valid & False, targets.ignore)
    anchors = torch.tensor([[0.0, 0.0, 10.0, 20.0], [5.0, 5.0, 9.0, 9.0]])
    matches = match_anchors(anchors, nothing)
    assert matches.positive.sum() == 0
    assert matches.negative.all()


@pytest.mark.parametrize("objects", [0, 1, 5])
def test_matches_do_not_depend_on_the_number_of_unused_slots(objects: int) -> None:
    # A traced graph cannot read how many slots are used, so that it matches all of them. The last box used is the
    # second image's; an unused slot precedes it, as augmentation leaves where it drops a box.
    generator = torch.Generator().manual_seed(5)
    corners = 60 * torch.rand(2, 9, 2, generator=generator)
    boxes = torch.cat((corners, corners + 5 + 30 * torch.rand(2, 9, 2, generator=generator)), dim=-1)
    valid = torch.arange(9).expand(2, -1) < torch.tensor([[max(0, objects - 1)], [objects]])
    valid[1, max(0, objects - 2)] = False
    targets = Targets(boxes * valid[..., None], valid, valid & (torch.arange(9) % 3 == 1))
    corners = 60 * torch.rand(2, 300, 2, generator=generator)
    candidates = torch.cat((corners, corners + 5 + 30 * torch.rand(2, 300, 2, generator=generator)), dim=-1)
    is_used = torch.rand(2, 300, generator=generator) > 0.1
    for match in (partial(match_anchors, candidates[0]), partial(match_regions, candidates, is_used)):
        matches = match(targets=targets)
        of_all_slots = torch.compile(match, fullgraph=True, backend="eager")(targets=targets)
        assert torch.equal(matches.positive, of_all_slots.positive)
        assert torch.equal(matches.negative, of_all_slots.negative)
        assert torch.equal(matches.target_index, of_all_slots.target_index)
    assert matches.positive.any() == (objects == 5)


def test_anchors_with_largest_keys_are_sampled_and_negatives_fill_the_rest() -> None:
    targets = _targets([[0, 0, 10, 20]], [False])
    positive = [[0.0, 0.0, 10.0, 20.0]] * 3
    negative = [[50.0, 50.0, 60.0, 70.0]] * 5
    anchors = torch.tensor(positive + negative)
    keys = torch.tensor([[0.3, 0.9, 0.5, 0.1, 0.8, 0.2, 0.7, 0.6]])
    sampled = sample_anchors(
        match_anchors(anchors, targets), targets, keys, sampled_anchors_per_image=4, positive_fraction=0.5
    )
    # 4 x 0.5 = 2 positives by key (1: 0.9, 2: 0.5); the other two places go to negatives 4 (0.8) and 6 (0.7).
    assert sampled.positive_index[sampled.positive_valid].tolist() == [1, 2]
    assert sampled.negative_index[sampled.negative_valid].tolist() == [4, 6]
    # A quarter of 4 is one positive: three negatives.
    sampled = sample_anchors(
        match_anchors(anchors, targets), targets, keys, sampled_anchors_per_image=4, positive_fraction=0.25
    )
    assert sampled.positive_index[sampled.positive_valid].tolist() == [1]
    assert sampled.negative_index[sampled.negative_valid].tolist() == [4, 6, 7]


def test_unused_slots_of_sampled_regions_are_invalid() -> None:
    targets = _targets([[0, 0, 10, 20]], [False])
    boxes = torch.tensor([[[0.0, 0.0, 10.0, 19.0], [50.0, 50.0, 60.0, 70.0], [0.0] * 4]])
    candidates = Regions(boxes, torch.ones(1, 3), torch.tensor([[True, True, False]]))
    sampled = sample_regions(
        candidates, targets, torch.tensor([[0.1, 0.9, 0.5]]), sampled_regions_per_image=5, positive_fraction=0.25
    )
    # int(5 x 0.25) = 1 positive, one negative, three slots unused.
    assert sampled.regions.valid.tolist() == [[True, True, False, False, False]]
    assert sampled.labels.tolist() == [[1, 0, 0, 0, 0]]
    assert sampled.regions.boxes_xyxy[0, 2:].abs().sum() == 0
    assert sampled.matched_boxes_xyxy[0, 0].tolist() == [0.0, 0.0, 10.0, 20.0]
