"""Text files of "PASCAL Annotation Version 1.00", which INRIA Person and Penn-Fudan use: one file per image.

Lines that are read are ``Image filename``, ``Image size``, ``Objects with ground truth``, ``Bounding box`` and the
comment ``# Top left pixel co-ordinates``, which states what the first pixel is: (1, 1), also by default, or (0, 0).
Corners are inclusive: a box (Xmin, Ymin) - (Xmax, Ymax) covers ``Xmax - Xmin + 1`` columns.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from hkd.bounded_files import read_bounded

LARGEST_FILE_BYTES = 1 << 20
"""Of the annotation file of one image."""
_FILE_NAME = re.compile(r'Image filename : "(.+)"')
_IMAGE_SIZE = re.compile(r"Image size \(X x Y x C\) : (\d{1,9}) x (\d{1,9}) x \d+")
_OBJECT_COUNT = re.compile(r"Objects with ground truth : (\d{1,9})(?!\d)")
_BOX = re.compile(
    r'Bounding box for object \d+ ".*" \(Xmin, Ymin\) - \(Xmax, Ymax\) : '
    r"\((-?\d{1,9}), (-?\d{1,9})\) - \((-?\d{1,9}), (-?\d{1,9})\)"
)
_ORIGIN = re.compile(r"# Top left pixel co-ordinates : \(([01]), \1\)")
_KINDS_OF_LINE = (
    ("Image filename", _FILE_NAME, 'Image filename : "FOLDER/NAME.png"'),
    ("Image size", _IMAGE_SIZE, "Image size (X x Y x C) : 559 x 536 x 3"),
    ("Objects with ground truth", _OBJECT_COUNT, "Objects with ground truth : 2 { ... }"),
    ("# Top left pixel", _ORIGIN, "# Top left pixel co-ordinates : (1, 1)"),
    ("Bounding box", _BOX, 'Bounding box for object 1 "..." (Xmin, Ymin) - (Xmax, Ymax) : (160, 182) - (302, 431)'),
)
"""Prefix, pattern and example of each kind of line that is read; other lines are skipped."""
_REQUIRED = ("Image filename", "Image size", "Objects with ground truth")


@dataclass(frozen=True)
class PascalBox:
    """One bounding box."""

    line: int
    """Its line in the file, from 1."""
    corners: tuple[int, int, int, int]
    """As written: Xmin, Ymin, Xmax, Ymax."""
    bbox: list[int]
    """[x, y, width, height], pixels counted from 0; without area if the corners are the wrong way round."""


@dataclass(frozen=True)
class PascalFile:
    """The annotations of one image."""

    image_name: str
    """Name of the image without its folder, as written."""
    width: int
    height: int
    boxes: tuple[PascalBox, ...]
    first_pixel: int
    """Coordinate of the first column and row: 0 or 1."""


def read_pascal_text(path: Path, where: str, problems: list[str]) -> PascalFile | None:
    """Read one file; None if it is invalid.

    Args:
        path: Of the file.
        where: Its name in messages.
        problems: Gets a sentence for each malformed or missing line.
    """
    try:
        # Latin-1 decodes any byte; the lines that are read are ASCII, but for names.
        text = read_bounded(path, LARGEST_FILE_BYTES).decode("latin-1")
    except OSError as error:
        problems.append(f"{where}: cannot be read ({error.strerror})")
        return None
    faults: list[str] = []
    found = _matching_lines(text, where, faults)
    for prefix, _, example in _KINDS_OF_LINE:
        count = len(found[prefix])
        if not faults and prefix in _REQUIRED and count != 1:
            problems.append(f"{where} has {count} lines '{prefix}'; expected one, as in: {example}")
    if faults or any(len(found[prefix]) != 1 for prefix in _REQUIRED):
        problems += faults
        return None
    (_, name), (size_line, size), (count_line, stated) = (found[prefix][0] for prefix in _REQUIRED)
    width, height = int(size[1]), int(size[2])
    if min(width, height) < 1:
        problems.append(f"{where}, line {size_line}: an image of {width} x {height} pixels; each must be at least 1")
        return None
    origins = {int(match[1]) for _, match in found["# Top left pixel"]} or {1}
    if len(origins) > 1:
        problems.append(f"{where} states two '# Top left pixel co-ordinates', (0, 0) and (1, 1); remove one")
        return None
    (first_pixel,) = origins
    boxes = tuple(_box(line, match, first_pixel) for line, match in found["Bounding box"])
    if int(stated[1]) != len(boxes):
        problems.append(
            f"{where}, line {count_line}: {stated[1]} objects announced, {len(boxes)} boxes found; perhaps the file is"
            " truncated: extract it again"
        )
    return PascalFile(PurePosixPath(name[1]).name, width, height, boxes, first_pixel)


def _matching_lines(text: str, where: str, faults: list[str]) -> dict[str, list[tuple[int, re.Match[str]]]]:
    """Number and match of each line that is read, by its prefix; a line that starts as one but is none is a fault."""
    found: dict[str, list[tuple[int, re.Match[str]]]] = {prefix: [] for prefix, _, _ in _KINDS_OF_LINE}
    for number, line in enumerate(re.split(r"\r\n|\r|\n", text), 1):
        for prefix, pattern, example in _KINDS_OF_LINE:
            match = pattern.match(line)
            if match is not None:
                found[prefix].append((number, match))
            elif line.startswith(prefix):
                faults.append(f"{where}, line {number}: found {line[:120]!r}; expected as in: {example}")
    return found


def _box(line: int, match: re.Match[str], first_pixel: int) -> PascalBox:
    left, top, right, bottom = map(int, match.groups())
    bbox = [left - first_pixel, top - first_pixel, right - left + 1, bottom - top + 1]
    return PascalBox(line, (left, top, right, bottom), bbox)
