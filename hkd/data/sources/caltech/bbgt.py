"""Text annotations of one image in the format of Dollar's ``bbGt.m``, as in Caltech's new annotations.

The first line is ``% bbGt version=3``. Each further line is an object: label, x, y, width, height in pixels, occluded
(0/1), x, y, width, height of the visible part (zeros if unknown), ignore (0/1), angle.
"""

from __future__ import annotations

import codecs
import math
import re
from pathlib import Path

from hkd.bounded_files import read_bounded
from hkd.coco.parsing.values import LARGEST_COORDINATE
from hkd.data.conversion.values import decimal
from hkd.data.sources.caltech.vbb import VideoObject

LARGEST_FILE_BYTES = 1 << 20
"""A line has about 50 bytes."""
_HEAD = re.compile(r"%\s*bbGt version=(\d+)\s*")
_VERSION = "3"
_COLUMNS = "label x y width height occluded visible_x visible_y visible_width visible_height ignore angle"
_COLUMN_COUNT = len(_COLUMNS.split())


def starts_as_bbgt(path: Path) -> bool:
    """Whether the first line may be that of this format; detections of a frame start with a number, or are empty."""
    try:
        if path.is_file():  # opening a pipe would wait for its writer
            with path.open("rb") as file:
                return file.read(8).removeprefix(codecs.BOM_UTF8).startswith(b"%")
    except OSError:
        pass
    return True  # reading it will report the cause


def read_bbgt(path: Path, problems: list[str], *, largest_occlusion: int = 1) -> tuple[VideoObject, ...]:
    """Read the objects of one image; add a message with file and line to ``problems`` for each invalid line.

    Args:
        path: of the file.
        problems: messages.
        largest_occlusion: of the levels in column "occluded", which start from 0; KAIST has 2.
    """
    try:
        lines = re.split(r"\r\n|\r|\n", read_bounded(path, LARGEST_FILE_BYTES).decode("utf-8-sig"))
    except OSError as error:
        problems.append(f"{path}: the file cannot be read ({error.strerror})")
        return ()
    except UnicodeDecodeError:
        problems.append(f"{path}: it is not UTF-8 text")
        return ()
    head = _HEAD.fullmatch(lines[0])
    if head is None or head[1] != _VERSION:
        found = repr(lines[0][:80]) if lines[0] else "nothing"
        problems.append(
            f"{path}, line 1: found {found}; it must be '% bbGt version={_VERSION}', also if the image has no objects"
        )
        return ()
    objects = []
    for number, line in enumerate(lines[1:], 2):
        if not line.strip():
            continue
        try:
            objects.append(_object(line, largest_occlusion))
        except ValueError as error:
            problems.append(f"{path}, line {number}: {error}")
    return tuple(objects)


def _object(line: str, largest_occlusion: int) -> VideoObject:
    label, *texts = line.split()
    if len(texts) + 1 != _COLUMN_COUNT:
        raise ValueError(f"found {len(texts) + 1} columns; it must be {_COLUMN_COUNT}: {_COLUMNS}")
    try:
        numbers = [decimal(text) for text in texts]
    except ValueError:
        numbers = [math.nan]
    if not all(abs(number) <= LARGEST_COORDINATE for number in numbers):  # NaN is not
        raise ValueError(f"found {line[:120]!r}; all but the label must be finite numbers, none beyond 1e9")
    x, y, width, height, occluded, *rest = numbers
    visible_x, visible_y, visible_width, visible_height, ignore, _ = rest
    levels = range(largest_occlusion + 1)
    if occluded not in levels or ignore not in (0, 1):
        allowed = "each must be 0 or 1" if largest_occlusion == 1 else f"allowed: 0 to {largest_occlusion}, and 0 or 1"
        raise ValueError(f"occluded is {occluded:g} and ignore {ignore:g}; {allowed}")
    if min(visible_width, visible_height) < 0:
        raise ValueError(f"the visible part is {visible_width:g} x {visible_height:g}; neither may be below 0")
    return VideoObject(
        label,
        (x, y, width, height),
        int(occluded),
        (visible_x, visible_y, visible_width, visible_height),
        bool(ignore),
    )
