"""Notes on boxes that are well formed, but are probably not meant as they are read."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hkd.coco.notes import Note, NoteKind

FloatArray = npt.NDArray[np.float64]

_LARGEST_SHARE_OUTSIDE = 0.1
"""Centres of this many boxes are outside their image only if the boxes are misread: an annotated person is visible."""


def unit_notes(boxes_xywh: FloatArray, sizes_wh: FloatArray, kind: NoteKind, what: str) -> list[Note]:
    """A note if boxes may be corners or fractions of the image's size, instead of [x, y, width, height] in pixels.

    Args:
        boxes_xywh: (N, 4) as read.
        sizes_wh: (N, 2) or (2,) size of the image of each box, pixels; NaN where unknown.
        kind: of the note.
        what: the boxes, such as "detections".
    """
    if len(boxes_xywh) == 0:
        return []
    if (boxes_xywh >= 0).all() and (boxes_xywh <= 1).all():
        sentence = (
            f"all {len(boxes_xywh):,} {what} lie within the first pixels of their images, and are at most 1 pixel "
            "wide and high: perhaps they are fractions of the image's size; convert them to pixels"
        )
        return [Note(kind, len(boxes_xywh), sentence)]
    with np.errstate(invalid="ignore"):
        is_outside = (boxes_xywh[:, :2] + boxes_xywh[:, 2:] / 2 > sizes_wh).any(axis=1)
    # Of [x1, y1, x2, y2] the last two numbers exceed the first two in every box.
    if is_outside.mean() < _LARGEST_SHARE_OUTSIDE or not (boxes_xywh[:, 2:] > boxes_xywh[:, :2]).all():
        return []
    first = boxes_xywh[np.flatnonzero(is_outside)[0]].tolist()
    sentence = (
        f"{int(is_outside.sum()):,} of {len(boxes_xywh):,} {what} have their centres outside their images, and in all "
        f"of them width exceeds x and height exceeds y (first: {first}): perhaps they are [x1, y1, x2, y2]; convert "
        "them to [x, y, width, height]"
    )
    return [Note(kind, int(is_outside.sum()), sentence)]


def repeated(rows: list[Any]) -> list[int]:
    """Positions of rows (of hashable values) that are equal to an earlier one."""
    if len(set(rows)) == len(rows):
        return []
    seen: set[Any] = set()
    positions = []
    for position, row in enumerate(rows):
        if row in seen:
            positions.append(position)
        seen.add(row)
    return positions
