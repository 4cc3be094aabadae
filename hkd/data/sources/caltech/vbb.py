"""Reader of Caltech's ``.vbb`` files (video bounding boxes): the annotation of one video, as written by ``vbb.m``.

A MAT-file with a struct ``A``: ``nFrame``, ``objLbl`` (a label per object: "person", "people", ...) and ``objLists``, a
cell per frame with a struct array of its objects: ``id`` (index into ``objLbl``, from 1), ``pos`` [x, y, width, height]
in pixels, ``occl`` (0/1) and ``posv``, the visible part, zeros if unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hkd.coco.parsing.errors import AnnotationError
from hkd.coco.parsing.values import LARGEST_COORDINATE
from hkd.data.conversion.file_formats.mat_file import MatArray, MatFileError, read_mat

Box = tuple[float, float, float, float]
"""x, y, width, height in pixels."""

_NO_BOX: Box = (0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class VideoObject:
    """An annotated object in one frame."""

    label: str
    box_xywh: Box
    occluded: int | None
    """0 or 1; KAIST: 0 (not), 1 (partially) or 2 (heavily). ``None`` if unknown."""
    visible_xywh: Box | None
    """Zeros if unknown for this box, ``None`` if the format has no visible parts."""
    ignored: bool = False
    """Flag "ignore" of the annotation, independent of the label; a ``.vbb`` has no such flag."""


@dataclass(frozen=True)
class VideoAnnotation:
    """The annotation of some frames of one video."""

    frame_count: int
    """Number of frames of the video, sampled or not."""
    objects: Mapping[int, tuple[VideoObject, ...]]
    """Objects by frame, counted from 0, for all sampled frames, including empty ones."""


def sampled_frames(frame_count: int, every: int) -> range:
    """Every n-th frame, counted from 0, as in Dollar's dbEval: with 30, frames 29, 59, 89 and so on."""
    return range(every - 1, frame_count, every)


def read_vbb(path: Path, every: int = 30) -> VideoAnnotation:
    """Read every n-th frame of a ``.vbb`` file.

    Raises:
        AnnotationError: the file cannot be read, is damaged, or is not a ``.vbb``; lists every problem.
    """
    try:
        annotation = _only(_variable(read_mat(path), "A").structs())
        frame_count = _integer(_variable(annotation, "nFrame"), "nFrame")
        labels = [cell.text() for cell in _variable(annotation, "objLbl").cells()]
        frames = _variable(annotation, "objLists").cells()
    except OSError as error:
        raise AnnotationError(
            [f"the file cannot be read ({error.strerror}); name a readable .vbb"], str(path)
        ) from error
    except MatFileError as error:
        raise AnnotationError([f"{error}; a .vbb of Caltech is needed here"], str(path)) from error
    problems: list[str] = []
    if frame_count != len(frames):
        problems.append(
            f"nFrame is {frame_count}, but objLists holds {len(frames)} frames;"
            " perhaps the file is damaged: copy it again"
        )
    objects = {frame: _frame(frames[frame], labels, frame, problems) for frame in sampled_frames(len(frames), every)}
    if problems:
        raise AnnotationError(problems, str(path))
    return VideoAnnotation(frame_count, objects)


def _variable(variables: Mapping[str, MatArray], name: str) -> MatArray:
    if name not in variables:
        raise MatFileError(f"it holds no '{name}' (found: {', '.join(sorted(variables)) or 'nothing'})")
    return variables[name]


def _only(structs: list[dict[str, MatArray]]) -> dict[str, MatArray]:
    if len(structs) != 1:
        raise MatFileError(f"'A' holds {len(structs)} structs; it must be one")
    return structs[0]


def _frame(frame: MatArray, labels: list[str], index: int, problems: list[str]) -> tuple[VideoObject, ...]:
    try:
        records = frame.structs()
    except MatFileError as error:
        problems.append(f"frame {index}: {error}")
        return ()
    objects = []
    for number, record in enumerate(records, 1):
        try:
            objects.append(_object(record, labels))
        except MatFileError as error:
            problems.append(f"frame {index}, object {number}: {error}")
    return tuple(objects)


def _object(record: Mapping[str, MatArray], labels: list[str]) -> VideoObject:
    identity = _integer(_variable(record, "id"), "id")
    if not 1 <= identity <= len(labels):
        raise MatFileError(f"id is {identity}; it must be from 1 to {len(labels)}, the number of labels")
    box = _box(_variable(record, "pos"), "pos")
    occluded = _integer(_variable(record, "occl"), "occl")
    if occluded not in (0, 1):
        raise MatFileError(f"occl is {occluded}; it must be 0 or 1")
    posv = _variable(record, "posv")
    is_given = posv.size != 1 or posv.numbers().any()  # a single 0 means zeros
    visible = _box(posv, "posv") if is_given else _NO_BOX
    if min(visible[2:]) < 0:
        raise MatFileError(f"posv is {list(visible)}; width and height must not be below 0")
    return VideoObject(labels[identity - 1], box, occluded, visible)


def _integer(array: MatArray, name: str) -> int:
    numbers = array.numbers().ravel()
    if numbers.size != 1 or not np.isfinite(numbers[0]) or numbers[0] != np.round(numbers[0]):
        raise MatFileError(f"{name} is {numbers[:4].tolist()}; it must be one whole number")
    return int(numbers[0])


def _box(array: MatArray, name: str) -> Box:
    numbers = array.numbers().ravel()
    if numbers.size != 4 or not (np.abs(numbers) <= LARGEST_COORDINATE).all():  # NaN is not
        raise MatFileError(
            f"{name} is {numbers[:8].tolist()}; it must be four finite numbers, x, y, width, height, none beyond 1e9"
        )
    x, y, width, height = numbers.tolist()
    return x, y, width, height
