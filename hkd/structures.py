"""Tensors that the parts of hkd exchange, with shapes, units and dtypes.

Conventions of the whole package:

* ``B`` images per batch, ``H`` x ``W`` pixels; per image ``G`` ground-truth slots, ``A`` anchors, ``P`` proposals,
  ``S`` sampled regions and ``D`` detections; ``K`` classes, class 0 is the background.
* ``boxes_xyxy`` are ``(x1, y1, x2, y2)`` in pixels of the network's input image, in continuous coordinates: a box that
  covers exactly one pixel is ``(0, 0, 1, 1)``.
* Shapes are fixed for a whole batch: unused slots hold zeros and have ``valid`` set to False.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor


@dataclass(frozen=True)
class Targets:
    """Ground truth of a batch, padded to ``G`` slots per image."""

    boxes_xyxy: Tensor
    """(B, G, 4) float32; zeros in unused slots."""
    valid: Tensor
    """(B, G) bool: the slot holds a box, which may be an ignore region."""
    ignore: Tensor
    """(B, G) bool: the box is an ignore region: neither a positive nor a negative example."""


@dataclass(frozen=True)
class Batch:
    """Images with their ground truth, on one device."""

    images: Tensor
    """(B, 3, H, W) float32 in [0, 1], RGB; zeros outside the valid size."""
    valid_sizes: Tensor
    """(B, 2) float32: height and width of each image without its padding, in pixels."""
    targets: Targets


@dataclass(frozen=True)
class RpnOutput:
    """Outputs of the region proposal network for every anchor, concatenated over levels p2..p6."""

    objectness: Tensor
    """(B, A) float32 logits."""
    deltas: Tensor
    """(B, A, 4) float32 box deltas (dx, dy, dw, dh)."""
    anchors_xyxy: Tensor
    """(A, 4) float32."""


@dataclass(frozen=True)
class Regions:
    """A fixed number of boxes per image."""

    boxes_xyxy: Tensor
    """(B, R, 4) float32, clipped to the image."""
    scores: Tensor
    """(B, R) float32 objectness probability in [0, 1]; 1 for ground truth appended to the proposals."""
    valid: Tensor
    """(B, R) bool."""


@dataclass(frozen=True)
class RegionOutput:
    """Outputs of the box head for ``R = B * S`` regions, image by image."""

    region_features: Tensor
    """(R, C, 7, 7): features after RoIAlign, C = pyramid channels."""
    embedding: Tensor
    """(R, D): output of the second fully connected layer after its ReLU, D = head channels."""
    class_logits: Tensor
    """(R, K), at least float32."""
    box_deltas: Tensor
    """(R, 4 * K), at least float32, in torchvision's layout: four deltas per class."""


@dataclass(frozen=True)
class SampledRegions:
    """Regions sampled for training the box head, with their labels."""

    regions: Regions
    labels: Tensor
    """(B, S) int64: 0 background, 1 pedestrian; undefined where not valid."""
    matched_boxes_xyxy: Tensor
    """(B, S, 4) float32: ground-truth box of each positive region."""


@dataclass(frozen=True)
class RegionTaps:
    """Cells that RoIAlign reads and their weights, called taps as those of a filter.

    Each of R * 49 bins is a weighted sum of 16 cells of p2..p5.
    """

    cells: Tensor
    """(R * 49, 16) int32: rows of the cell table of :func:`hkd.models.components.regions.region_table`."""
    weights: Tensor
    """(R * 49, 16): bilinear weight of each cell, 0 outside the image."""


class TabledPyramid(dict[str, Tensor]):
    """A pyramid, level -> (B, C, H_l, W_l) in channels-last layout, whose levels are views of one cell table.

    RoIAlign reads this table directly instead of concatenating the levels.
    """

    def __init__(self, table: Tensor, grids: Mapping[str, tuple[int, int, int]]) -> None:
        """``table`` (cells, C) is ordered by level, then image, row and column; ``grids``: level -> (B, H_l, W_l)."""
        ends = list(accumulate(math.prod(grid) for grid in grids.values()))
        levels = table.tensor_split(ends[:-1])
        super().__init__(
            (name, rows.view(*grid, -1).permute(0, 3, 1, 2))
            for (name, grid), rows in zip(grids.items(), levels, strict=True)
        )
        self.table = table
        self._grids = grids

    def to(self, device: torch.device) -> TabledPyramid:
        """The pyramid on ``device``; the same object if it is on that device already."""
        return self if device == self.table.device else TabledPyramid(self.table.to(device), self._grids)


@dataclass(frozen=True)
class DetectorOutput:
    """Results of one training forward that the losses, distillation's included, are computed from."""

    pyramid: dict[str, Tensor]
    """``p2`` .. ``p6`` -> (B, C, H / stride, W / stride), strides 4, 8, 16, 32, 64."""
    rpn: RpnOutput
    proposals: Regions
    sampled: SampledRegions
    region: RegionOutput
    """Outputs of the box head for ``sampled``, R = B * S."""
    taps: RegionTaps
    """Cells read for ``sampled``. A teacher with the same ``canonical_region_size`` reads the same cells of its own
    pyramid."""


@dataclass(frozen=True)
class Detections:
    """Final detections of a batch, by descending score."""

    boxes_xyxy: Tensor
    """(B, D, 4) float32."""
    scores: Tensor
    """(B, D) float32."""
    labels: Tensor
    """(B, D) int64, 1 for pedestrian."""
    valid: Tensor
    """(B, D) bool."""


def evenly_spaced(count: int, total: int) -> Tensor:
    """(count,) indices of ``total`` channels: the first of each of ``count`` intervals of equal length.

    Which channels of a larger network a smaller one starts from, see :mod:`hkd.models.weight_selection`.

    Raises:
        ValueError: there are fewer than ``count`` channels.
    """
    if count > total:
        raise ValueError(f"cannot select {count} of {total} channels")
    return torch.arange(count) * total // count
