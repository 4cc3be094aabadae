"""Arithmetic on boxes, batched over any leading dimensions.

Boxes are ``(x1, y1, x2, y2)`` in pixels, continuous coordinates. Deltas are the regression targets of
R-CNN (Girshick et al., 2014, appendix C): ``(dx, dy)`` in units of the reference box's size, ``(dw, dh)``
its logarithmic change, each times a fixed weight. Everything here has fixed shapes and never waits for
the host.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

RPN_DELTA_WEIGHTS = (1.0, 1.0)
"""Of (dx, dy) and (dw, dh) of region proposals, as in torchvision."""
REGION_DELTA_WEIGHTS = (10.0, 5.0)
"""Of the box head, as in torchvision."""
# A predicted width may be at most 1000 / 16 times its reference: exp() must not overflow (torchvision).
_MAX_LOG_SCALE = math.log(1000.0 / 16.0)


def box_areas(boxes_xyxy: Tensor) -> Tensor:
    """Areas of boxes (..., 4) in square pixels, (...)."""
    return (boxes_xyxy[..., 2] - boxes_xyxy[..., 0]) * (boxes_xyxy[..., 3] - boxes_xyxy[..., 1])


def pairwise_intersections(first_xyxy: Tensor, second_xyxy: Tensor) -> Tensor:
    """Intersection areas of every box of (..., N, 4) with every box of (..., M, 4): (..., N, M)."""
    # One coordinate at a time: four (..., N, M) planes stream better than one (..., N, M, 2) tensor.
    widths = torch.minimum(first_xyxy[..., :, None, 2], second_xyxy[..., None, :, 2]) - torch.maximum(
        first_xyxy[..., :, None, 0], second_xyxy[..., None, :, 0]
    )
    heights = torch.minimum(first_xyxy[..., :, None, 3], second_xyxy[..., None, :, 3]) - torch.maximum(
        first_xyxy[..., :, None, 1], second_xyxy[..., None, :, 1]
    )
    return widths.clamp(min=0) * heights.clamp(min=0)


def pairwise_iou(first_xyxy: Tensor, second_xyxy: Tensor) -> Tensor:
    """Intersection over union of every pair: (..., N, 4) x (..., M, 4) -> (..., N, M); 0 for two empty boxes."""
    intersections = pairwise_intersections(first_xyxy, second_xyxy)
    unions = box_areas(first_xyxy)[..., :, None] + box_areas(second_xyxy)[..., None, :] - intersections
    return intersections / unions.clamp(min=1e-9)


def encode_boxes(boxes_xyxy: Tensor, references_xyxy: Tensor, weights: tuple[float, float]) -> Tensor:
    """Deltas (..., 4) that turn ``references_xyxy`` into ``boxes_xyxy``; both (..., 4).

    Boxes without area (unused slots) give finite numbers, to be masked by the caller.
    """
    reference_sizes = (references_xyxy[..., 2:] - references_xyxy[..., :2]).clamp(min=1e-6)
    reference_centres = references_xyxy[..., :2] + 0.5 * reference_sizes
    sizes = (boxes_xyxy[..., 2:] - boxes_xyxy[..., :2]).clamp(min=1e-6)
    centres = boxes_xyxy[..., :2] + 0.5 * sizes
    shifts = (centres - reference_centres) / reference_sizes
    scales = torch.log(sizes / reference_sizes)
    # Weighted by Python numbers: a tensor of the weights would have to be sent to the device, and waited for.
    return torch.cat((shifts * weights[0], scales * weights[1]), dim=-1)


def decode_boxes(deltas: Tensor, references_xyxy: Tensor, weights: tuple[float, float]) -> Tensor:
    """Boxes (..., 4) that ``deltas`` (..., 4) make of ``references_xyxy`` (..., 4): the inverse of encoding."""
    reference_sizes = references_xyxy[..., 2:] - references_xyxy[..., :2]
    reference_centres = references_xyxy[..., :2] + 0.5 * reference_sizes
    centres = deltas[..., :2] / weights[0] * reference_sizes + reference_centres
    half_sizes = 0.5 * torch.exp((deltas[..., 2:] / weights[1]).clamp(max=_MAX_LOG_SCALE)) * reference_sizes
    return torch.cat((centres - half_sizes, centres + half_sizes), dim=-1)


def clip_boxes(boxes_xyxy: Tensor, valid_sizes: Tensor) -> Tensor:
    """Boxes (B, ..., 4) cut to their image, whose (height, width) are ``valid_sizes`` (B, 2)."""
    limits = valid_sizes.flip(-1).repeat(1, 2).to(boxes_xyxy.dtype)
    limits = limits.view(limits.shape[0], *([1] * (boxes_xyxy.dim() - 2)), 4)
    return torch.minimum(boxes_xyxy.clamp(min=0), limits)
