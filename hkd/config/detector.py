"""Architecture of detectors: the student's, and what the teacher's has in common with it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from hkd.config.section import BoxSize, CountPerImage, OpenFraction, ScaleFactor, Section

PYRAMID_LEVELS = ("p2", "p3", "p4", "p5", "p6")
"""Levels of every detector's feature pyramid, finest first."""
PYRAMID_STRIDES = (4, 8, 16, 32, 64)
"""Stride of each level, pixels."""

SELECTED_FROM_TEACHER = "teacher"
"""Value of ``student.init_from``."""


class DetectorConfig(Section):
    """Architecture of a two-stage FPN detector."""

    backbone: Literal["resnet18", "resnet34", "resnet50"] = "resnet18"
    width_multiplier: Annotated[float, Field(ge=0.125, le=2.0)] = 0.5
    """Factor on the backbone's channels, which are rounded to a multiple of 8."""
    pyramid_channels: Annotated[int, Field(ge=8, le=1024, multiple_of=8)] = 64
    """Channels of pyramid levels p2..p6."""
    head_channels: Annotated[int, Field(ge=16, le=4096, multiple_of=8)] = 128
    """Width of the box head's two fully connected layers."""
    norm: Literal["batch", "frozen_batch"] = "batch"
    """Batch normalization; ``frozen_batch`` keeps the loaded statistics and scales, as torchvision's detectors do."""
    anchor_sizes: Annotated[tuple[BoxSize, ...], Field(min_length=5, max_length=5)] = (
        13.0,
        23.0,
        41.0,
        72.0,
        113.0,
    )
    """Square root of the anchor area at p2..p6, pixels of the network's input (torchvision: 32, 64, ..., 512)."""
    anchor_aspect_ratios: Annotated[tuple[ScaleFactor, ...], Field(min_length=1, max_length=32)] = (2.44,)
    """Height / width of the anchors at each level; 2.44 = 1 / 0.41 fits pedestrians (Dollar et al., 2012)."""
    canonical_region_size: BoxSize = 56.0
    """Square root of the area of regions pooled from p4, pixels (FPN, equation 1; torchvision: 224)."""
    pre_nms_proposals_per_level: CountPerImage = 128
    """Proposals of a pyramid level before non-maximum suppression."""
    proposals_per_image: CountPerImage = 64
    """Proposals of an image that reach the box head (P); FLOPs are counted at this number."""
    proposal_nms_iou: OpenFraction = 0.7
    """IoU threshold of non-maximum suppression of proposals."""


def have_equal_blocks(first: DetectorConfig, second: DetectorConfig) -> bool:
    """Whether the backbones are of one family: basic blocks (ResNet-18 and 34) or bottlenecks (ResNet-50)."""
    return (first.backbone == "resnet50") == (second.backbone == "resnet50")


def have_equal_anchors(first: DetectorConfig, second: DetectorConfig) -> bool:
    """Whether the outputs of the two RPNs mean the same boxes."""
    return (first.anchor_sizes, first.anchor_aspect_ratios) == (second.anchor_sizes, second.anchor_aspect_ratios)


class StudentConfig(DetectorConfig):
    """The small detector that is trained, evaluated and shipped."""

    init_from: Literal["teacher"] | Path | None = None
    """First weights. ``teacher``: selected from the teacher's channels (hkd.models.weight_selection); a file: copied or
    selected from a detector, or from a classification ResNet of the same backbone; null: random."""
    backbone_from: Path | None = None
    """A classification ResNet of the student's own backbone, whose weights its backbone starts from, beside
    ``init_from`` null or ``teacher``. Needed with ``teacher`` if the teacher's backbone is of another family: ResNet-18
    and 34 are one, ResNet-50 another."""

    reconstruction_images: Annotated[int, Field(ge=0, le=10_000)] = 64
    """With ``init_from: teacher``: training images on which each layer is fitted to the outputs of the teacher's layer
    by least squares, before the first step (hkd.models.reconstruction); fewer of large images, 5 megapixels in all.
    0: the selected weights are used as they are."""

    @model_validator(mode="after")
    def _one_file_for_the_backbone(self) -> Self:
        if isinstance(self.init_from, Path) and self.backbone_from is not None:
            raise ValueError(
                f"init_from ({self.init_from}) and backbone_from ({self.backbone_from}) are two files for the backbone;"
                " set init_from to teacher or null, or remove backbone_from"
            )
        return self
