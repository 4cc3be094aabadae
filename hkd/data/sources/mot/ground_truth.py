"""Rows and classes of MOT Challenge's ``gt.txt``; the format: :mod:`hkd.data.sources.mot.convert`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hkd.data.conversion.file_formats.text_file import PROBLEMS_PER_FILE, read_lines
from hkd.data.conversion.values import decimal

CLASSES = (
    *("", "pedestrian", "person on vehicle", "car", "bicycle", "motorbike", "non-motorized vehicle", "static person"),
    *("distractor", "occluder", "occluder on the ground", "full occluder", "reflection", "crowd"),
)
"""Names by number."""
_UNNAMED = "no class"
"""Of boxes with the class -1, as CVAT writes it."""
_LARGEST_NUMBER = 1e9


@dataclass(frozen=True)
class Row:
    """A line of ``gt.txt``."""

    frame: int
    box_xywh: list[float]
    """Pixels, counted from 0."""
    is_considered: bool
    class_name: str
    visibility: float | None
    """Visible share of the person; None where the file has none."""
    identity: int
    line: int
    """Its number, from 1."""


@dataclass(frozen=True)
class Labels:
    """The classes of a sequence."""

    names: tuple[str, ...]
    """By number; the first is of no class."""
    first_pixel: int
    """Coordinate of the image's left and upper edge."""


def read_labels(path: Path, root: Path, problems: list[str]) -> Labels:
    """The classes that ``gt/labels.txt`` names; those of MOT Challenge if there is no such file."""
    if not path.is_file():
        return Labels(CLASSES, 1)
    lines = read_lines(path, path.relative_to(root).as_posix(), problems)
    return Labels((_UNNAMED, *(line.strip() for line in lines if line.strip())), 0)


def read_rows(path: Path, where: str, labels: Labels, problems: list[str]) -> list[Row]:
    """The rows of ``gt.txt``; ``problems`` gets a sentence for each malformed line."""
    rows = []
    num_problems = len(problems)
    for number, line in enumerate(read_lines(path, where, problems), 1):
        if len(problems) - num_problems == PROBLEMS_PER_FILE:
            break
        if line.strip():
            row = _row(line.strip(), number, labels)
            if isinstance(row, str):
                problems.append(f"{where}, line {number}: found {line.strip()[:80]!r}; {row}")
            else:
                rows.append(row)
    return rows


def rows_of_frames(rows: Sequence[Row], frames: dict[int, Path], where: str, problems: list[str]) -> list[Row]:
    """The rows whose frame exists and whose identity is not in this frame already; others are added to ``problems``."""
    seen: dict[tuple[int, int], int] = {}
    kept = []
    absent: dict[int, int] = {}
    num_problems = len(problems)
    for row in rows:
        if len(problems) - num_problems == PROBLEMS_PER_FILE:
            break
        first = seen.setdefault((row.frame, row.identity), row.line)
        if row.frame not in frames:
            absent.setdefault(row.frame, row.line)
        elif first != row.line and row.identity > 0:  # CVAT's boxes of no track have the identity -1
            problems.append(
                f"{where}, line {row.line}: identity {row.identity} is twice in frame {row.frame}, first in line"
                f" {first}; correct or remove one of the lines"
            )
        else:
            kept.append(row)
    if absent:
        frame, line = next(iter(absent.items()))
        problems.append(
            f"{where}: has boxes in {len(absent):,} frames that do not exist (first: frame {frame}, line {line}); there"
            f" are {len(frames):,} frames, from {min(frames)} to {max(frames)}; add the frames, or remove the lines"
        )
    return kept


def _row(line: str, number: int, labels: Labels) -> Row | str:
    """The row of a line, or what is wrong with it."""
    cells = [cell.strip() for cell in line.rstrip(", ").split(",")]
    try:
        numbers = [decimal(cell) for cell in cells]
    except ValueError:
        numbers = []
    if not 6 <= len(numbers) <= 10 or not all(abs(value) <= _LARGEST_NUMBER for value in numbers):
        return "expected the numbers frame, id, left, top, width, height, consider, class, visibility"
    frame, identity, left, top, width, height, *rest = numbers
    if len(numbers) == 10:  # MOT15: the position in the world instead of class and visibility
        rest = rest[:1]
    consider, class_id, visibility = (*rest, *(1.0, 1.0, math.nan)[len(rest) :])
    if consider not in (0, 1):
        return "consider (column 7) must be 0 or 1; is this a file of detections with scores?"
    if any(value != int(value) for value in (frame, identity, class_id)):
        return "frame, id and class must be integers"
    if not 1 <= class_id < len(labels.names) and class_id != -1:
        return f"class (column 8) must be from 1 to {len(labels.names) - 1}"
    if visibility < 0 or visibility > 1:
        return "visibility (column 9) must be from 0 to 1"
    return Row(
        frame=int(frame),
        box_xywh=[left - labels.first_pixel, top - labels.first_pixel, width, height],
        is_considered=consider == 1,
        class_name=labels.names[int(class_id)] if class_id > 0 else _UNNAMED,
        visibility=None if math.isnan(visibility) else visibility,
        identity=int(identity),
        line=number,
    )
