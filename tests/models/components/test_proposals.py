from __future__ import annotations

import math

import pytest
import torch
from torchvision.ops import nms

from hkd.models.components.proposals import NMS_ITERATIONS, non_maximum_suppression, select_proposals
from hkd.structures import RpnOutput


def _random_boxes(generator: torch.Generator, sets: int, count: int) -> torch.Tensor:
    corners = 60 * torch.rand(sets, count, 2, generator=generator)
    return torch.cat((corners, corners + 5 + 30 * torch.rand(sets, count, 2, generator=generator)), dim=-1)


@pytest.mark.parametrize("iou_threshold", [0.3, 0.5, 0.7])
def test_nms_equals_torchvision_on_random_sets(iou_threshold: float) -> None:
    generator = torch.Generator().manual_seed(11)
    boxes = _random_boxes(generator, sets=20, count=120)
    valid = torch.rand(20, 120, generator=generator) > 0.2
    by_set = non_maximum_suppression(boxes, valid, iou_threshold)
    at_once = torch.compile(non_maximum_suppression, fullgraph=True, backend="eager")(boxes, valid, iou_threshold)
    assert torch.equal(by_set, at_once)
    scores = torch.arange(120, 0, -1).float()
    for index in range(20):
        alive = valid[index].nonzero()[:, 0]
        expected = torch.zeros(120, dtype=torch.bool)
        expected[alive[nms(boxes[index][alive], scores[alive], iou_threshold)]] = True
        assert torch.equal(by_set[index], expected)


def _chain(length: int) -> torch.Tensor:
    # Boxes 10 wide, each 3 to the right of the last: neighbours overlap 7 / 13 = 0.54, the next but one
    # 4 / 16 = 0.25. At threshold 0.5 every second box is kept, and each link decides the one after it.
    left = 3.0 * torch.arange(length)
    return torch.stack((left, torch.zeros(length), left + 10, torch.full((length,), 10.0)), dim=-1)


def test_nms_is_exact_for_long_chain_of_overlaps() -> None:
    keep = non_maximum_suppression(_chain(100), torch.ones(100, dtype=torch.bool), 0.5)
    assert keep.tolist() == [index % 2 == 0 for index in range(100)]


def test_traced_nms_is_exact_for_chains_up_to_its_iterations() -> None:
    compiled = torch.compile(non_maximum_suppression, fullgraph=True, backend="eager")
    length = NMS_ITERATIONS
    keep = compiled(_chain(length), torch.ones(length, dtype=torch.bool), 0.5)
    assert keep.tolist() == [index % 2 == 0 for index in range(length)]


def test_invalid_boxes_are_not_kept_and_suppress_nothing() -> None:
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 9.0]])
    keep = non_maximum_suppression(boxes, torch.tensor([False, True, True]), 0.5)
    # The third overlaps the second by 90 / 100; the first does not count.
    assert keep.tolist() == [False, True, False]


def test_slots_without_candidates_are_invalid() -> None:
    anchors = torch.tensor([[0.0, 0.0, 8.0, 16.0], [40.0, 40.0, 48.0, 56.0], [0.0, 0.0, 9.0, 16.0]])
    rpn = RpnOutput(objectness=torch.tensor([[2.0, 0.0, 1.0]]), deltas=torch.zeros(1, 3, 4), anchors_xyxy=anchors)
    proposals = select_proposals(
        rpn,
        [2, 1],
        torch.tensor([[64.0, 64.0]]),
        pre_nms_proposals_per_level=2,
        proposals_per_image=6,
        nms_iou=0.7,
    )
    # The third anchor overlaps the first by 128 / 144 but lies on another level: NMS is within levels.
    assert proposals.valid.tolist() == [[True, True, True, False, False, False]]
    torch.testing.assert_close(proposals.boxes_xyxy[0, :3], anchors[[0, 2, 1]])
    torch.testing.assert_close(proposals.scores[0, :3], torch.sigmoid(torch.tensor([2.0, 1.0, 0.0])))
    assert proposals.boxes_xyxy[0, 3:].abs().sum() == 0


def test_proposals_in_padding_are_clipped_or_dropped() -> None:
    anchors = torch.tensor([[10.0, 10.0, 30.0, 50.0], [40.0, 0.0, 50.0, 20.0]])
    rpn = RpnOutput(objectness=torch.zeros(1, 2), deltas=torch.zeros(1, 2, 4), anchors_xyxy=anchors)
    proposals = select_proposals(
        rpn,
        [2],
        torch.tensor([[32.0, 35.0]]),
        pre_nms_proposals_per_level=2,
        proposals_per_image=2,
        nms_iou=0.7,
    )
    # Height 32, width 35: the first is cut at the bottom, the second has no width left.
    assert proposals.valid.tolist() == [[True, False]]
    assert proposals.boxes_xyxy[0, 0].tolist() == [10.0, 10.0, 30.0, 32.0]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("field", ["objectness", "deltas"])
def test_outputs_of_a_diverged_network_give_finite_boxes(field: str, value: float) -> None:
    # Two anchors of 10 x 20 pixels. NaN as a box would be a cell's index in the pooling of regions.
    anchors = torch.tensor([[0.0, 0.0, 10.0, 20.0], [20.0, 20.0, 30.0, 40.0]])
    outputs = {"objectness": torch.zeros(1, 2), "deltas": torch.zeros(1, 2, 4)}
    outputs[field].fill_(value)
    regions = select_proposals(
        RpnOutput(anchors_xyxy=anchors, **outputs),
        [2],
        torch.tensor([[64.0, 64.0]]),
        pre_nms_proposals_per_level=2,
        proposals_per_image=3,
        nms_iou=0.7,
    )
    assert bool(regions.boxes_xyxy.isfinite().all())
    assert bool(regions.boxes_xyxy[~regions.valid].eq(0).all())
