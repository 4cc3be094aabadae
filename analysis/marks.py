"""Shapes and colours of points, the same in the pages and in the files of plots."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

Shape = Literal["circle", "square", "diamond", "triangle", "triangleDown"]
Hue = Literal["blue", "green", "purple", "orange", "black"]
COLOURS: Final[Mapping[Hue, str]] = {
    "blue": "#0069a8",
    "green": "#00734f",
    "purple": "#93457a",
    "orange": "#b84a00",
    "black": "#1a1d21",
}
"""On white, as of the page in light mode (``style.css``, which has lighter ones for dark mode): Okabe and Ito's hues,
distinguishable with any colour vision, at a contrast of 5:1 and more."""
GREY: Final = "#6a737d"
"""Of points off the front, and of intervals."""


@dataclass(frozen=True)
class Mark:
    """How the points of one kind look."""

    shape: Shape
    hue: Hue


UNDISTILLED: Final = Mark("diamond", "purple")
OTHER_BASELINE: Final = Mark("square", "green")
STUDIES: Final = (
    Mark("circle", "blue"),
    Mark("square", "green"),
    Mark("diamond", "purple"),
    Mark("triangle", "orange"),
    Mark("triangleDown", "black"),
)
"""Of the studies in a comparison, in their order; further ones begin again."""


def baseline_mark(*, is_distilled: bool) -> Mark:
    """The mark of a baseline."""
    return OTHER_BASELINE if is_distilled else UNDISTILLED
