"""Region proposals for a whole batch at once: fixed shapes, no loop over images, no wait for the host.

Ren et al., *Faster R-CNN*, NeurIPS 2015. What is computed equals torchvision's ``RegionProposalNetwork``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.ops import nms

from hkd.models.components.boxes import RPN_DELTA_WEIGHTS, clip_boxes, decode_boxes, pairwise_iou
from hkd.structures import Regions, RpnOutput

# torchvision drops proposals narrower or lower than this, pixels.
_MINIMUM_SIDE = 1e-3
_FIXED_NMS_PASSES = 32


def non_maximum_suppression(boxes_xyxy: Tensor, valid: Tensor, iou_threshold: float) -> Tensor:
    """Greedy NMS of many independent sets: boxes (..., N, 4) sorted best first, ``valid`` (..., N) -> kept (..., N).

    On a CPU by torchvision's own, set by set. Where looking at the result would make the host wait (CUDA) or break a
    traced graph, all sets at once: greedy NMS keeps a box unless a kept, better one overlaps it by more than
    ``iou_threshold``, which is a fixed point of ``keep = not any(overlaps by a better box that is kept)``. Each pass
    settles at least the next link of every chain of overlaps; a fixed 32 passes are made, exact for every chain of up
    to 32 overlaps. Chains among proposals are a few links long.
    """
    if boxes_xyxy.device.type == "cpu" and not torch.compiler.is_compiling():
        return _suppressed_set_by_set(boxes_xyxy, valid, iou_threshold)
    count = boxes_xyxy.shape[-2]
    # better[i, j]: j comes before i.
    better = torch.ones(count, count, dtype=torch.bool, device=boxes_xyxy.device).tril(-1)
    suppresses = ((pairwise_iou(boxes_xyxy, boxes_xyxy) > iou_threshold) & better & valid[..., None, :]).float()
    keep = valid
    for _ in range(_FIXED_NMS_PASSES):
        suppressors = (suppresses @ keep.float().unsqueeze(-1)).squeeze(-1)
        keep = (suppressors < 0.5) & valid
    return keep


def _suppressed_set_by_set(boxes_xyxy: Tensor, valid: Tensor, iou_threshold: float) -> Tensor:
    count = boxes_xyxy.shape[-2]
    # An empty box overlaps nothing.
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
    """The ``P`` best proposals of each image after NMS within each level, best first.

    No gradient flows through proposals (they are constants to the box head, as in torchvision).
    """
    objectness = rpn.objectness.detach()
    deltas = rpn.deltas.detach()
    scores, boxes = [], []
    start = 0
    for anchors in anchors_per_level:
        level_logits = objectness[:, start : start + anchors]
        kept = min(pre_nms_proposals_per_level, anchors)
        top_logits, top = level_logits.topk(kept, dim=1)
        picked = (top + start)[..., None].expand(-1, -1, 4)
        references = rpn.anchors_xyxy.expand(deltas.shape[0], -1, -1).gather(1, picked)
        level_boxes = clip_boxes(decode_boxes(deltas.gather(1, picked), references, RPN_DELTA_WEIGHTS), valid_sizes)
        # Padding to one length lets all levels share one NMS; a score of -1 marks an empty slot.
        padding = pre_nms_proposals_per_level - kept
        scores.append(functional.pad(torch.sigmoid(top_logits), (0, padding), value=-1.0))
        boxes.append(functional.pad(level_boxes, (0, 0, 0, padding)))
        start += anchors
    all_scores, all_boxes = torch.stack(scores, dim=1), torch.stack(boxes, dim=1)
    sides = all_boxes[..., 2:] - all_boxes[..., :2]
    valid = (all_scores >= 0) & (sides >= _MINIMUM_SIDE).all(dim=-1)
    keep = non_maximum_suppression(all_boxes, valid, nms_iou)
    ranked = torch.where(keep, all_scores, -1.0).flatten(1)
    missing = max(0, proposals_per_image - ranked.shape[1])
    ranked = functional.pad(ranked, (0, missing), value=-1.0)
    flat_boxes = functional.pad(all_boxes.flatten(1, 2), (0, 0, 0, missing))
    best_scores, best = ranked.topk(proposals_per_image, dim=1)
    best_valid = best_scores >= 0
    best_boxes = flat_boxes.gather(1, best[..., None].expand(-1, -1, 4)) * best_valid[..., None]
    return Regions(boxes_xyxy=best_boxes, scores=best_scores.clamp(min=0), valid=best_valid)
