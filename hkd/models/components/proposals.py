"""Region proposals of a whole batch in fixed shapes, without a loop over images or a device-to-host synchronization.

Ren et al., "Faster R-CNN", NeurIPS 2015, section 3. Proposals equal those of torchvision's ``RegionProposalNetwork``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.ops import nms

from hkd.models.components.boxes import RPN_DELTA_WEIGHTS, clip_boxes, decode_boxes, gather_boxes, pairwise_overlaps
from hkd.runtime.device import is_host_readable
from hkd.structures import Regions, RpnOutput

# Pixels; torchvision drops smaller proposals.
MINIMUM_SIDE = 1e-3
NMS_ITERATIONS = 32


def non_maximum_suppression(boxes_xyxy: Tensor, valid: Tensor, iou_threshold: float) -> Tensor:
    """Greedy NMS of independent sets of boxes.

    On a CPU, torchvision's NMS runs set by set. On CUDA and in a traced graph, where its data-dependent result would
    synchronize or break the graph, all sets are processed at once: greedy NMS is the fixed point of "keep a box unless
    a kept box of higher score overlaps it by more than ``iou_threshold``". Each iteration decides at least the next box
    of every chain of overlaps, so 32 iterations are exact for chains of up to 32 overlaps; chains among proposals have
    a few.

    Args:
        boxes_xyxy: (..., N, 4), by descending score.
        valid: (..., N) bool; other boxes are not kept and suppress nothing.
        iou_threshold: largest IoU of two kept boxes.

    Returns:
        (..., N) bool: the box is kept.
    """
    if is_host_readable(boxes_xyxy):
        return _nms_set_by_set(boxes_xyxy, valid, iou_threshold)
    count = boxes_xyxy.shape[-2]
    _, iou = pairwise_overlaps(boxes_xyxy, boxes_xyxy)
    # is_better[i, j]: box j has a higher score than box i.
    is_better = torch.ones(count, count, dtype=torch.bool, device=boxes_xyxy.device).tril(-1)
    suppresses = ((iou > iou_threshold) & is_better & valid[..., None, :]).float()
    keep = valid
    for _ in range(NMS_ITERATIONS):
        suppressors = (suppresses @ keep.float().unsqueeze(-1)).squeeze(-1)
        keep = (suppressors < 0.5) & valid
    return keep


def _nms_set_by_set(boxes_xyxy: Tensor, valid: Tensor, iou_threshold: float) -> Tensor:
    count = boxes_xyxy.shape[-2]
    # Invalid boxes become empty: an empty box overlaps nothing.
    sets = torch.where(valid[..., None], boxes_xyxy, 0.0).reshape(-1, count, 4)
    best_first = torch.arange(count, 0, -1, dtype=boxes_xyxy.dtype)
    keep = torch.zeros(len(sets), count, dtype=torch.bool)
    for kept, boxes in zip(keep, sets, strict=True):
        kept[nms(boxes, best_first, iou_threshold)] = True
    return keep.view_as(valid) & valid


def select_proposals(
    rpn: RpnOutput,
    anchors_per_level: Sequence[int],
    valid_sizes: Tensor,
    *,
    pre_nms_proposals_per_level: int,
    proposals_per_image: int,
    nms_iou: float,
) -> Regions:
    """The ``P`` best proposals of each image after NMS within each level, by descending score.

    They are detached: as in torchvision, the box head's losses do not train the RPN's deltas.

    Args:
        rpn: outputs for all ``A`` anchors.
        anchors_per_level: their number on each of p2..p6.
        valid_sizes: (B, 2), height and width of each image without padding, in pixels; proposals are clipped to it.
        pre_nms_proposals_per_level: best anchors of each level that enter NMS.
        proposals_per_image: P.
        nms_iou: largest IoU of two proposals of one level.
    """
    objectness = rpn.objectness.detach()
    deltas = rpn.deltas.detach()
    scores, boxes = [], []
    start = 0
    for anchors in anchors_per_level:
        level_logits = objectness[:, start : start + anchors]
        kept = min(pre_nms_proposals_per_level, anchors)
        top_logits, top = level_logits.topk(kept, dim=1)
        top = top + start
        references = gather_boxes(rpn.anchors_xyxy.expand(deltas.shape[0], -1, -1), top)
        level_boxes = clip_boxes(decode_boxes(gather_boxes(deltas, top), references, RPN_DELTA_WEIGHTS), valid_sizes)
        # Levels are padded to one length for one NMS of all; score -1 marks an unused slot.
        padding = pre_nms_proposals_per_level - kept
        scores.append(functional.pad(torch.sigmoid(top_logits), (0, padding), value=-1.0))
        boxes.append(functional.pad(level_boxes, (0, 0, 0, padding)))
        start += anchors
    all_scores, all_boxes = torch.stack(scores, dim=1), torch.stack(boxes, dim=1)
    sides = all_boxes[..., 2:] - all_boxes[..., :2]
    valid = (all_scores >= 0) & (sides >= MINIMUM_SIDE).all(dim=-1)
    keep = non_maximum_suppression(all_boxes, valid, nms_iou)
    ranked = torch.where(keep, all_scores, -1.0).flatten(1)
    missing = max(0, proposals_per_image - ranked.shape[1])
    ranked = functional.pad(ranked, (0, missing), value=-1.0)
    flat_boxes = functional.pad(all_boxes.flatten(1, 2), (0, 0, 0, missing))
    best_scores, best = ranked.topk(proposals_per_image, dim=1)
    best_valid = best_scores >= 0
    # Not a product: a network whose weights diverged gives NaN, and 0 * NaN would reach the pooling as a cell's index.
    best_boxes = torch.where(best_valid[..., None], gather_boxes(flat_boxes, best), 0.0)
    return Regions(boxes_xyxy=best_boxes, scores=best_scores.clamp(min=0), valid=best_valid)
