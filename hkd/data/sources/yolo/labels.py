"""Lines of a label file: boxes, polygons, and boxes with key points."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from hkd.data.conversion.values import decimal

_BEYOND_EDGE = 0.01
"""Fraction of the image by which tools' rounding leads beyond its edge."""
_ROUNDING = 1e-6
_LONGEST_LINE = 1 << 20
"""Letters of an object, of which the polygon may have tens of thousands of points."""


@dataclass(frozen=True)
class LabelRow:
    """One object."""

    class_id: int
    center_x: float
    """Fractions of the image's width and height."""
    center_y: float
    width: float
    height: float
    from_polygon: bool = False
    clipped: bool = False
    """Whether a number lay beyond the image's edge."""

    def box_xywh(self, image_width: int, image_height: int) -> list[float]:
        """The box [x, y, width, height] in pixels."""
        return [
            (self.center_x - self.width / 2) * image_width,
            (self.center_y - self.height / 2) * image_height,
            self.width * image_width,
            self.height * image_height,
        ]


def parse_row(line: str, keypoints: tuple[int, int] | None) -> LabelRow | str:
    """The object of a line, or what is wrong with it.

    ``class center_x center_y width height``; the same followed by key points, if ``keypoints`` states their number and
    the numbers of each; or ``class x1 y1 x2 y2 x3 y3 ...``, a polygon, of which the bounding box is used, as
    Ultralytics does. All but the class are fractions of the image's size.
    """
    if len(line) > _LONGEST_LINE:
        return f"has {len(line):,} letters; allowed: {_LONGEST_LINE:,}"
    try:
        numbers = [decimal(column) for column in line.split()]
    except ValueError:
        numbers = []
    count = len(numbers)
    has_keypoints = keypoints is not None and count == 5 + keypoints[0] * keypoints[1]
    is_polygon = not has_keypoints and count >= 7 and count % 2 == 1
    if not all(map(math.isfinite, numbers)) or not (count == 5 or has_keypoints or is_polygon):
        return f"expected five numbers, class center_x center_y width height, or a polygon{_hint(count)}"
    if numbers[0] != int(numbers[0]) or abs(numbers[0]) > 1e9:
        return f"class {line.split(maxsplit=1)[0]} is no integer"
    fractions = numbers[1:] if is_polygon else numbers[1:5]
    if not all(-_BEYOND_EDGE <= share <= 1 + _BEYOND_EDGE for share in fractions) or (
        not is_polygon and min(fractions[2:]) < 0
    ):
        return (
            "center and size must be fractions from 0 to 1"
            + (" (pixels?)" if max(map(abs, fractions)) > 2 else "")
            + f"; up to {_BEYOND_EDGE:.0%} beyond is clipped"
        )
    inside = [min(max(share, 0.0), 1.0) if not _is_rounded(share) else share for share in fractions]
    clipped = inside != fractions
    center_x, center_y, width, height = _box_of_points(inside) if is_polygon else inside
    return LabelRow(int(numbers[0]), center_x, center_y, width, height, from_polygon=is_polygon, clipped=clipped)


def _box_of_points(numbers: Sequence[float]) -> list[float]:
    """Center and size of the bounding box of points, x and y in turn."""
    left, right = min(numbers[::2]), max(numbers[::2])
    top, bottom = min(numbers[1::2]), max(numbers[1::2])
    return [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top]


def _is_rounded(share: float) -> bool:
    return 0 <= share <= 1 + _ROUNDING


def _hint(count: int) -> str:
    if count == 6:
        return "; six numbers may be a prediction with its confidence, which is no label"
    if count > 6:
        return f"; {count} numbers may be a box with key points, of which data.yaml must state the kpt_shape"
    return ""
