"""RoIAlign of every region of a batch from the whole pyramid in one call.

He et al., *Mask R-CNN*, ICCV 2017; the level of a region is FPN's equation 1. Values equal torchvision's
``MultiScaleRoIAlign`` (``sampling_ratio=2``, ``aligned=False``).

A pooled bin is the mean of 2 x 2 sample points, each a bilinear mix of four cells: a weighted sum of 16 rows
of one table that holds the cells of all levels. So pooling is a single weighted embedding-bag, and so is its
gradient (the same sum, transposed). On a CPU that is several times faster than torchvision's kernel, which
walks channel by channel; it needs neither a loop over levels nor a choice of regions per level, which would
make the host wait.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from hkd.structures import RegionTaps

POOLED_SIZE = 7
"""Bins along each side of a pooled region."""
_SAMPLES_PER_BIN = 2
# torchvision's LevelMapper: added so that a region of exactly the canonical size does not fall a level low.
_LEVEL_EPSILON = 1e-6
_CANONICAL_LEVEL = 4


def region_levels(boxes_xyxy: Tensor, canonical_size: float, first_level: int, last_level: int) -> Tensor:
    """Pyramid level (int64, counted from 0 = ``first_level``) of regions (..., 4): (...).

    ``floor(4 + log2(sqrt(area) / canonical_size))``, kept within the levels there are.
    """
    sides = torch.sqrt((boxes_xyxy[..., 2] - boxes_xyxy[..., 0]) * (boxes_xyxy[..., 3] - boxes_xyxy[..., 1]))
    levels = torch.floor(_CANONICAL_LEVEL + torch.log2(sides / canonical_size) + _LEVEL_EPSILON)
    return levels.clamp(min=first_level, max=last_level).long() - first_level


def region_taps(levels: Sequence[Tensor], boxes_xyxy: Tensor, image_height: int, canonical_size: float) -> RegionTaps:
    """Where regions (B, R, 4) are read from ``levels`` of these sizes, whatever their channels."""
    batch = len(boxes_xyxy)
    level_of_region = region_levels(boxes_xyxy, canonical_size, 2, 1 + len(levels))
    scales, grids = (of_levels[level_of_region] for of_levels in _level_geometry(levels, image_height, boxes_xyxy))
    rows, columns, offsets = grids[..., 0:1], grids[..., 1:2], grids[..., 2:3]
    row_taps, row_weights = _axis_taps(boxes_xyxy[..., 1], boxes_xyxy[..., 3], scales, rows)  # (B, R, 7, 4)
    column_taps, column_weights = _axis_taps(boxes_xyxy[..., 0], boxes_xyxy[..., 2], scales, columns)
    images = torch.arange(batch, device=offsets.device, dtype=torch.int32)[:, None, None]
    first_cell = offsets + images * rows * columns
    row_starts = first_cell[..., None] + row_taps * columns[..., None]
    taps = row_starts[:, :, :, None, :, None] + column_taps[:, :, None, :, None, :]  # (B, R, 7, 7, 4, 4)
    weights = row_weights[:, :, :, None, :, None] * column_weights[:, :, None, :, None, :]
    taps_per_bin = taps.shape[-1] * taps.shape[-2]
    return RegionTaps(taps.reshape(-1, taps_per_bin), weights.reshape(-1, taps_per_bin))


def region_table(levels: Sequence[Tensor]) -> Tensor:
    """The cells of ``levels`` (B, C, H_l, W_l) as rows (cells, C): level after level, in each image after image."""
    return torch.cat([level.permute(0, 2, 3, 1).reshape(-1, level.shape[1]) for level in levels])


def pool_regions(table: Tensor, taps: RegionTaps) -> Tensor:
    """Pool regions (B, R) from a :func:`region_table`, at ``taps``: (B * R, C, 7, 7) in channels-last layout.

    The table may hold more rows than the levels for which the taps were made, after theirs.
    """
    pooled: Tensor = _WeightedRowSum.apply(table, taps.cells, taps.weights.to(table.dtype))
    return pooled.view(-1, POOLED_SIZE, POOLED_SIZE, table.shape[1]).permute(0, 3, 1, 2)


def _level_geometry(levels: Sequence[Tensor], image_height: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Scale (L, 1) of each level, cells a pixel; and its rows, columns and first row in the table (L, 3), int32, for
    floating numbers end at 2^24. On the device, and the scales in the type, of ``like``.
    """
    scales, grids = [], []
    offset = 0
    for level in levels:
        rows, columns = level.shape[2:]
        # torchvision infers one power of two for both axes from the first.
        scales.append((2.0 ** round(math.log2(rows / image_height)),))
        grids.append((rows, columns, offset))
        offset += level.shape[0] * rows * columns
    # Filled in on the device, number by number: a finished tensor would have to be sent there, and waited for.
    return (
        torch.stack([torch.stack([like.new_full((), number) for number in level]) for level in scales]),
        torch.stack(
            [torch.stack([like.new_full((), number, dtype=torch.int32) for number in level]) for level in grids]
        ),
    )


def _axis_taps(starts: Tensor, ends: Tensor, scales: Tensor, cells: Tensor) -> tuple[Tensor, Tensor]:
    """Cells and weights along one axis for each bin: ``starts``, ``ends`` (B, R) pixels -> two (B, R, 7, 4).

    Each of a bin's two sample points touches two neighbouring cells. Points up to one cell outside take the
    border's value, points further out count as 0, as in torchvision's kernel.
    """
    begin = starts[..., None] * scales
    length = (ends[..., None] * scales - begin).clamp(min=1.0)
    samples = POOLED_SIZE * _SAMPLES_PER_BIN
    steps = (torch.arange(samples, device=starts.device, dtype=starts.dtype) + 0.5) / samples
    points = begin + steps * length  # (B, R, 14)
    inside = (points >= -1.0) & (points <= cells)
    points = torch.minimum(points.clamp(min=0.0), cells - 1)
    low = points.floor()
    fraction = points - low
    high = torch.minimum(low + 1, cells - 1)
    share = inside / _SAMPLES_PER_BIN
    taps = torch.stack((low, high), dim=-1).to(torch.int32)
    weights = torch.stack(((1 - fraction) * share, fraction * share), dim=-1)
    shape = (*starts.shape, POOLED_SIZE, 2 * _SAMPLES_PER_BIN)
    return taps.view(shape), weights.view(shape)


class _WeightedRowSum(torch.autograd.Function):
    """``out[i] = sum_k weights[i, k] * table[taps[i, k]]``; gradient for ``table`` alone.

    Both directions are embedding-bags: autograd's own backward of one is several times slower on a CPU.
    """

    @staticmethod
    def forward(ctx: Any, table: Tensor, taps: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(taps, weights)
        ctx.table_rows = table.shape[0]
        return functional.embedding_bag(taps, table, per_sample_weights=weights, mode="sum")

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, None, None]:
        taps, weights = ctx.saved_tensors
        # Group the pairs (bin, cell) by cell: each cell's gradient is then one bag of bins.
        cells, order = torch.sort(taps.reshape(-1))
        bins = (order // taps.shape[1]).to(torch.int32)
        boundaries = torch.arange(ctx.table_rows, device=taps.device, dtype=torch.int32)
        offsets = torch.searchsorted(cells, boundaries, out_int32=True)
        gradient = functional.embedding_bag(
            bins, gradients[0].contiguous(), offsets, per_sample_weights=weights.reshape(-1)[order], mode="sum"
        )
        return gradient, None, None
