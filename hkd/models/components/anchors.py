"""Anchors of the region proposal network, equal to torchvision's ``AnchorGenerator``."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hkd.config import PYRAMID_STRIDES


def pyramid_grid_sizes(image_height: int, image_width: int) -> list[tuple[int, int]]:
    """(rows, columns) of p2..p6 for an image size in pixels: the size over the stride, rounded up."""
    return [(-(-image_height // stride), -(-image_width // stride)) for stride in PYRAMID_STRIDES]


def cell_anchors(size: float, aspect_ratios: Sequence[float]) -> Tensor:
    """Anchors of one level centred at the origin, (len(aspect_ratios), 4) float32 xyxy in whole pixels.

    ``size`` is the square root of the anchor's area in pixels, an aspect ratio is height / width.
    """
    ratios = torch.tensor(aspect_ratios, dtype=torch.float32)
    heights = size * torch.sqrt(ratios)
    widths = size / torch.sqrt(ratios)
    return (torch.stack((-widths, -heights, widths, heights), dim=1) / 2).round()


def grid_anchors(image_height: int, image_width: int, sizes: Sequence[float], aspect_ratios: Sequence[float]) -> Tensor:
    """All anchors of an image, (A, 4) float32 xyxy in pixels, ordered by level, row, column and aspect ratio.

    ``sizes`` has one size per level. As in torchvision, a level's stride is the image size over the grid size, rounded
    down.
    """
    levels = []
    for (rows, columns), size in zip(pyramid_grid_sizes(image_height, image_width), sizes, strict=True):
        shifts_y = torch.arange(rows, dtype=torch.float32) * (image_height // rows)
        shifts_x = torch.arange(columns, dtype=torch.float32) * (image_width // columns)
        grid_y, grid_x = torch.meshgrid(shifts_y, shifts_x, indexing="ij")
        shifts = torch.stack((grid_x, grid_y, grid_x, grid_y), dim=-1).reshape(-1, 1, 4)
        levels.append((shifts + cell_anchors(size, aspect_ratios)).reshape(-1, 4))
    return torch.cat(levels)
