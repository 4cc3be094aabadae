"""Detections in the text format of Caltech's tools: one line per detection, ``frame,x,y,w,h,score``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from hkd.coco.detections import DetectedBoxes
from hkd.coco.ground_truth import GroundTruth
from hkd.coco.notes import Note
from hkd.coco.parsing.errors import AnnotationError, collected_problems
from hkd.coco.parsing.reading import read_input
from hkd.coco.parsing.records import RECORDS_NAMED
from hkd.coco.parsing.values import LARGEST_COORDINATE

FRAME_NAME: Final = re.compile(r"set([0-9]{2})_V([0-9]{3})_I([0-9]{5})", re.ASCII)
"""Set, video and frame counted from 0, as images of Caltech are named."""
NUM_COLUMNS: Final = 6
LARGEST_NUMBER: Final = 2**53
"""Integers up to it are exact in float64; no video has as many frames."""

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
Video = tuple[int, int]
"""Numbers of set and video."""


def read_caltech_folder(folder: Path, truth: GroundTruth | None) -> DetectedBoxes:
    """Detections of a folder with a ``set06/V000.txt`` for each video, video by video.

    Args:
        folder: The folder.
        truth: Images named after :data:`FRAME_NAME`. None if the ground truth is invalid: every file is checked, and
            the result must not be used.

    Raises:
        AnnotationError: the folder has no such files, or not those of all videos of the ground truth; images
            have other names; lines are wrong; or no detection is on a frame of the ground truth.
    """
    files = _video_files(folder)
    with collected_problems() as collect:
        image_of = collect(lambda: _images_by_frame(truth, folder))
        if image_of is None or truth is None:
            needed = sorted(files)
        else:
            needed = sorted(image_of)
            collect(lambda: _require_files(needed, files, folder))
        rows = {video: collect(partial(_read_rows, files[video], "frame")) for video in needed if video in files}
    return _on_images({v: r for v, r in rows.items() if r is not None}, image_of or {}, len(files), folder)


def read_text_file(path: Path, truth: GroundTruth | None) -> DetectedBoxes:
    """Detections of one text file, whose first column is the image's number: from 1, by ascending id.

    Args:
        path: Of the file.
        truth: The ground truth. None if it is invalid: images are then not checked, and the result must not be used.

    Raises:
        AnnotationError: lines are wrong, or name images that the ground truth does not have.
    """
    rows = _read_rows(path, "image", None if truth is None else len(truth.image_ids))
    return DetectedBoxes(rows[:, 0].astype(np.int64) - 1, rows[:, 1:5].copy(), rows[:, 5].copy())


def _video_files(folder: Path) -> dict[Video, Path]:
    """The text files of a folder, by set and video.

    Raises:
        AnnotationError: there are none.
    """
    files: dict[Video, Path] = {}
    for path in folder.glob("set[0-9][0-9]/V[0-9][0-9][0-9].txt"):
        files[int(path.parent.name[3:]), int(path.stem[1:])] = path
    if not files:
        problem = (
            "a folder of detections must hold a text file for each video, such as set06/V000.txt, but "
            "holds none; name the folder that the sets are in, or a file"
        )
        raise AnnotationError([problem], str(folder))
    return files


def _images_by_frame(truth: GroundTruth | None, folder: Path) -> dict[Video, dict[int, int]]:
    """For each video the position of the image of each of its frames, counted from 0.

    Raises:
        AnnotationError: images have other names, or two have the same.
    """
    images: dict[Video, dict[int, int]] = {}
    unnamed: list[str] = []
    repeated: list[str] = []
    for position, name in enumerate(() if truth is None else truth.image_names):
        if (parts := FRAME_NAME.fullmatch(name)) is None:
            unnamed.append(repr(name) if name else "one without a name")
            continue
        number, video, frame = (int(part) for part in parts.groups())
        frames = images.setdefault((number, video), {})
        if frame in frames:
            repeated.append(repr(name))
        frames[frame] = position
    problems = []
    if unnamed:
        problems.append(
            f"a folder of Caltech's text goes with images named by set, video and frame, such as "
            f"set06_V000_I00029.jpg, but the ground truth has {_some(unnamed)}; give detections as COCO results"
        )
    if repeated:
        problems.append(f"the ground truth must have each frame once, but repeats {_some(repeated)}")
    if problems:
        raise AnnotationError(problems, str(folder))
    return images


def _require_files(needed: Sequence[Video], files: dict[Video, Path], folder: Path) -> None:
    if missing := [f"set{number:02d}/V{video:03d}.txt" for number, video in needed if (number, video) not in files]:
        problem = (
            f"each video of the ground truth must have its file, but there is no {_some(missing)}; where "
            "nothing was detected in a video, make an empty file"
        )
        raise AnnotationError([problem], str(folder))


def _on_images(
    rows: dict[Video, FloatArray], image_of: dict[Video, dict[int, int]], num_files: int, folder: Path
) -> DetectedBoxes:
    """The rows on frames of the ground truth; a note counts the others.

    Raises:
        AnnotationError: there is none: frames are counted from 0, or belong to other videos.
    """
    all_rows = np.concatenate([np.empty((0, NUM_COLUMNS)), *rows.values()])
    positions = [
        image_of.get(video, {}).get(frame, -1)
        for video, own in rows.items()
        for frame in (own[:, 0].astype(np.int64) - 1).tolist()
    ]
    image_index = np.array(positions, dtype=np.int64)
    used = image_index >= 0
    # Without images, the ground truth is invalid.
    if image_of and len(used) > 0 and not used.any():
        problem = (
            f"none of {len(used):,} detections is on a frame of the ground truth, such as frame "
            f"{min(min(frames) for frames in image_of.values()) + 1}; frames must be counted from 1, not from 0"
        )
        raise AnnotationError([problem], str(folder))
    notes = []
    if not used.all():
        left_out = int((~used).sum())
        sentence = (
            f"{folder}: {left_out:,} of {len(used):,} detections are on frames that the ground truth does not have and "
            "are left out."
        )
        notes.append(Note("detections_of_other_images", left_out, sentence))
    if num_files > len(rows):
        other = num_files - len(rows)
        sentence = f"{folder}: {other:,} of {num_files:,} videos are not in the ground truth."
        notes.append(Note("files_without_annotations", other, sentence))
    return DetectedBoxes(image_index[used], all_rows[used, 1:5], all_rows[used, 5], tuple(notes))


def _read_rows(path: Path, first_column: str, num_images: int | None = None) -> FloatArray:
    """(R, 6) numbers of a text file, each line checked; blank lines are skipped.

    Raises:
        AnnotationError: naming every kind of mistake and its lines.
    """
    try:
        text = read_input(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        problem = f"is not text (byte {error.start}); give lines of {first_column},x,y,w,h,score"
        raise AnnotationError([problem], str(path)) from None
    lines: list[int] = []
    numbers: list[list[float]] = []
    unreadable: list[str] = []
    for line, content in enumerate(text.split("\n"), start=1):
        cells = content.replace(",", " ").split()
        if not cells:
            continue
        try:
            # Python's float() also accepts 1_0 and digits of other scripts.
            row = [float(cell) for cell in cells] if content.isascii() and "_" not in content else []
        except ValueError:
            row = []
        if len(row) == NUM_COLUMNS:
            lines.append(line)
            numbers.append(row)
        else:
            unreadable.append(f"line {line} has {_shortened(content)}")
    problems = []
    if unreadable:
        problems.append(
            f"each line must have six numbers, {first_column},x,y,w,h,score, but {_some(unreadable)}; "
            "correct or remove the lines"
        )
    rows = np.array(numbers, dtype=np.float64).reshape(-1, NUM_COLUMNS)
    problems += _value_problems(rows, lines, first_column, num_images)
    if problems:
        raise AnnotationError(problems, str(path))
    return rows


def _value_problems(rows: FloatArray, lines: list[int], first_column: str, num_images: int | None) -> list[str]:
    number, corners, sizes, scores = rows[:, 0], rows[:, 1:3], rows[:, 3:5], rows[:, 5]
    last = LARGEST_NUMBER if num_images is None else num_images
    images = "" if num_images is None else f" to {num_images}, the number of images of the ground truth"
    # NaN fails every comparison.
    checks: tuple[tuple[str, BoolArray, int], ...] = (
        (
            f"{first_column} must be an integer from 1{images}",
            (number >= 1) & (number <= last) & (number == np.floor(number)),
            0,
        ),
        ("x must be pixels from -1e9 to 1e9", np.abs(corners[:, 0]) <= LARGEST_COORDINATE, 1),
        ("y must be pixels from -1e9 to 1e9", np.abs(corners[:, 1]) <= LARGEST_COORDINATE, 2),
        ("w must be pixels above 0, at most 1e9", (sizes[:, 0] > 0) & (sizes[:, 0] <= LARGEST_COORDINATE), 3),
        ("h must be pixels above 0, at most 1e9", (sizes[:, 1] > 0) & (sizes[:, 1] <= LARGEST_COORDINATE), 4),
        ("score must be a finite number", np.isfinite(scores), 5),
    )
    problems = []
    for requirement, is_right, column in checks:
        if not is_right.all():
            wrong = [f"line {lines[i]} has {rows[i, column]:.15g}" for i in np.flatnonzero(~is_right)]
            problems.append(f"{requirement}, but {_some(wrong)}; correct or remove the lines")
    return problems


def _some(items: Sequence[str]) -> str:
    """The first few items, and the number of the others."""
    more = [] if len(items) <= RECORDS_NAMED else [f"and {len(items) - RECORDS_NAMED:,} more"]
    return ", ".join([*items[:RECORDS_NAMED], *more])


def _shortened(content: str) -> str:
    text = repr(content.strip())
    return text if len(text) <= 60 else f"{text[:57]}..."
