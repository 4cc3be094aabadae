"""Matching of anchors and regions to ground truth, and random sampling of training examples.

The rules are those of Faster R-CNN (Ren et al., NeurIPS 2015, section 3.1.2) as implemented by torchvision, for a whole
batch in fixed shapes. In addition, boxes inside ignore regions (crowds, riders, posters) are neither positive nor
negative.

Random numbers are arguments (*keys*), uniform and drawn by the caller: the examples with the largest keys are sampled.
Sampling is therefore a pure function, with the same result on every device and in a traced graph.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hkd.models.components.boxes import box_areas, gather_boxes, pairwise_overlaps
from hkd.runtime.device import is_host_readable
from hkd.structures import Regions, SampledRegions, Targets

ANCHOR_POSITIVE_IOU = 0.7
ANCHOR_NEGATIVE_IOU = 0.3
REGION_POSITIVE_IOU = 0.5
IGNORED_FRACTION = 0.5
"""A box with at least this fraction of its area inside an ignore region is not a negative example."""


@dataclass(frozen=True)
class Matches:
    """Ground truth that each of ``N`` candidate boxes per image is matched to."""

    positive: Tensor
    """(B, N) bool."""
    negative: Tensor
    """(B, N) bool; candidates that are neither positive nor negative are excluded from training."""
    target_index: Tensor
    """(B, N) int64: ground-truth slot with the highest IoU; defined for positives."""


@dataclass(frozen=True)
class SampledAnchors:
    """Anchors sampled for training, in a fixed number of slots per image."""

    positive_index: Tensor
    """(B, P) int64 indices of anchors."""
    positive_valid: Tensor
    """(B, P) bool."""
    negative_index: Tensor
    """(B, N) int64."""
    negative_valid: Tensor
    """(B, N) bool."""
    matched_boxes_xyxy: Tensor
    """(B, P, 4) float32: ground-truth box of each positive anchor."""


def match_anchors(anchors_xyxy: Tensor, targets: Targets) -> Matches:
    """Match anchors (A, 4): positive at IoU >= 0.7 or as the best anchor of a ground truth, negative below 0.3."""
    iou, ignored = _iou_with_targets(anchors_xyxy.unsqueeze(0), targets)  # (B, G, A), (B, A)
    best, target_index = iou.max(dim=1)
    best_of_target = iou.amax(dim=2, keepdim=True)  # (B, G, 1)
    # All anchors that tie for a ground truth's best IoU are positive (torchvision's low-quality matches).
    is_best = (iou == best_of_target.masked_fill(best_of_target == 0, torch.inf)).any(dim=1)
    positive = (best >= ANCHOR_POSITIVE_IOU) | is_best
    negative = (best < ANCHOR_NEGATIVE_IOU) & ~positive & ~ignored
    return Matches(positive=positive, negative=negative, target_index=target_index)


def match_regions(boxes_xyxy: Tensor, valid: Tensor, targets: Targets) -> Matches:
    """Match regions (B, N, 4): positive at IoU >= 0.5, negative below; slots that are not ``valid`` are neither."""
    iou, ignored = _iou_with_targets(boxes_xyxy, targets)
    best, target_index = iou.max(dim=1)
    positive = (best >= REGION_POSITIVE_IOU) & valid
    negative = (best < REGION_POSITIVE_IOU) & valid & ~ignored
    return Matches(positive=positive, negative=negative, target_index=target_index)


def _iou_with_targets(boxes_xyxy: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
    """IoU (B, G, N) with each ground truth, 0 for unused slots and ignore regions; and (B, N) bool: ignored."""
    targets = _used_slots(targets)
    # Ground truth first and masks as factors: operators on (B, N, G), or on bool, take several times longer on a CPU.
    intersections, iou = pairwise_overlaps(targets.boxes_xyxy, boxes_xyxy)
    is_pedestrian, is_ignore_region = (
        (targets.valid & flag)[..., None].to(iou.dtype) for flag in (~targets.ignore, targets.ignore)
    )
    areas = box_areas(boxes_xyxy)
    ignored = ((intersections * is_ignore_region).amax(dim=1) >= IGNORED_FRACTION * areas) & (areas > 0)
    return iou * is_pedestrian, ignored


def _used_slots(targets: Targets) -> Targets:
    """The targets up to the last slot that any image of the batch uses, or all where the host would have to wait."""
    if not is_host_readable(targets.valid):
        return targets
    slots = targets.valid.any(dim=0).nonzero()
    used = int(slots[-1]) + 1 if len(slots) else 1
    return Targets(targets.boxes_xyxy[:, :used], targets.valid[:, :used], targets.ignore[:, :used])


def sample_anchors(
    matches: Matches, targets: Targets, keys: Tensor, *, sampled_anchors_per_image: int, positive_fraction: float
) -> SampledAnchors:
    """Sample anchors by ``keys`` (B, A) in [0, 1): positives up to ``positive_fraction``, the rest negatives."""
    most_positives = int(sampled_anchors_per_image * positive_fraction)
    positive_key, positive_index = torch.where(matches.positive, keys, -1.0).topk(
        min(most_positives, keys.shape[1]), dim=1
    )
    positive_valid = positive_key >= 0
    negative_key, negative_index = torch.where(matches.negative, keys, -1.0).topk(
        min(sampled_anchors_per_image, keys.shape[1]), dim=1
    )
    num_negatives = sampled_anchors_per_image - positive_valid.sum(dim=1, keepdim=True)
    rank = torch.arange(negative_index.shape[1], device=keys.device)
    return SampledAnchors(
        positive_index=positive_index,
        positive_valid=positive_valid,
        negative_index=negative_index,
        negative_valid=(negative_key >= 0) & (rank < num_negatives),
        matched_boxes_xyxy=gather_boxes(targets.boxes_xyxy, matches.target_index.gather(1, positive_index)),
    )


def append_ground_truth(proposals: Regions, targets: Targets) -> Regions:
    """Proposals and ground truth without ignore regions, (B, P + G): positives for the box head from the first step."""
    is_pedestrian = targets.valid & ~targets.ignore
    return Regions(
        boxes_xyxy=torch.cat((proposals.boxes_xyxy, targets.boxes_xyxy * is_pedestrian[..., None]), dim=1),
        scores=torch.cat((proposals.scores, is_pedestrian.float()), dim=1),
        valid=torch.cat((proposals.valid, is_pedestrian), dim=1),
    )


def sample_regions(
    candidates: Regions, targets: Targets, keys: Tensor, *, sampled_regions_per_image: int, positive_fraction: float
) -> SampledRegions:
    """Sample ``S`` regions by ``keys`` (B, P + G) in [0, 1): positives up to ``positive_fraction``, then negatives."""
    matches = match_regions(candidates.boxes_xyxy, candidates.valid, targets)
    most_positives = min(int(sampled_regions_per_image * positive_fraction), keys.shape[1])
    positive_keys = torch.where(matches.positive, keys, -1.0)
    _, positive_order = positive_keys.topk(most_positives, dim=1)
    chosen = torch.zeros_like(matches.positive).scatter(1, positive_order, True) & matches.positive
    # Chosen positives rank above all negatives; other positives are excluded.
    ranking = torch.where(chosen, keys + 2, torch.where(matches.negative, keys, -1.0))
    missing = max(0, sampled_regions_per_image - keys.shape[1])
    ranking = torch.nn.functional.pad(ranking, (0, missing), value=-1.0)
    key, index = ranking.topk(sampled_regions_per_image, dim=1)
    valid = key >= 0
    # Slots beyond the candidates are invalid: any index in range serves.
    index = index.clamp(max=keys.shape[1] - 1)
    boxes = gather_boxes(candidates.boxes_xyxy, index) * valid[..., None]
    regions = Regions(boxes_xyxy=boxes, scores=candidates.scores.gather(1, index) * valid, valid=valid)
    return SampledRegions(
        regions=regions,
        labels=((key >= 2) & valid).long(),
        matched_boxes_xyxy=gather_boxes(targets.boxes_xyxy, matches.target_index.gather(1, index)),
    )
