"""The size of the network's input, from the sizes of images and people."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from hkd.coco.boxes import FloatArray
from hkd.proposal.survey import fitted_scales

DETECTABLE_HEIGHT = 48.0
"""Pixels of the network's input. Such a person is about 20 pixels wide: 12 x 5 cells at p2's stride of 4. COCO calls
objects below 32 x 32 pixels, the area of a person of 50, small; detectors lose half of their precision on them."""
LOW_QUANTILE = 0.1
"""Fraction of the people who may be smaller."""
TINY_HEIGHT = 12.0
"""Pixels of the network's input: three cells at p2's stride of 4. Smaller people are hardly detectable."""
MAX_PIXELS = 2**20
"""Pixels of the largest proposed input, about torchvision's 800 x 1333."""
_MULTIPLE = 32
_MIN_SIDE = 64
_FULL_SIZE = 0.9
"""A scale above it is raised to 1: resampling would blur the image and save less than a fifth of the pixels."""


@dataclass(frozen=True)
class InputSize:
    """A proposed size, and what it does to images and people."""

    height: int
    width: int
    image_scale: float
    """Median over the images: pixels of the input per pixel of the image."""
    low_height: float
    """:data:`LOW_QUANTILE` of the people's heights, pixels of the input."""
    limit: str
    """``people``: the smallest input at which they are detectable; ``images``: that of the images, because enlarging
    adds no detail; ``memory``: :data:`MAX_PIXELS`; ``given``: chosen by the user."""


def propose_input_size(images_wh: FloatArray, heights: FloatArray, people_images_wh: FloatArray) -> InputSize:
    """The smallest input at which nine of ten people are at least :data:`DETECTABLE_HEIGHT` pixels high.

    Its aspect ratio is the median of the images'. It is neither larger than the median image nor than
    :data:`MAX_PIXELS`.

    Args:
        images_wh: (I, 2) width and height of the images, pixels.
        heights: (N,) heights of the people to be detected, pixels of their images; at least one.
        people_images_wh: (N, 2) width and height of their images.
    """
    aspect = float(np.median(images_wh[:, 0] / images_wh[:, 1]))
    proposed = None
    height = _MIN_SIDE
    while True:
        width = min(_nearest_multiple(aspect * height), MAX_PIXELS // height // _MULTIPLE * _MULTIPLE)
        if proposed is not None and max(aspect * height, _MIN_SIDE) * height > MAX_PIXELS:
            return replace(proposed, limit="memory")
        proposed = measure_input_size(height, width, images_wh, heights, people_images_wh)
        if proposed.image_scale >= 1:
            return replace(proposed, limit="images")
        if proposed.low_height >= DETECTABLE_HEIGHT and proposed.image_scale <= _FULL_SIZE:
            return replace(proposed, limit="people")
        height += _MULTIPLE


def measure_input_size(
    height: int, width: int, images_wh: FloatArray, heights: FloatArray, people_images_wh: FloatArray
) -> InputSize:
    """Describe a given size; arguments as of :func:`propose_input_size`."""
    resized = heights * fitted_scales(people_images_wh, height, width)
    return InputSize(
        height=height,
        width=width,
        image_scale=float(np.median(fitted_scales(images_wh, height, width))),
        low_height=float(np.quantile(resized, LOW_QUANTILE)),
        limit="given",
    )


def _nearest_multiple(pixels: float) -> int:
    return max(_MIN_SIDE, round(pixels / _MULTIPLE) * _MULTIPLE)
