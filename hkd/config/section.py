"""The base class of all sections, and the ranges of their numbers."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

# Every number has an upper limit, far above what a training needs, so that a typing error or a hostile file is
# reported before anything is computed. Whether a combination fits the memory is found by trying (hkd.training.memory).
LARGEST_SIDE = 16_384
"""Of an image, pixels."""
MOST_EPOCHS = 100_000
MOST_PER_IMAGE = 10_000
"""Proposals, sampled regions or detections of an image."""
LARGEST_WEIGHT = 1e6
"""Of a loss."""

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
OpenFraction = Annotated[float, Field(gt=0.0, lt=1.0)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
SceneSide = Annotated[int, Field(ge=64, le=LARGEST_SIDE)]
InputSide = Annotated[int, Field(ge=64, le=LARGEST_SIDE, multiple_of=32)]
Epochs = Annotated[int, Field(ge=1, le=MOST_EPOCHS)]
CountPerImage = Annotated[int, Field(ge=1, le=MOST_PER_IMAGE)]
BatchSize = Annotated[int, Field(ge=1, le=65_536)]
ScaleFactor = Annotated[float, Field(ge=0.01, le=100.0)]
BoxSize = Annotated[float, Field(ge=0.1, le=LARGEST_SIDE)]
LossWeight = Annotated[float, Field(ge=0.0, le=LARGEST_WEIGHT)]


class Section(BaseModel):
    """A part of the configuration: immutable; unknown keys are errors."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=False, use_attribute_docstrings=True, allow_inf_nan=False
    )
