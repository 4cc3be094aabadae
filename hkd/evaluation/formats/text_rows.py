"""Rows of numbers in text files of detections: one detection per line, commas or blanks between the numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from hkd.coco.detections import DetectedBoxes
from hkd.coco.notes import Note, counted_note
from hkd.coco.parsing.errors import AnnotationError
from hkd.coco.parsing.reading import read_input
from hkd.coco.parsing.records import RECORDS_NAMED
from hkd.coco.parsing.values import LARGEST_COORDINATE

LARGEST_NUMBER: Final = 2**53
"""Integers up to it are exact in float64; no video has as many frames."""
BOX_COLUMNS: Final = ("x", "y", "w", "h", "score")
YOLO_HINT: Final = (
    "seems to be YOLO's (a class, and a box in fractions of the image's size), which is not read; give COCO results, "
    "such as the predictions.json that `yolo val save_json=True` writes"
)

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class TextRows:
    """The R lines of a file that are not blank."""

    path: Path
    lines: list[int]
    """(R,) their numbers, from 1."""
    values: FloatArray
    """(R, C) one column for each name in ``columns``."""
    columns: tuple[str, ...]


def read_lines(path: Path, columns: Sequence[str]) -> list[tuple[int, str]]:
    """The lines that are not blank, with their numbers from 1; ``columns`` are named where the file is no text.

    Raises:
        AnnotationError: the file cannot be read, or is no text.
    """
    try:
        text = read_input(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        problem = f"is not text (byte {error.start}); give lines of {','.join(columns)}"
        raise AnnotationError([problem], str(path)) from None
    return [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip(" \t\r,")]


def cells_of(line: str) -> list[str]:
    """The cells of a line."""
    return line.replace(",", " ").split()


def numbers_of(line: str) -> list[float]:
    """The numbers of a line, empty if any cell is none."""
    # Python's float() also accepts 1_0 and digits of other scripts.
    if not line.isascii() or "_" in line:
        return []
    try:
        return [float(cell) for cell in cells_of(line)]
    except ValueError:
        return []


def looks_like_yolo(lines: Sequence[tuple[int, str]]) -> bool:
    """Whether all lines are a whole number and four or five fractions, as YOLO's labels and predictions are."""
    rows = [numbers_of(line) for _, line in lines]
    return bool(rows) and all(
        len(row) in (5, 6) and row[0].is_integer() and 0 <= row[0] < 1000 and all(0 <= value <= 1 for value in row[1:])
        for row in rows
    )


def read_rows(
    path: Path, lines: Sequence[tuple[int, str]], columns: Sequence[str], last_image: int | None = None
) -> TextRows:
    """The numbers of lines, one for each column, checked.

    Args:
        path: Of their file.
        lines: With their numbers.
        columns: :data:`BOX_COLUMNS` and others; a column ``image`` or ``frame`` counts from 1.
        last_image: The largest number in it; None: any.

    Raises:
        AnnotationError: naming every kind of mistake and its lines.
    """
    rows, problems = parse_rows(path, lines, columns)
    if problems := [*problems, *value_problems(rows, last_image)]:
        raise AnnotationError(problems, str(path))
    return rows


def parse_rows(path: Path, lines: Sequence[tuple[int, str]], columns: Sequence[str]) -> tuple[TextRows, list[str]]:
    """The unchecked numbers of the lines that have one for each column, and a sentence about the other lines."""
    kept: list[int] = []
    rows: list[list[float]] = []
    unreadable: list[str] = []
    for number, line in lines:
        row = numbers_of(line)
        if len(row) == len(columns):
            kept.append(number)
            rows.append(row)
        else:
            unreadable.append(f"line {number} has {shortened(line)}")
    problems = []
    if unreadable:
        problems.append(
            f"each line must have {len(columns)} numbers, {','.join(columns)}, but {some(unreadable)}; correct or "
            "remove the lines"
        )
    values = np.array(rows, dtype=np.float64).reshape(-1, len(columns))
    return TextRows(path, kept, values, tuple(columns)), problems


def value_problems(rows: TextRows, last_image: int | None = None) -> list[str]:
    """A sentence for each column with values that are not allowed."""
    by_name = dict(zip(rows.columns, rows.values.T, strict=True))
    last = LARGEST_NUMBER if last_image is None else last_image
    images = "" if last_image is None else f" to {last_image}, the number of images of the ground truth"
    # NaN fails every comparison.
    checks: list[tuple[str, str, BoolArray]] = [
        (name, f"{name} must be an integer from 1{images}", (v >= 1) & (v <= last) & (v == np.floor(v)))
        for name, v in by_name.items()
        if name in ("image", "frame")
    ]
    x, y, width, height, score = (by_name[name] for name in BOX_COLUMNS)
    checks += [
        ("x", "x must be pixels from -1e9 to 1e9", np.abs(x) <= LARGEST_COORDINATE),
        ("y", "y must be pixels from -1e9 to 1e9", np.abs(y) <= LARGEST_COORDINATE),
        ("w", "w must be pixels from 0 to 1e9", (width >= 0) & (width <= LARGEST_COORDINATE)),
        ("h", "h must be pixels from 0 to 1e9", (height >= 0) & (height <= LARGEST_COORDINATE)),
        ("score", "score must be a finite number", np.isfinite(score)),
    ]
    problems = []
    for name, requirement, is_right in checks:
        if not is_right.all():
            wrong = [f"line {rows.lines[i]} has {by_name[name][i]:.15g}" for i in np.flatnonzero(~is_right)]
            problems.append(f"{requirement}, but {some(wrong)}; correct or remove the lines")
    return problems


def boxes_of(image_index: IntArray, rows: FloatArray, source: Path, notes: Sequence[Note] = ()) -> DetectedBoxes:
    """Detections with (R, 5) ``rows`` of :data:`BOX_COLUMNS`; those without an area are left out, with a note."""
    has_area = (rows[:, 2:4] > 0).all(axis=1)
    empty = [str(row) for row in rows[~has_area].tolist()]
    sentence = f"{source}: left out {{count}} of {len(rows):,} detections, whose boxes have no area (first: {{first}})"
    return DetectedBoxes(
        image_index[has_area],
        rows[has_area, :4],
        rows[has_area, 4],
        (*notes, *counted_note("detections_without_area", empty, sentence)),
    )


def some(items: Sequence[str]) -> str:
    """The first few items, and the number of the others."""
    more = [] if len(items) <= RECORDS_NAMED else [f"and {len(items) - RECORDS_NAMED:,} more"]
    return ", ".join([*items[:RECORDS_NAMED], *more])


def shortened(content: str) -> str:
    """A line for messages."""
    text = repr(content.strip())
    return text if len(text) <= 60 else f"{text[:57]}..."
