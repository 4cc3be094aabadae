"""The four detection losses of Faster R-CNN (Ren et al., NeurIPS 2015), equal to torchvision's on the same samples.

Computed in the heads' output dtype, at least fp32. A batch without any example has loss 0 and zero gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from hkd.models.components.boxes import REGION_DELTA_WEIGHTS, RPN_DELTA_WEIGHTS, encode_boxes, gather_boxes
from hkd.models.components.sampling import SampledAnchors
from hkd.structures import RegionOutput, RpnOutput, SampledRegions

_SMOOTH_L1_BETA = 1 / 9


def rpn_losses(rpn: RpnOutput, sampled: SampledAnchors) -> dict[str, Tensor]:
    """Losses of the RPN, () each: equation 1 of Faster R-CNN, both terms over the number of sampled anchors.

    ``rpn_objectness`` is the binary cross-entropy of all sampled anchors, ``rpn_box`` the smooth L1 loss of the
    positive ones.
    """
    positive = sampled.positive_valid.float()
    negative = sampled.negative_valid.float()
    count = (positive.sum() + negative.sum()).clamp(min=1)
    objectness = rpn.objectness
    positive_logits = objectness.gather(1, sampled.positive_index)
    negative_logits = objectness.gather(1, sampled.negative_index)
    # -log sigmoid(x) = softplus(-x); -log(1 - sigmoid(x)) = softplus(x).
    cross_entropy = (functional.softplus(-positive_logits) * positive).sum()
    cross_entropy = cross_entropy + (functional.softplus(negative_logits) * negative).sum()
    deltas = gather_boxes(rpn.deltas, sampled.positive_index)
    anchors = gather_boxes(rpn.anchors_xyxy.expand(deltas.shape[0], -1, -1), sampled.positive_index)
    target_deltas = encode_boxes(sampled.matched_boxes_xyxy, anchors, RPN_DELTA_WEIGHTS)
    return {
        "rpn_objectness": cross_entropy / count,
        "rpn_box": _masked_smooth_l1(deltas, target_deltas, sampled.positive_valid) / count,
    }


def region_losses(region: RegionOutput, sampled: SampledRegions) -> dict[str, Tensor]:
    """Losses of the box head, () each: equation 1 of Fast R-CNN (Girshick, ICCV 2015) over the number of regions.

    ``roi_classification`` is the cross-entropy of all sampled regions, ``roi_box`` the smooth L1 loss of the positive
    ones, of the deltas of their own class.
    """
    valid = sampled.regions.valid.reshape(-1)
    labels = sampled.labels.reshape(-1)
    count = valid.sum().clamp(min=1)
    cross_entropy = functional.cross_entropy(region.class_logits, labels, reduction="none")
    deltas = region.box_deltas.view(labels.shape[0], -1, 4)
    deltas = gather_boxes(deltas, labels[:, None]).squeeze(1)
    target_deltas = encode_boxes(
        sampled.matched_boxes_xyxy.reshape(-1, 4), sampled.regions.boxes_xyxy.reshape(-1, 4), REGION_DELTA_WEIGHTS
    )
    return {
        "roi_classification": torch.where(valid, cross_entropy, 0.0).sum() / count,
        "roi_box": _masked_smooth_l1(deltas, target_deltas, valid & (labels > 0)) / count,
    }


def _masked_smooth_l1(deltas: Tensor, target_deltas: Tensor, valid: Tensor) -> Tensor:
    # where, not a product: unused slots may hold NaN, which must not reach the loss or its gradient.
    difference = torch.where(valid[..., None], deltas - target_deltas, 0.0)
    return functional.smooth_l1_loss(difference, torch.zeros_like(difference), beta=_SMOOTH_L1_BETA, reduction="sum")
