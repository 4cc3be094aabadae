"""Tensors that travel between the parts of hkd, with their shapes.

Conventions, here and everywhere in the package:

* ``B`` images in a batch, ``H`` x ``W`` pixels; ``G`` ground-truth slots an image; ``A`` anchors;
  ``P`` proposals an image; ``S`` sampled regions an image; ``D`` detections an image; ``K`` classes,
  class 0 being the background.
* Boxes in memory are ``boxes_xyxy``: ``(x1, y1, x2, y2)`` in pixels of the network's input image,
  continuous coordinates (a box that covers one whole pixel is ``(0, 0, 1, 1)``).
* Shapes are fixed for the whole batch: unused slots hold zeros and are marked by a ``valid`` mask.
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
    """Ground truth of a batch, padded to ``G`` slots an image."""

    boxes_xyxy: Tensor
    """(B, G, 4) float32; zeros in unused slots."""
    valid: Tensor
    """(B, G) bool: the slot holds a box (an ignore region counts as a box here)."""
    ignore: Tensor
    """(B, G) bool: the box is an ignore region: neither a positive nor a negative example."""


@dataclass(frozen=True)
class Batch:
    """Images with their ground truth, on one device."""

    images: Tensor
    """(B, 3, H, W) float32 in [0, 1], RGB; zeros outside the valid size."""
    valid_sizes: Tensor
    """(B, 2) float32: height and width of the part of each image that holds picture; the rest is padding."""
    targets: Targets
    indices: Tensor
    """(B,) int64: position of each image in its store."""


@dataclass(frozen=True)
class RpnOutput:
    """What the region proposal network says of every anchor, levels concatenated p2..p6."""

    objectness: Tensor
    """(B, A) float32 logits."""
    deltas: Tensor
    """(B, A, 4) float32 box deltas (dx, dy, dw, dh)."""
    anchors_xyxy: Tensor
    """(A, 4) float32."""


@dataclass(frozen=True)
class Regions:
    """A fixed number of boxes an image, with what is known of each."""

    boxes_xyxy: Tensor
    """(B, R, 4) float32, clipped to the image."""
    scores: Tensor
    """(B, R) float32 objectness probability in [0, 1]; 1 for ground truth put among the proposals."""
    valid: Tensor
    """(B, R) bool."""


@dataclass(frozen=True)
class RegionOutput:
    """What the box head says of ``R = B * S`` regions, image-major."""

    region_features: Tensor
    """(R, C, 7, 7): RoI-aligned features, C = pyramid channels."""
    embedding: Tensor
    """(R, D): output of the second fully connected layer, after its ReLU; D = head channels."""
    class_logits: Tensor
    """(R, K)."""
    box_deltas: Tensor
    """(R, 4 * K), torchvision's layout: four deltas for each class."""


@dataclass(frozen=True)
class SampledRegions:
    """Regions drawn for training the box head, with their labels."""

    regions: Regions
    labels: Tensor
    """(B, S) int64: 0 background, 1 pedestrian; meaningless where not valid."""
    matched_boxes_xyxy: Tensor
    """(B, S, 4) float32: the ground-truth box of each positive region."""


@dataclass(frozen=True)
class RegionTaps:
    """Where RoIAlign reads: each of R * 49 bins is a weighted sum of 16 cells of a table of all pyramid levels."""

    cells: Tensor
    """(R * 49, 16) int32 rows of the table: level after level, in each image after image."""
    weights: Tensor
    """(R * 49, 16)."""


class TabledPyramid(dict[str, Tensor]):
    """A pyramid, level -> (B, C, H_l, W_l) in channels-last layout, whose levels are views of one table.

    RoIAlign reads the table as it is, where it has to make one of levels that lie apart.
    """

    def __init__(self, table: Tensor, grids: Mapping[str, tuple[int, int, int]]) -> None:
        """``table`` (cells, C): level after level, in each image after image; of each its (B, H_l, W_l)."""
        ends = list(accumulate(math.prod(grid) for grid in grids.values()))
        levels = table.tensor_split(ends[:-1])
        super().__init__(
            (name, rows.view(*grid, -1).permute(0, 3, 1, 2))
            for (name, grid), rows in zip(grids.items(), levels, strict=True)
        )
        self.table = table
        self._grids = grids

    def to(self, device: torch.device) -> TabledPyramid:
        """The same on a device; itself where it is there."""
        return self if device == self.table.device else TabledPyramid(self.table.to(device), self._grids)


@dataclass(frozen=True)
class DetectorOutput:
    """Everything one training forward makes; all losses are functions of it."""

    pyramid: dict[str, Tensor]
    """``p2`` .. ``p6`` -> (B, C, H / stride, W / stride), strides 4, 8, 16, 32, 64."""
    rpn: RpnOutput
    proposals: Regions
    sampled: SampledRegions
    region: RegionOutput
    """The box head's answers for ``sampled``, R = B * S."""
    taps: RegionTaps
    """Where it read them; a teacher of the same ``canonical_region_size`` reads its own pyramid there."""


@dataclass(frozen=True)
class Detections:
    """Final detections of a batch, best first, in pixels of the network's input."""

    boxes_xyxy: Tensor
    """(B, D, 4) float32."""
    scores: Tensor
    """(B, D) float32."""
    labels: Tensor
    """(B, D) int64, 1 for pedestrian."""
    valid: Tensor
    """(B, D) bool."""
