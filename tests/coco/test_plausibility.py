"""Boxes that are probably corners or fractions."""

from __future__ import annotations

import numpy as np
import pytest

from hkd.coco.notes import Note
from hkd.coco.plausibility import repeated, unit_notes

SIZE_WH = np.array([640.0, 480.0])


def notes_of(boxes: list[list[float]], size_wh: np.ndarray = SIZE_WH) -> list[Note]:
    return unit_notes(np.array(boxes, dtype=np.float64).reshape(-1, 4), size_wh, "boxes_in_other_units", "boxes")


def test_corners_are_noted() -> None:
    # Corners of 40 x 100 boxes; read as sizes, the centre of the first is at x = 500 + 540 / 2 = 770 of 640.
    (note,) = notes_of([[500, 200, 540, 300], [10, 200, 50, 300]])
    assert (note.kind, note.count) == ("boxes_in_other_units", 1)
    assert "[x1, y1, x2, y2]" in note.sentence
    assert "[500.0, 200.0, 540.0, 300.0]" in note.sentence


@pytest.mark.parametrize(
    "boxes",
    [
        [],
        [[500, 200, 40, 100], [10, 20, 40, 100]],  # pixels
        [[-30, 100, 80, 300], [600, 300, 60, 300]],  # full bodies beyond two edges, their centres inside
        [[10, 10, 600, 460]],  # one person who fills the image
        [[500, 200, 540, 300], [10, 200, 5, 300]],  # the second has a width below x: no corners
    ],
)
def test_pixels_are_not_noted(boxes: list[list[float]]) -> None:
    assert notes_of(boxes) == []


def test_corners_are_not_noted_where_sizes_are_unknown() -> None:
    assert notes_of([[500, 200, 540, 300]], np.array([[np.nan, np.nan]])) == []


def test_fractions_are_noted() -> None:
    (note,) = notes_of([[0.5, 0.25, 0.1, 0.5], [0, 0, 1, 1]])
    assert (note.kind, note.count) == ("boxes_in_other_units", 2)
    assert "fractions" in note.sentence
    # One box of more than a pixel: no fractions.
    assert notes_of([[0.5, 0.25, 0.1, 0.5], [0, 0, 1, 1.5]]) == []


def test_repetitions_are_found_in_order() -> None:
    assert repeated(["a", "b", "a", "c", "b", "a"]) == [2, 4, 5]
    assert repeated(["a", "b"]) == []
