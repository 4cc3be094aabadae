"""The four losses of a two-stage detector, equal to torchvision's on the same samples.

All are functions of what the heads said and of what was sampled, in fp32, as the heads' outputs are; a batch
without a single example gives 0 with zero gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from hkd.models.components.boxes import REGION_DELTA_WEIGHTS, RPN_DELTA_WEIGHTS, encode_boxes
from hkd.models.components.sampling import SampledAnchors
from hkd.structures import RegionOutput, RpnOutput, SampledRegions

_SMOOTH_L1_BETA = 1 / 9


def rpn_losses(rpn: RpnOutput, sampled: SampledAnchors) -> dict[str, Tensor]:
    """``rpn_objectness``: binary cross-entropy, mean over sampled anchors; ``rpn_box``: smooth L1 over their count."""
    positive = sampled.positive_valid.float()
    negative = sampled.negative_valid.float()
    count = (positive.sum() + negative.sum()).clamp(min=1)
    objectness = rpn.objectness
    positive_logits = objectness.gather(1, sampled.positive_index)
    negative_logits = objectness.gather(1, sampled.negative_index)
    # -log sigmoid(x) = softplus(-x); -log(1 - sigmoid(x)) = softplus(x).
    cross_entropy = (functional.softplus(-positive_logits) * positive).sum()
    cross_entropy = cross_entropy + (functional.softplus(negative_logits) * negative).sum()
    picked = sampled.positive_index[..., None].expand(-1, -1, 4)
    deltas = rpn.deltas.gather(1, picked)
    anchors = rpn.anchors_xyxy.expand(deltas.shape[0], -1, -1).gather(1, picked)
    wanted = encode_boxes(sampled.matched_boxes_xyxy, anchors, RPN_DELTA_WEIGHTS)
    return {
        "rpn_objectness": cross_entropy / count,
        "rpn_box": _masked_smooth_l1(deltas, wanted, sampled.positive_valid) / count,
    }


def region_losses(region: RegionOutput, sampled: SampledRegions) -> dict[str, Tensor]:
    """``roi_classification``: cross-entropy, mean over sampled regions; ``roi_box``: smooth L1 over the same count."""
    valid = sampled.regions.valid.reshape(-1)
    labels = sampled.labels.reshape(-1)
    count = valid.sum().clamp(min=1)
    cross_entropy = functional.cross_entropy(region.class_logits, labels, reduction="none")
    deltas = region.box_deltas.view(labels.shape[0], -1, 4)
    of_label = deltas.gather(1, labels[:, None, None].expand(-1, 1, 4)).squeeze(1)
    wanted = encode_boxes(
        sampled.matched_boxes_xyxy.reshape(-1, 4), sampled.regions.boxes_xyxy.reshape(-1, 4), REGION_DELTA_WEIGHTS
    )
    return {
        "roi_classification": torch.where(valid, cross_entropy, 0.0).sum() / count,
        "roi_box": _masked_smooth_l1(of_label, wanted, valid & (labels > 0)) / count,
    }


def _masked_smooth_l1(values: Tensor, wanted: Tensor, valid: Tensor) -> Tensor:
    # Unused slots are replaced before the subtraction: what stands in them must not reach the gradient.
    difference = torch.where(valid[..., None], values - wanted, 0.0)
    return functional.smooth_l1_loss(difference, torch.zeros_like(difference), beta=_SMOOTH_L1_BETA, reduction="sum")
