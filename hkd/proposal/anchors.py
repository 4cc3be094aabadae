"""Anchors of the region proposal network, from the boxes as the network sees them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hkd.coco.boxes import FloatArray
from hkd.config import PYRAMID_LEVELS

LOW_PERCENT = 10
HIGH_PERCENT = 98
GROWTH_RANGE = (1.8, 2.0)
"""Growth of the anchors from one level to the next. Strides double: with anchors between the quantiles of the boxes,
those of coarse levels would be small for their stride and miss more boxes (tests/proposal/test_real_data.py)."""
_ASPECT_RANGE = (0.1, 10.0)
"""Of height / width; boxes beyond are mistakes or slivers at an image's edge."""
_WIDE_SPREAD = 2.0
"""Ratio of the 90th to the 10th percentile of height / width from which one aspect ratio is not enough: at its square
root, the IoU of two boxes of the same area is 0.71."""


@dataclass(frozen=True)
class Anchors:
    """Proposed anchors of teacher and student."""

    sizes: tuple[int, ...]
    """Square root of the area at p2..p6, pixels of the network's input."""
    aspect_ratios: tuple[float, ...]
    """Height / width."""


def propose_anchors(boxes_wh: FloatArray) -> Anchors:
    """Anchors for boxes (N, 2) of width and height in pixels of the network's input; at least one.

    p2 has the 10th percentile of the square roots of their areas; the size grows by a factor of 1.8 from level to
    level, or by up to 2 if the 98th percentile needs it. The aspect ratio is the median of height / width; if that
    varies widely, there are three: the medians of the lower, the middle and the upper third.
    """
    roots = np.sqrt(boxes_wh.prod(axis=1))
    low, high = np.percentile(roots, (LOW_PERCENT, HIGH_PERCENT))
    steps = len(PYRAMID_LEVELS) - 1
    growth = float(np.clip((high / low) ** (1 / steps), *GROWTH_RANGE))
    ratios = np.clip(boxes_wh[:, 1] / boxes_wh[:, 0], *_ASPECT_RANGE)
    narrow, wide = np.percentile(ratios, (10, 90))
    percents = (100 / 6, 50, 500 / 6) if wide / narrow > _WIDE_SPREAD else (50,)
    return Anchors(
        sizes=tuple(max(1, round(float(low) * growth**step)) for step in range(steps + 1)),
        aspect_ratios=tuple(round(float(ratio), 2) for ratio in np.percentile(ratios, percents)),
    )
