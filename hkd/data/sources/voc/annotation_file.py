"""One XML file in PASCAL VOC's format, and the conventions of corners."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hkd.coco.parsing.values import LARGEST_COORDINATE, shown
from hkd.data.conversion.file_formats.xml_file import XmlElement, XmlError, read_xml
from hkd.data.conversion.values import decimal

_LARGEST_BYTES = 1 << 24
"""Files of one image have a few kilobytes."""
Corners = Literal["pixels", "edges", "edges-from-1"]
"""What ``xmin``, ``ymin``, ``xmax`` and ``ymax`` mean.

* ``pixels``: the first and the last pixel of the box, counted from 1 (VOC's development kit: "the top-left pixel has
  coordinates (1, 1)").
* ``edges``: the edges of the box, 0 being that of the image (CVAT, LabelImg, labelme2voc).
* ``edges-from-1``: the same, plus 1 (Roboflow).
"""
CORNERS: tuple[Corners, ...] = ("pixels", "edges", "edges-from-1")
_OFFSETS: dict[Corners, tuple[float, float]] = {"pixels": (-1, 0), "edges": (0, 0), "edges-from-1": (-1, -1)}
"""What leads from the smaller and the larger corners to edges counted from 0."""


@dataclass(frozen=True)
class VocObject:
    """One annotated object."""

    name: str
    corners: tuple[float, float, float, float]
    """xmin, ymin, xmax, ymax as written."""
    line: int
    difficult: bool
    occluded: bool | None

    def box_xywh(self, corners: Corners) -> list[float]:
        """The box [x, y, width, height] in pixels, from the image's edge."""
        low, high = _OFFSETS[corners]
        left, top, right, bottom = self.corners
        return [left + low, top + low, right + high - (left + low), bottom + high - (top + low)]


@dataclass(frozen=True)
class VocFile:
    """The content of one file."""

    path: Path
    file_name: str
    """Stated name of the image; empty if absent."""
    size: tuple[float, float] | None
    """Stated width and height; None if absent or 0."""
    database: str
    """Stated source."""
    objects: tuple[VocObject, ...]


def read_voc_file(path: Path, where: str, problems: list[str]) -> VocFile | None:
    """Read a file; None, with entries in ``problems`` that start with ``where``, if it is invalid."""
    try:
        root = read_xml(path, _LARGEST_BYTES)
    except OSError as error:
        problems.append(f"{where}: cannot be read ({error.strerror})")
        return None
    except XmlError as error:
        problems.append(f"{where}: {error}")
        return None
    if root.tag != "annotation":
        problems.append(
            f"{where}: the root element is <{root.tag[:40]}>, and VOC's is <annotation>"
            + ("; convert CVAT's own format with `hkd data cvat`" if root.tag == "annotations" else "")
        )
        return None
    num_problems = len(problems)
    objects = [_object(element, f"{where}, line {element.line}", problems) for element in root.all("object")]
    width, height = (_side(root.text_of("size", key), f"{where}: {key}", problems) for key in ("width", "height"))
    if len(problems) > num_problems:
        return None
    return VocFile(
        path,
        root.text_of("filename") or "",
        (width, height) if width and height else None,
        root.text_of("source", "database") or "",
        tuple(one for one in objects if one is not None),
    )


def choose_corners(files: Sequence[VocFile]) -> tuple[Corners, str]:
    """The convention of a whole data set, by what its files show, and the reason."""
    objects = [(file, one) for file in files for one in file.objects]
    for file, one in objects:
        if any(number != int(number) for number in one.corners) or min(one.corners[:2]) <= 0:
            return "edges", f"{file.path.name}, line {one.line} has {_shown(one)}, and pixels are counted from 1"
    for file in files:
        if file.database.lower().startswith("roboflow"):
            return "edges-from-1", f"{file.path.name} names the database {shown(file.database)}"
    for file in files:
        if file.database.lower() == "unknown":
            return "edges", f"{file.path.name} names the database {shown(file.database)}, as labelling tools do"
    return "pixels", "as in the VOC benchmark; nothing shows that a tool wrote the files"


def _shown(one: VocObject) -> str:
    return " ".join(f"{number:g}" for number in one.corners)


def _object(element: XmlElement, where: str, problems: list[str]) -> VocObject | None:
    name = element.text_of("name")
    if name is None:
        problems.append(f"{where}: the object has no name")
        return None
    if element.child("bndbox") is None:
        found = ", ".join(f"<{child.tag[:40]}>" for child in element.children[:8])
        problems.append(f"{where}: the object has no bndbox, but {found}; boxes without rotation are read only")
        return None
    texts = {key: element.text_of("bndbox", key) for key in ("xmin", "ymin", "xmax", "ymax")}
    numbers = [_number(text) for text in texts.values()]
    corners = tuple(number for number in numbers if number is not None)
    if len(corners) != 4:
        found = ", ".join(f"{key} {shown(text)}" for key, text in texts.items())
        problems.append(f"{where}: the corners are {found}; they must be four finite numbers")
        return None
    left, top, right, bottom = corners
    if right < left or bottom < top:
        problems.append(
            f"{where}: the corners are {left:g} {top:g} {right:g} {bottom:g} (xmin ymin xmax ymax), so that the box"
            " ends before it starts; correct them"
        )
        return None
    flags = {key: _flag(element.text_of(key)) for key in ("difficult", "occluded")}
    for key, flag in flags.items():
        if flag is None and element.text_of(key) is not None:
            problems.append(f"{where}: {key} is {shown(element.text_of(key))}; it must be 0 or 1")
    return VocObject(name, (left, top, right, bottom), element.line, bool(flags["difficult"]), flags["occluded"])


def _side(text: str | None, where: str, problems: list[str]) -> float | None:
    """A side of the image; None if absent."""
    number = _number(text)
    if text is not None and (number is None or number < 0):
        problems.append(f"{where} is {shown(text)}; it must be a number of pixels, or 0 if it is unknown")
    return number


def _number(text: str | None) -> float | None:
    try:
        number = decimal(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) and abs(number) <= LARGEST_COORDINATE else None


def _flag(text: str | None) -> bool | None:
    known = {"0": False, "1": True, "false": False, "true": True, "unspecified": False}
    return known.get((text or "").lower())
