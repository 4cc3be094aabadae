"""Detections of all images in one text file.

The columns are those that a first line names; without names they are

* ``image,x,y,w,h,score``, as Dollar's and KAIST's evaluations read them: images are numbered from 1 by ascending id of
  the ground truth;
* ``frame,id,x,y,w,h,score,-1,-1,-1``, MOTChallenge's: images are found by number, ``000001.jpg``, in the folder of the
  sequence.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Final

import numpy as np

from hkd.coco.detections import DetectedBoxes
from hkd.coco.ground_truth import GroundTruth
from hkd.coco.parsing.errors import AnnotationError
from hkd.coco.parsing.values import as_id, is_integer
from hkd.evaluation.formats.text_rows import (
    BOX_COLUMNS,
    YOLO_HINT,
    TextRows,
    boxes_of,
    cells_of,
    looks_like_yolo,
    numbers_of,
    read_lines,
    read_rows,
    some,
)

_PLAIN: Final = ("image", *BOX_COLUMNS)
_MOT: Final = ("frame", "id", *BOX_COLUMNS)
_NAMES: Final = {
    "image": ("image", "img", "image_index"),
    "frame": ("frame", "frame_id"),
    "id": ("id", "track", "track_id"),
    "x": ("x", "left", "bb_left"),
    "y": ("y", "top", "bb_top"),
    "w": ("w", "width", "bb_width"),
    "h": ("h", "height", "bb_height"),
    "score": ("score", "conf", "confidence"),
}
"""Names of columns that a first line may have."""


def read_text_file(path: Path, truth: GroundTruth | None) -> DetectedBoxes:
    """Detections of one text file.

    Args:
        path: Of the file.
        truth: The ground truth. None if it is invalid: images are then not checked, and the result must not be used.

    Raises:
        AnnotationError: lines are wrong, or name images that the ground truth does not have.
    """
    lines = read_lines(path, _PLAIN)
    if looks_like_yolo(lines):
        raise AnnotationError([YOLO_HINT], str(path))
    columns, lines = _columns(path, lines)
    num_images = None
    if truth is not None and "image" in columns:
        num_images = len(truth.image_ids)
        _require_all_images(path, truth)
    rows = read_rows(path, lines, columns, num_images)
    boxes = rows.values[:, [columns.index(name) for name in BOX_COLUMNS]]
    if "image" in columns:
        return boxes_of(rows.values[:, columns.index("image")].astype(np.int64) - 1, boxes, path)
    frames = rows.values[:, columns.index("frame")].astype(np.int64).tolist()
    return boxes_of(np.array(_images_of_frames(frames, rows, truth), dtype=np.int64), boxes, path)


def _require_all_images(path: Path, truth: GroundTruth) -> None:
    """Refuse ground truth from which images were left out: the numbers of those after them would be of others.

    Raises:
        AnnotationError: the ids of the images do not follow each other, or start neither at 0 nor at 1.
    """
    ids = truth.image_ids
    if ids[0] not in (0, 1):
        found = f"the first is {ids[0]}"
    elif gaps := np.flatnonzero(np.diff(ids) > 1).tolist():
        found = f"{ids[gaps[0]]} is followed by {ids[gaps[0] + 1]}"
    else:
        return
    problem = (
        f"images are numbered from 1 in the order of their ids, which needs all images of the set, but the ids of the "
        f"ground truth have gaps ({found}): perhaps images were left out; convert all of them (where `hkd data` has "
        "it, with --annotations-only), or give COCO results, which name images by id or file name"
    )
    raise AnnotationError([problem], str(path))


def _columns(path: Path, lines: list[tuple[int, str]]) -> tuple[tuple[str, ...], list[tuple[int, str]]]:
    """Names of the columns, and the lines below a line of names.

    Raises:
        AnnotationError: the first line has names, but not those of all columns.
    """
    if not lines:
        return _PLAIN, lines
    cells = [cell.strip("\"'").lower() for cell in cells_of(lines[0][1])]
    if any(cell in names for cell in cells for names in _NAMES.values()) and not any(map(numbers_of, cells)):
        return _named_columns(path, cells), lines[1:]
    return _MOT + ("",) * (len(cells) - len(_MOT)) if _is_mot(lines) else _PLAIN, lines


def _named_columns(path: Path, cells: Sequence[str]) -> tuple[str, ...]:
    meant = {name: column for column, names in _NAMES.items() for name in names}
    columns = tuple(meant.get(cell, "") for cell in cells)
    missing = [name for name in BOX_COLUMNS if name not in columns]
    if not {"image", "frame"} & {*columns}:
        missing.insert(0, "image")
    unknown = [cell for cell, column in zip(cells, columns, strict=True) if not column]
    repeated = len(set(columns)) < len(columns) and not unknown
    if not (missing or unknown or repeated or {"image", "frame"} <= {*columns}):
        return columns
    found = some([repr(cell[:30]) for cell in cells])
    problem = (
        f"line 1 names the columns {found}; they must be {', '.join(_PLAIN)}, in any order, where images are numbered "
        "from 1 by ascending id of the ground truth; convert the file, or give COCO results, which name images by id "
        "or file name"
    )
    raise AnnotationError([problem], str(path))


def _is_mot(lines: Sequence[tuple[int, str]]) -> bool:
    """Whether all lines have MOTChallenge's columns: 9 or 10, or 7 of which the second is -1, an unknown track."""
    widths = {len(cells_of(line)) for _, line in lines}
    if widths == {len(_MOT)}:
        return all(numbers_of(line)[1:2] == [-1] for _, line in lines)
    return widths in ({9}, {10})


def _images_of_frames(frames: Sequence[int], rows: TextRows, truth: GroundTruth | None) -> list[int]:
    """Position of the image of each row: its name is the number of the frame.

    Raises:
        AnnotationError: there is no such image, or there are several.
    """
    if truth is None:
        return [0] * len(frames)
    images = _numbered_images(rows.path, truth)
    unknown = [
        f"line {line} has {frame}" for line, frame in zip(rows.lines, frames, strict=True) if frame not in images
    ]
    several = [
        f"line {line} has {frame}"
        for line, frame in zip(rows.lines, frames, strict=True)
        if len(images.get(frame, ())) > 1
    ]
    problems = []
    if unknown:
        problems.append(
            f"frame must be the number in the name of an image of the ground truth, as in 000001.jpg, but "
            f"{some(unknown)}; give detections of the same images"
        )
    if several:
        problems.append(
            f"frame must be the number of one image, but the ground truth has several sequences ({some(several)}); "
            "name the file by the folder of its sequence, such as MOT17-02.txt or MOT17-02/det/det.txt"
        )
    if problems:
        raise AnnotationError(problems, str(rows.path))
    return [images[frame][0] for frame in frames]


def _numbered_images(path: Path, truth: GroundTruth) -> dict[int, list[int]]:
    """Positions of the images of each number; of the sequence that the path names, if it names one."""
    own = {path.stem, *path.resolve().parent.parts[-2:]}
    of_all: dict[int, list[int]] = {}
    of_sequence: dict[int, list[int]] = {}
    for position, name in enumerate(truth.file_names):
        parts = PurePosixPath(name)
        if is_integer(number := as_id(parts.stem)):
            of_all.setdefault(int(number), []).append(position)
            if own & {*parts.parts[:-1]}:
                of_sequence.setdefault(int(number), []).append(position)
    return of_sequence or of_all
