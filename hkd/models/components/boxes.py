"""Arithmetic on boxes, batched over any leading dimensions.

Boxes are ``(x1, y1, x2, y2)`` in pixels, in continuous coordinates. Deltas are the regression targets of R-CNN
(Girshick et al., CVPR 2014, appendix C): ``(dx, dy)`` is the shift of the centre over the reference box's size,
``(dw, dh)`` the logarithm of the ratio of sizes, each times a constant weight. All shapes are fixed, and nothing
synchronizes with the host.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

RPN_DELTA_WEIGHTS = (1.0, 1.0)
"""Weights of (dx, dy) and (dw, dh) in the RPN, as in torchvision."""
REGION_DELTA_WEIGHTS = (10.0, 5.0)
"""Weights of (dx, dy) and (dw, dh) in the box head, as in torchvision."""
# As in torchvision: a predicted side is at most 1000 / 16 times its reference, so that exp() does not overflow.
MAX_LOG_SCALE = math.log(1000.0 / 16.0)


def box_areas(boxes_xyxy: Tensor) -> Tensor:
    """Areas (...) of boxes (..., 4), in square pixels."""
    return (boxes_xyxy[..., 2] - boxes_xyxy[..., 0]) * (boxes_xyxy[..., 3] - boxes_xyxy[..., 1])


def gather_boxes(boxes: Tensor, index: Tensor) -> Tensor:
    """Boxes or deltas (B, N, 4) at ``index`` (B, K) int64: (B, K, 4)."""
    return boxes.gather(1, index[..., None].expand(-1, -1, 4))


def pairwise_overlaps(first_xyxy: Tensor, second_xyxy: Tensor) -> tuple[Tensor, Tensor]:
    """Intersection area and IoU of every pair of boxes (..., N, 4) and (..., M, 4): (..., N, M) each.

    The IoU of two empty boxes is 0.
    """
    # Per coordinate: four (..., N, M) planes are faster than one (..., N, M, 2) tensor, from contiguous coordinates.
    left, top, right, bottom = second_xyxy.movedim(-1, 0).contiguous().unsqueeze(-2)  # (..., 1, M) each
    widths = torch.minimum(first_xyxy[..., 2:3], right) - torch.maximum(first_xyxy[..., 0:1], left)
    heights = torch.minimum(first_xyxy[..., 3:4], bottom) - torch.maximum(first_xyxy[..., 1:2], top)
    intersections = widths.clamp(min=0) * heights.clamp(min=0)
    unions = box_areas(first_xyxy)[..., :, None] + box_areas(second_xyxy)[..., None, :] - intersections
    return intersections, intersections / unions.clamp(min=1e-9)


def encode_boxes(boxes_xyxy: Tensor, references_xyxy: Tensor, weights: tuple[float, float]) -> Tensor:
    """Deltas (..., 4) that transform ``references_xyxy`` (..., 4) into ``boxes_xyxy`` (..., 4).

    Boxes without area (unused slots) give finite deltas, which the caller masks.
    """
    reference_sizes = (references_xyxy[..., 2:] - references_xyxy[..., :2]).clamp(min=1e-6)
    reference_centres = references_xyxy[..., :2] + 0.5 * reference_sizes
    sizes = (boxes_xyxy[..., 2:] - boxes_xyxy[..., :2]).clamp(min=1e-6)
    centres = boxes_xyxy[..., :2] + 0.5 * sizes
    shifts = (centres - reference_centres) / reference_sizes
    scales = torch.log(sizes / reference_sizes)
    # Weights stay Python numbers: copying a tensor of them to the device would synchronize.
    return torch.cat((shifts * weights[0], scales * weights[1]), dim=-1)


def decode_boxes(deltas: Tensor, references_xyxy: Tensor, weights: tuple[float, float]) -> Tensor:
    """Boxes (..., 4) from ``deltas`` (..., 4) and ``references_xyxy`` (..., 4): the inverse of :func:`encode_boxes`."""
    reference_sizes = references_xyxy[..., 2:] - references_xyxy[..., :2]
    reference_centres = references_xyxy[..., :2] + 0.5 * reference_sizes
    centres = deltas[..., :2] / weights[0] * reference_sizes + reference_centres
    half_sizes = 0.5 * torch.exp((deltas[..., 2:] / weights[1]).clamp(max=MAX_LOG_SCALE)) * reference_sizes
    return torch.cat((centres - half_sizes, centres + half_sizes), dim=-1)


def clip_boxes(boxes_xyxy: Tensor, valid_sizes: Tensor) -> Tensor:
    """Boxes (B, ..., 4) clipped to their image, whose (height, width) in pixels are ``valid_sizes`` (B, 2)."""
    limits = valid_sizes.flip(-1).repeat(1, 2).to(boxes_xyxy.dtype)
    limits = limits.view(limits.shape[0], *([1] * (boxes_xyxy.dim() - 2)), 4)
    return torch.minimum(boxes_xyxy.clamp(min=0), limits)
