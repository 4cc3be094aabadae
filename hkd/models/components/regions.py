"""RoIAlign of all regions of a batch, from all pyramid levels, in one call.

He et al., "Mask R-CNN", ICCV 2017, section 3. Values equal torchvision's ``MultiScaleRoIAlign`` with
``sampling_ratio=2`` and ``aligned=False``.

A pooled bin is the mean of 2 x 2 sample points, each interpolated bilinearly from four cells, hence a weighted sum of
16 rows of a table of all cells of all levels: these rows and their weights are the bin's *taps*. Pooling is therefore
one weighted ``embedding_bag``, and its gradient another one with the transposed weights. On a CPU this is several times
faster than torchvision's kernel, which iterates over channels. It needs neither a loop over levels nor a data-dependent
selection of regions per level, which would synchronize with the host.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from hkd.models.components.boxes import box_areas
from hkd.runtime.device import is_host_readable
from hkd.structures import RegionTaps

POOLED_SIZE = 7
"""Bins per side of a pooled region."""
SAMPLES_PER_BIN = 2
# As in torchvision's LevelMapper: keeps rounding from moving a region of exactly the canonical size one level down.
LEVEL_EPSILON = 1e-6
CANONICAL_LEVEL = 4


def region_levels(boxes_xyxy: Tensor, canonical_size: float, first_level: int, last_level: int) -> Tensor:
    """Pyramid level (...) of regions (..., 4), int64, 0 for ``first_level``.

    ``floor(4 + log2(sqrt(area) / canonical_size))``, clamped to ``first_level``..``last_level``: equation 1 of FPN (Lin
    et al., CVPR 2017) with its 224 pixels as ``canonical_size``.
    """
    sides = torch.sqrt(box_areas(boxes_xyxy))
    levels = torch.floor(CANONICAL_LEVEL + torch.log2(sides / canonical_size) + LEVEL_EPSILON)
    return levels.clamp(min=first_level, max=last_level).long() - first_level


def region_taps(levels: Sequence[Tensor], boxes_xyxy: Tensor, image_height: int, canonical_size: float) -> RegionTaps:
    """Cells and weights for pooling regions (B, R, 4), in pixels, from p2.. in ``levels`` (B, C, H_l, W_l).

    Only the sizes of ``levels`` matter, so that one result serves student and teacher.
    """
    batch = len(boxes_xyxy)
    level_of_region = region_levels(boxes_xyxy, canonical_size, 2, 1 + len(levels))
    scales, grids = (by_level[level_of_region] for by_level in _level_geometry(levels, image_height, boxes_xyxy))
    rows, columns, offsets = grids[..., 0:1], grids[..., 1:2], grids[..., 2:3]
    row_taps, row_weights = _axis_taps(boxes_xyxy[..., 1], boxes_xyxy[..., 3], scales, rows)  # (B, R, 7, 4)
    column_taps, column_weights = _axis_taps(boxes_xyxy[..., 0], boxes_xyxy[..., 2], scales, columns)
    images = torch.arange(batch, device=offsets.device, dtype=torch.int32)[:, None, None]
    first_cell = offsets + images * rows * columns
    row_starts = first_cell[..., None] + row_taps * columns[..., None]
    taps = _of_each_row(row_starts) + _of_each_column(column_taps)  # (B, R, 7, 7, 16)
    weights = _of_each_row(row_weights) * _of_each_column(column_weights)
    return RegionTaps(taps.flatten(0, 3), weights.flatten(0, 3))


def region_table(levels: Sequence[Tensor]) -> Tensor:
    """All cells of ``levels`` (B, C, H_l, W_l) as rows (cells, C), ordered by level, image, row and column."""
    return torch.cat([level.permute(0, 2, 3, 1).reshape(-1, level.shape[1]) for level in levels])


def pool_regions(table: Tensor, taps: RegionTaps) -> Tensor:
    """Features (B * R, C, 7, 7) of regions in channels-last layout: weighted sums of ``taps`` rows of a region table.

    The table may have further rows after those of the levels for which the taps were computed.
    """
    pooled: Tensor = _WeightedRowSum.apply(table, taps.cells, taps.weights.to(table.dtype))
    return pooled.view(-1, POOLED_SIZE, POOLED_SIZE, table.shape[1]).permute(0, 3, 1, 2)


def _level_geometry(levels: Sequence[Tensor], image_height: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Scales (L, 1) in cells per pixel; and rows, columns and first table row (L, 3) int32 of each level.

    Both on the device of ``like``, the scales in its dtype. Table rows exceed 2^24, where fp32 is no longer exact.
    """
    scales, grids = [], []
    offset = 0
    for level in levels:
        rows, columns = level.shape[2:]
        # As in torchvision: one power of two for both axes, inferred from the height.
        scales.append((2.0 ** round(math.log2(rows / image_height)),))
        grids.append((rows, columns, offset))
        offset += level.shape[0] * rows * columns
    # Filled on the device, number by number: copying a tensor from the host would synchronize.
    return (
        torch.stack([torch.stack([like.new_full((), number) for number in level]) for level in scales]),
        torch.stack(
            [torch.stack([like.new_full((), number, dtype=torch.int32) for number in level]) for level in grids]
        ),
    )


def _axis_taps(starts: Tensor, ends: Tensor, scales: Tensor, cells: Tensor) -> tuple[Tensor, Tensor]:
    """Cells and weights along one axis, (B, R, 7, 4) each, of regions from ``starts`` to ``ends`` (B, R), in pixels.

    Each of a bin's two sample points reads two neighbouring cells. As in torchvision's kernel, points up to one cell
    outside the level have the border's value, points further out 0.
    """
    first = starts[..., None] * scales
    length = (ends[..., None] * scales - first).clamp(min=1.0)
    samples = POOLED_SIZE * SAMPLES_PER_BIN
    steps = (torch.arange(samples, device=starts.device, dtype=starts.dtype) + 0.5) / samples
    points = first + steps * length  # (B, R, 14)
    inside = (points >= -1.0) & (points <= cells)
    points = torch.minimum(points.clamp(min=0.0), cells - 1)
    low = points.floor()
    fraction = points - low
    high = torch.minimum(low + 1, cells - 1)
    share = inside / SAMPLES_PER_BIN
    taps = torch.stack((low, high), dim=-1).to(torch.int32)
    weights = torch.stack(((1 - fraction) * share, fraction * share), dim=-1)
    shape = (*starts.shape, POOLED_SIZE, 2 * SAMPLES_PER_BIN)
    return taps.view(shape), weights.view(shape)


def _of_each_row(values: Tensor) -> Tensor:
    """(B, R, 7, 4) of the rows of bins to (B, R, 7, 1, 16): for each of a bin's 4 x 4 taps, the value of its row.

    Broadcasting (4, 1) with (1, 4) would give the same, slowly: operators iterate over the last axis.
    """
    return values.repeat_interleave(values.shape[-1], dim=-1)[:, :, :, None]


def _of_each_column(values: Tensor) -> Tensor:
    """(B, R, 7, 4) of the columns of bins to (B, R, 1, 7, 16): for each of a bin's taps, the value of its column."""
    return values.repeat(1, 1, 1, values.shape[-1])[:, :, None]


class _WeightedRowSum(torch.autograd.Function):
    """``out[i] = sum_k weights[i, k] * table[taps[i, k]]``, differentiable in ``table`` only.

    The backward pass is an ``embedding_bag`` too: autograd's own is several times slower on a CPU.
    """

    @staticmethod
    def forward(ctx: Any, table: Tensor, taps: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(taps, weights)
        ctx.table_rows = table.shape[0]
        return functional.embedding_bag(taps, table, per_sample_weights=weights, mode="sum")

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, None, None]:
        taps, weights = ctx.saved_tensors
        bins, offsets, order = _bins_of_cells(taps, ctx.table_rows)
        gradient = functional.embedding_bag(
            bins,
            gradients[0].contiguous(),
            offsets,
            per_sample_weights=weights.reshape(-1).index_select(0, order),
            mode="sum",
        )
        return gradient, None, None


def _bins_of_cells(taps: Tensor, table_rows: int) -> tuple[Tensor, Tensor, Tensor]:
    """The transpose of ``taps`` (bins, taps per bin): the bins that read each cell, cell by cell, in ascending order.

    Returns:
        Bins, one per tap, int32; the first position of each of the ``table_rows`` cells among them, int32; and the
        position in ``taps`` of each.
    """
    taps_per_bin, count = taps.shape[1], taps.numel()
    if is_host_readable(taps):
        # Imported here, so that a GPU machine needs no scipy.
        from scipy.sparse import csr_array

        # By counting, which takes less than half the time of sorting.
        starts = np.arange(0, count + 1, taps_per_bin, dtype=np.int32)
        by_bin = csr_array(
            (np.arange(count, dtype=np.int32), taps.reshape(-1).numpy(), starts), shape=(len(taps), table_rows)
        )
        by_cell = by_bin.tocsc()
        bins, offsets, order = (torch.from_numpy(part) for part in (by_cell.indices, by_cell.indptr[:-1], by_cell.data))
        return bins, offsets, order
    cells, order = torch.sort(taps.reshape(-1), stable=True)
    bins = (order // taps_per_bin).to(torch.int32)
    boundaries = torch.arange(table_rows, device=taps.device, dtype=torch.int32)
    return bins, torch.searchsorted(cells, boundaries, out_int32=True), order
