"""Detections in folders of text files, by video or by image.

* ``set06/V000.txt``, Caltech's: lines of ``frame,x,y,w,h,score``, frames counted from 1;
* ``set06/V000/I00029.txt``: lines of ``x,y,w,h,score`` of one frame, counted from 0 in the name, as Dollar's ``dbEval``
  reads them where there is no file of the video;
* ``set06_V000_I00029.txt``, KAIST's: lines of ``x,y,w,h,score``, or of ``person x1 y1 x2 y2 score`` with the corners of
  the box, as the MATLAB evaluation of MSDS R-CNN reads them.

Images of the ground truth are found by their file names, ``set06_V000_I00029``, whose frames count from 0.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from hkd.coco.detections import DetectedBoxes
from hkd.coco.ground_truth import GroundTruth
from hkd.coco.notes import Note
from hkd.coco.parsing.errors import AnnotationError, collected_problems
from hkd.evaluation.formats.text_rows import (
    BOX_COLUMNS,
    YOLO_HINT,
    FloatArray,
    IntArray,
    TextRows,
    boxes_of,
    cells_of,
    looks_like_yolo,
    numbers_of,
    parse_rows,
    read_lines,
    read_rows,
    some,
    value_problems,
)

FRAME_NAME: Final = re.compile(r"set([0-9]{2})_V([0-9]{3})_I([0-9]{5})", re.ASCII)
"""Set, video and frame counted from 0, as images of Caltech and KAIST are named."""

Video = tuple[int, int]
"""Numbers of set and video."""
Frame = tuple[int, int, int]
"""Numbers of set, video and frame, counted from 0."""


def read_text_folder(folder: Path, truth: GroundTruth | None) -> DetectedBoxes:
    """Detections of a folder of text files, video by video.

    Args:
        folder: The folder.
        truth: Images named after :data:`FRAME_NAME`. None if the ground truth is invalid: every file is checked, and
            the result must not be used.

    Raises:
        AnnotationError: the folder has no such files, or not those of all videos of the ground truth; images
            have other names; lines are wrong; or no detection is on a frame of the ground truth.
    """
    videos, frames = _video_files(folder), _frame_files(folder)
    if not videos and not frames:
        problem = (
            "a folder of detections must hold a text file for each video, such as set06/V000.txt, or for each frame, "
            f"such as set06/V000/I00029.txt, but holds none; {_hint(folder)}"
        )
        raise AnnotationError([problem], str(folder))
    with collected_problems() as collect:
        images = collect(lambda: _images_by_frame(truth, folder)) or {}
        needed = {frame[:2] for frame in images}
        if images:
            collect(lambda: _require_files(sorted(needed), {*videos, *(frame[:2] for frame in frames)}, folder))
        rows: dict[Frame | Video, tuple[IntArray, FloatArray] | None] = {}
        for video in sorted(needed or videos):
            if video in videos:
                rows[video] = collect(partial(_rows_of_video, videos[video]))
        # Where there is a file of the video, it is read alone.
        own_frames = sorted(frame for frame in frames if frame[:2] not in videos and (not images or frame in images))
        for frame in own_frames:
            rows[frame] = collect(partial(_rows_of_frame, frames[frame], frame[2]))
    notes = _notes(folder, videos, frames, images, own_frames)
    return _on_images({key: found for key, found in rows.items() if found is not None}, images, folder, notes)


def _hint(folder: Path) -> str:
    """What to do about a folder without files of videos or frames."""
    first = min(folder.glob("*.txt"), default=None)
    if first is not None and looks_like_yolo(read_lines(first, BOX_COLUMNS)):
        return f"{first.name} {YOLO_HINT}"
    return "name the folder that the sets are in, or a file"


def _video_files(folder: Path) -> dict[Video, Path]:
    """The text files of videos, by set and video."""
    files = folder.glob("set[0-9][0-9]/V[0-9][0-9][0-9].txt")
    return {(int(path.parent.name[3:]), int(path.stem[1:])): path for path in files if path.is_file()}


def _frame_files(folder: Path) -> dict[Frame, Path]:
    """The text files of frames, in folders of videos or named by set, video and frame.

    Raises:
        AnnotationError: a frame has two.
    """
    files: dict[Frame, Path] = {}
    repeated = []
    nested = folder.glob("set[0-9][0-9]/V[0-9][0-9][0-9]/I[0-9][0-9][0-9][0-9][0-9].txt")
    for path in sorted([*nested, *folder.glob("set[0-9][0-9]_V*_I*.txt")]):
        name = path.stem if path.parent == folder else "_".join([*path.parts[-3:-1], path.stem])
        if (parts := FRAME_NAME.fullmatch(name)) is not None:
            frame = (int(parts[1]), int(parts[2]), int(parts[3]))
            if frame in files:
                repeated.append(str(path.relative_to(folder)))
            files[frame] = path
    if repeated:
        raise AnnotationError([f"each frame must have one file, but there is also {some(repeated)}"], str(folder))
    return files


def _images_by_frame(truth: GroundTruth | None, folder: Path) -> dict[Frame, int]:
    """The position of the image of each frame.

    Raises:
        AnnotationError: images have other names, or two have the same.
    """
    images: dict[Frame, int] = {}
    unnamed: list[str] = []
    repeated: list[str] = []
    for position, name in enumerate(() if truth is None else truth.image_names):
        if (parts := FRAME_NAME.fullmatch(name)) is None:
            unnamed.append(repr(name) if name else "one without a name")
            continue
        frame = (int(parts[1]), int(parts[2]), int(parts[3]))
        if frame in images:
            repeated.append(repr(name))
        images[frame] = position
    problems = []
    if unnamed:
        problems.append(
            f"a folder of text files goes with images named by set, video and frame, such as set06_V000_I00029.jpg, "
            f"but the ground truth has {some(unnamed)}; give detections as COCO results"
        )
    if repeated:
        problems.append(f"the ground truth must have each frame once, but repeats {some(repeated)}")
    if problems:
        raise AnnotationError(problems, str(folder))
    return images


def _require_files(needed: Sequence[Video], found: set[Video], folder: Path) -> None:
    if missing := [f"set{number:02d}/V{video:03d}.txt" for number, video in needed if (number, video) not in found]:
        problem = (
            f"each video of the ground truth must have its file, but there is no {some(missing)}; where "
            "nothing was detected in a video, make an empty file"
        )
        raise AnnotationError([problem], str(folder))


def _rows_of_video(path: Path) -> tuple[IntArray, FloatArray]:
    """(R,) frames counted from 0, and (R, 5) boxes and scores, of a file of a video."""
    columns = ("frame", *BOX_COLUMNS)
    rows = read_rows(path, read_lines(path, columns), columns).values
    return rows[:, 0].astype(np.int64) - 1, rows[:, 1:]


def _rows_of_frame(path: Path, frame: int) -> tuple[IntArray, FloatArray]:
    """(R,) the frame, and (R, 5) boxes and scores, of a file of a frame."""
    lines = read_lines(path, BOX_COLUMNS)
    labelled = [(number, cells_of(line)) for number, line in lines]
    if labelled and all(len(cells) == 6 and not numbers_of(cells[0]) for _, cells in labelled):
        rows = _corner_rows(path, [(number, " ".join(cells[1:])) for number, cells in labelled])
    else:
        rows = read_rows(path, lines, BOX_COLUMNS)
    values = rows.values
    return np.full(len(values), frame, dtype=np.int64), values


def _corner_rows(path: Path, lines: Sequence[tuple[int, str]]) -> TextRows:
    """The rows of lines of x1, y1, x2, y2 and score.

    Raises:
        AnnotationError: a second corner is above or to the left of the first: the numbers may be width and height.
    """
    rows, problems = parse_rows(path, lines, BOX_COLUMNS)
    size = rows.values[:, 2:4] - rows.values[:, :2]
    if wrong := [f"line {rows.lines[i]} has {rows.values[i, :4].tolist()}" for i in np.flatnonzero((size < 0).any(1))]:
        problems.append(
            f"lines that start with a label must have the corners x1 y1 x2 y2, but {some(wrong)}; where the last two "
            "are width and height, leave out the label"
        )
    values = np.concatenate([rows.values[:, :2], size, rows.values[:, 4:]], axis=1)
    corners = TextRows(path, rows.lines, values, rows.columns)
    if problems := problems or value_problems(corners):
        raise AnnotationError(problems, str(path))
    return corners


def _notes(
    folder: Path,
    videos: Mapping[Video, Path],
    frames: Mapping[Frame, Path],
    images: Mapping[Frame, int],
    read: Sequence[Frame],
) -> list[Note]:
    """Files that are not of the ground truth, or not read, and frames without a file."""
    notes = []
    needed = {frame[:2] for frame in images}
    own = {*videos, *(frame[:2] for frame in frames)}
    if images and (others := sorted(own - needed)):
        sentence = f"{folder}: {len(others):,} of {len(own):,} videos are not in the ground truth."
        notes.append(Note("detections_of_other_images", len(others), sentence))
    both = [frame for frame in frames if frame[:2] in videos]
    if both:
        sentence = f"{folder}: {len(both):,} files of frames are not read, because their videos have files."
        notes.append(Note("detections_of_other_images", len(both), sentence))
    elif frames and (without := [frame for frame in images if frame[:2] not in videos and frame not in frames]):
        sentence = (
            f"{folder}: {len(without):,} of {len(images):,} images of the ground truth have no file: nothing is "
            "detected there."
        )
        notes.append(Note("files_missing", len(without), sentence))
    unused = [frame for frame in frames if frame not in images and frame[:2] in needed and frame[:2] not in videos]
    if images and unused:
        sentence = (
            f"{folder}: {len(unused):,} of {len(unused) + len(read):,} files are of frames that the ground truth does "
            "not have, and are left out."
        )
        notes.append(Note("detections_of_other_images", len(unused), sentence))
    return notes


def _on_images(
    rows: Mapping[Frame | Video, tuple[IntArray, FloatArray]],
    images: Mapping[Frame, int],
    folder: Path,
    notes: list[Note],
) -> DetectedBoxes:
    """The rows on frames of the ground truth; a note counts the others.

    Raises:
        AnnotationError: there is none.
    """
    all_rows = np.concatenate([np.empty((0, len(BOX_COLUMNS))), *(own for _, own in rows.values())])
    positions = [images.get((*key[:2], frame), -1) for key, (frames, _) in rows.items() for frame in frames.tolist()]
    image_index = np.array(positions, dtype=np.int64)
    used = image_index >= 0
    # Without images, the ground truth is invalid.
    if images and len(used) > 0 and not used.any():
        first = min(frame for _, _, frame in images)
        problem = (
            f"none of {len(used):,} detections is on a frame of the ground truth, such as frame {first + 1}; frames "
            "are counted from 1 in files of videos, perhaps these count from 0"
        )
        raise AnnotationError([problem], str(folder))
    if not used.all():
        sentence = (
            f"{folder}: {int((~used).sum()):,} of {len(used):,} detections are on frames that the ground truth does "
            "not have and are left out."
        )
        notes = [Note("detections_of_other_images", int((~used).sum()), sentence), *notes]
    return boxes_of(image_index[used], all_rows[used], folder, notes)
