"""Anchors: the constant reference boxes of the region proposal network, as torchvision lays them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def cell_anchors(size: float, aspect_ratios: Sequence[float]) -> Tensor:
    """Anchors about the origin for one level, (len(aspect_ratios), 4) xyxy in pixels.

    ``size`` is the square root of an anchor's area; an aspect ratio is height over width. Corners are
    rounded to whole pixels, as torchvision's ``AnchorGenerator`` does.
    """
    ratios = torch.tensor(aspect_ratios, dtype=torch.float32)
    heights = size * torch.sqrt(ratios)
    widths = size / torch.sqrt(ratios)
    return (torch.stack((-widths, -heights, widths, heights), dim=1) / 2).round()


def grid_anchors(
    image_height: int,
    image_width: int,
    grid_sizes: Sequence[tuple[int, int]],
    sizes: Sequence[float],
    aspect_ratios: Sequence[float],
) -> Tensor:
    """All anchors of an image, (A, 4) xyxy in pixels: level by level, row by row, cell by cell, then by ratio.

    ``grid_sizes`` are the (rows, columns) of the pyramid's levels. As in torchvision a level's stride is
    the image's size over the grid's, rounded down.
    """
    levels = []
    for (rows, columns), size in zip(grid_sizes, sizes, strict=True):
        shifts_y = torch.arange(rows, dtype=torch.float32) * (image_height // rows)
        shifts_x = torch.arange(columns, dtype=torch.float32) * (image_width // columns)
        grid_y, grid_x = torch.meshgrid(shifts_y, shifts_x, indexing="ij")
        shifts = torch.stack((grid_x, grid_y, grid_x, grid_y), dim=-1).reshape(-1, 1, 4)
        levels.append((shifts + cell_anchors(size, aspect_ratios)).reshape(-1, 4))
    return torch.cat(levels)
