"""Shapes and colours of points, the same in the pages and in the files of plots."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Shape = Literal["circle", "square", "diamond", "triangle", "triangleDown"]
Hue = Literal["blue", "green", "purple", "orange", "black"]
"""Pages have a lighter and a darker colour of each; see ``style.css``."""


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
