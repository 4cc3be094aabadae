"""Matching of anchors and regions to ground truth, and the random choice of training examples.

The rules are Faster R-CNN's as torchvision implements them, over a whole batch with fixed shapes. Two
things differ: padding slots match nothing, and ignore regions (crowds, riders, posters) make what lies in
them neither positive nor negative.

Randomness enters as *keys*, uniform numbers drawn by the caller: the examples with the largest keys are
taken. So sampling is a pure function, the same on every device and inside a traced graph.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hkd.models.components.boxes import box_areas, pairwise_intersections
from hkd.structures import Regions, SampledRegions, Targets

ANCHOR_POSITIVE_IOU = 0.7
ANCHOR_NEGATIVE_IOU = 0.3
REGION_POSITIVE_IOU = 0.5
IGNORED_FRACTION = 0.5
"""A box with at least this share of its area inside an ignore region is no negative example."""


@dataclass(frozen=True)
class Matches:
    """What each of N candidate boxes an image is matched to."""

    positive: Tensor
    """(B, N) bool."""
    negative: Tensor
    """(B, N) bool; candidates that are neither are left out of training."""
    target_index: Tensor
    """(B, N) int64: the ground-truth slot of the best overlap; meaningful for positives."""


@dataclass(frozen=True)
class SampledAnchors:
    """Anchors drawn for training: a fixed number of slots, those in use marked."""

    positive_index: Tensor
    """(B, P) int64 into the anchors."""
    positive_valid: Tensor
    """(B, P) bool."""
    negative_index: Tensor
    """(B, N) int64."""
    negative_valid: Tensor
    """(B, N) bool."""
    matched_boxes_xyxy: Tensor
    """(B, P, 4) float32: the ground truth of each positive."""


def match_anchors(anchors_xyxy: Tensor, targets: Targets) -> Matches:
    """Match anchors (A, 4): positive at IoU >= 0.7 or as a ground truth's best anchor, negative under 0.3."""
    overlaps, ignored = _overlaps(anchors_xyxy.unsqueeze(0), targets)  # (B, A, G), (B, A)
    best, target_index = overlaps.max(dim=2)
    best_of_target = overlaps.amax(dim=1, keepdim=True)  # (B, 1, G)
    # Every anchor that shares a ground truth's best overlap counts (torchvision's low-quality matches).
    is_best = ((overlaps == best_of_target) & (best_of_target > 0)).any(dim=2)
    positive = (best >= ANCHOR_POSITIVE_IOU) | is_best
    negative = (best < ANCHOR_NEGATIVE_IOU) & ~positive & ~ignored
    return Matches(positive=positive, negative=negative, target_index=target_index)


def match_regions(boxes_xyxy: Tensor, valid: Tensor, targets: Targets) -> Matches:
    """Match regions (B, N, 4): positive at IoU >= 0.5, negative otherwise; unused slots neither."""
    overlaps, ignored = _overlaps(boxes_xyxy, targets)
    best, target_index = overlaps.max(dim=2)
    positive = (best >= REGION_POSITIVE_IOU) & valid
    negative = (best < REGION_POSITIVE_IOU) & valid & ~ignored
    return Matches(positive=positive, negative=negative, target_index=target_index)


def _overlaps(boxes_xyxy: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
    """IoU with every ground truth that counts (B, N, G), -1 elsewhere; and which boxes lie in ignore regions."""
    intersections = pairwise_intersections(boxes_xyxy, targets.boxes_xyxy)
    areas = box_areas(boxes_xyxy)[..., :, None]
    unions = areas + box_areas(targets.boxes_xyxy)[..., None, :] - intersections
    counts = (targets.valid & ~targets.ignore)[:, None, :]
    overlaps = torch.where(counts, intersections / unions.clamp(min=1e-9), -1.0)
    in_ignore = (intersections >= IGNORED_FRACTION * areas) & (areas > 0) & (targets.valid & targets.ignore)[:, None, :]
    return overlaps, in_ignore.any(dim=2)


def sample_anchors(
    matches: Matches, targets: Targets, keys: Tensor, *, sampled_anchors_per_image: int, positive_fraction: float
) -> SampledAnchors:
    """Draw anchors by ``keys`` (B, A) in (0, 1): up to the fraction positives, filled up with negatives."""
    most_positives = int(sampled_anchors_per_image * positive_fraction)
    positive_key, positive_index = torch.where(matches.positive, keys, -1.0).topk(
        min(most_positives, keys.shape[1]), dim=1
    )
    positive_valid = positive_key >= 0
    negative_key, negative_index = torch.where(matches.negative, keys, -1.0).topk(
        min(sampled_anchors_per_image, keys.shape[1]), dim=1
    )
    room = sampled_anchors_per_image - positive_valid.sum(dim=1, keepdim=True)
    rank = torch.arange(negative_index.shape[1], device=keys.device)
    return SampledAnchors(
        positive_index=positive_index,
        positive_valid=positive_valid,
        negative_index=negative_index,
        negative_valid=(negative_key >= 0) & (rank < room),
        matched_boxes_xyxy=_boxes_at(targets, matches.target_index.gather(1, positive_index)),
    )


def with_ground_truth(proposals: Regions, targets: Targets) -> Regions:
    """Proposals with the ground truth that counts put beside them: (B, P + G)."""
    counts = targets.valid & ~targets.ignore
    return Regions(
        boxes_xyxy=torch.cat((proposals.boxes_xyxy, targets.boxes_xyxy * counts[..., None]), dim=1),
        scores=torch.cat((proposals.scores, counts.float()), dim=1),
        valid=torch.cat((proposals.valid, counts), dim=1),
    )


def sample_regions(
    candidates: Regions, targets: Targets, keys: Tensor, *, sampled_regions_per_image: int, positive_fraction: float
) -> SampledRegions:
    """Draw ``S`` regions by ``keys`` (B, P + G) in (0, 1): up to the fraction positives, then negatives."""
    matches = match_regions(candidates.boxes_xyxy, candidates.valid, targets)
    most_positives = min(int(sampled_regions_per_image * positive_fraction), keys.shape[1])
    positive_keys = torch.where(matches.positive, keys, -1.0)
    _, positive_order = positive_keys.topk(most_positives, dim=1)
    chosen = torch.zeros_like(matches.positive).scatter(1, positive_order, True) & matches.positive
    # Chosen positives rank above all negatives; the rest of the positives are left out.
    ranking = torch.where(chosen, keys + 2, torch.where(matches.negative, keys, -1.0))
    missing = max(0, sampled_regions_per_image - keys.shape[1])
    ranking = torch.nn.functional.pad(ranking, (0, missing), value=-1.0)
    key, index = ranking.topk(sampled_regions_per_image, dim=1)
    valid = key >= 0
    # Slots beyond the candidates are invalid: any index in range will do for them.
    index = index.clamp(max=keys.shape[1] - 1)
    boxes = candidates.boxes_xyxy.gather(1, index[..., None].expand(-1, -1, 4)) * valid[..., None]
    regions = Regions(boxes_xyxy=boxes, scores=candidates.scores.gather(1, index) * valid, valid=valid)
    return SampledRegions(
        regions=regions,
        labels=((key >= 2) & valid).long(),
        matched_boxes_xyxy=_boxes_at(targets, matches.target_index.gather(1, index)),
    )


def _boxes_at(targets: Targets, index: Tensor) -> Tensor:
    return targets.boxes_xyxy.gather(1, index[..., None].expand(-1, -1, 4))
