"""The Penn-Fudan pedestrian database (Wang, Shi, Song, Shen, ACCV 2007): PASCAL v1.00 text files to COCO JSON.

The database is a folder with ``Annotation/*.txt`` and ``PNGImages/*.png``. Corners are 1-based and inclusive: a box
(Xmin, Ymin) - (Xmax, Ymax) covers ``Xmax - Xmin + 1`` columns from ``Xmin - 1`` on, counted from 0.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from hkd.bounded_files import read_bounded
from hkd.coco.parsing.errors import AnnotationError
from hkd.data.conversion.progress import track_progress
from hkd.data.conversion.splits import Split
from hkd.data.conversion.summary import ConversionSummary
from hkd.data.conversion.values import hidden_files_note
from hkd.data.conversion.writing import write_splits
from hkd.image_files.headers import DEFAULT_MAX_MEGAPIXELS
from hkd.image_files.listing import split_hidden

_ARCHIVE_FOLDER = "PennFudanPed"
LARGEST_FILE_BYTES = 1 << 20
"""Of the annotation file of one image."""
_FILE_NAME = re.compile(r'Image filename : "(.+)"')
_IMAGE_SIZE = re.compile(r"Image size \(X x Y x C\) : (\d{1,9}) x (\d{1,9}) x \d+")
_OBJECT_COUNT = re.compile(r"Objects with ground truth : (\d{1,9})(?!\d)")
_BOX = re.compile(
    r'Bounding box for object \d+ ".*" \(Xmin, Ymin\) - \(Xmax, Ymax\) : '
    r"\((\d{1,9}), (\d{1,9})\) - \((\d{1,9}), (\d{1,9})\)"
)
_KINDS_OF_LINE = (
    ("Image filename", _FILE_NAME, 'Image filename : "FOLDER/NAME.png"'),
    ("Image size", _IMAGE_SIZE, "Image size (X x Y x C) : 559 x 536 x 3"),
    ("Objects with ground truth", _OBJECT_COUNT, "Objects with ground truth : 2 { ... }"),
    ("Bounding box", _BOX, 'Bounding box for object 1 "..." (Xmin, Ymin) - (Xmax, Ymax) : (160, 182) - (302, 431)'),
)
"""Prefix, pattern and example of each kind of line that is read; other lines are skipped."""


def convert(
    root: Path,
    out: Path,
    *,
    seed: int = 0,
    train_images: int = 120,
    max_megapixels: float = DEFAULT_MAX_MEGAPIXELS,
    progress: bool = True,
) -> ConversionSummary:
    """Write ``train.json`` and ``validation.json`` to ``out``; the images stay where they are.

    Image ids are unique across both splits. Nothing is written if there is any problem.

    Args:
        root: Folder of the database, or the one that holds ``PennFudanPed``.
        out: Output folder, created if missing.
        seed: Seed of the split.
        train_images: Number of training images; the others are for validation.
        max_megapixels: Largest number of pixels of an image, in millions.
        progress: Show a progress bar on stderr.

    Raises:
        AnnotationError: listing every malformed line with its file and number, and every invalid image or box; or
            ``train_images`` leaves one of the splits empty.
    """
    root, out = Path(root), Path(out)
    if not (root / "Annotation").is_dir() and (root / _ARCHIVE_FOLDER / "Annotation").is_dir():
        root /= _ARCHIVE_FOLDER
    problems: list[str] = []
    files = split_hidden((root / "Annotation").glob("*.txt"), root)
    images, annotations = _read(files.kept, progress, problems)
    if problems:
        raise AnnotationError(problems, str(root))
    if not 0 < train_images < len(images):
        problem = f"train_images is {train_images}; allowed: integer from 1 to {len(images) - 1} (validation needs one)"
        raise AnnotationError([problem], str(root))
    order = np.random.default_rng(seed).permutation(len(images)) + 1
    splits = [
        Split(
            name,
            [image for image in images if image["id"] in chosen],
            [annotation for annotation in annotations if annotation["image_id"] in chosen],
        )
        for name, chosen in (("train", set(order[:train_images])), ("validation", set(order[train_images:])))
    ]
    return write_splits(
        splits,
        out,
        root / "PNGImages",
        check_images=True,
        problems=(),
        source=str(root),
        notes=hidden_files_note([str(path) for path in files.hidden]),
        max_megapixels=max_megapixels,
        show_progress=progress,
    )


def _read(
    files: Sequence[Path], progress: bool, problems: list[str]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Image and annotation records of the whole database, sorted by file name, with image ids from 1."""
    if not files:
        problems.append("found no Annotation/*.txt; name the folder that holds Annotation and PNGImages")
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for path in track_progress(files, "Reading annotations", shown=progress):
        read = _read_file(path, problems)
        if read is not None:
            images.append({"id": len(images) + 1, **read[0]})
            annotations += [{"image_id": len(images), "bbox": box} for box in read[1]]
    return images, annotations


def _read_file(path: Path, problems: list[str]) -> tuple[dict[str, Any], list[list[int]]] | None:
    """The image's file name, height and width, and its boxes [x, y, width, height]; ``None`` if the file is invalid."""
    where = f"{path.parent.name}/{path.name}"
    found: dict[str, list[tuple[int, re.Match[str]]]] = {prefix: [] for prefix, _, _ in _KINDS_OF_LINE}
    faults = []
    try:
        # Latin-1 decodes any byte; the lines that are read are ASCII.
        text = read_bounded(path, LARGEST_FILE_BYTES).decode("latin-1")
    except OSError as error:
        problems.append(f"{where}: cannot be read ({error.strerror})")
        return None
    for number, line in enumerate(re.split(r"\r\n|\r|\n", text), 1):
        for prefix, pattern, example in _KINDS_OF_LINE:
            match = pattern.match(line)
            if match is not None:
                found[prefix].append((number, match))
            elif line.startswith(prefix):
                faults.append(f"{where}, line {number}: found {line[:120]!r}; expected as in: {example}")
    *headers, (boxes_begin, _, _) = _KINDS_OF_LINE
    faults += [
        f"{where} has {len(found[prefix])} lines '{prefix}'; expected one, as in: {example}"
        for prefix, _, example in headers
        if len(found[prefix]) != 1 and not faults
    ]
    if faults:
        problems += faults
        return None
    (_, name), (size_line, size), (count_line, count) = (found[prefix][0] for prefix, _, _ in headers)
    width, height = int(size[1]), int(size[2])
    if min(width, height) < 1:
        problems.append(f"{where}, line {size_line}: an image of {width} x {height} pixels; each must be at least 1")
        return None
    boxes = []
    for number, match in found[boxes_begin]:
        left, top, right, bottom = map(int, match.groups())
        if left > min(right, width) or top > min(bottom, height):
            corners = f"({left}, {top}) - ({right}, {bottom})"
            faults.append(f"{where}, line {number}: box {corners} is empty or outside the {width} x {height} image")
        boxes.append([left - 1, top - 1, right - left + 1, bottom - top + 1])
    if int(count[1]) != len(boxes):
        faults.append(
            f"{where}, line {count_line}: {count[1]} objects announced, {len(boxes)} boxes found; perhaps the file is"
            " truncated: extract it again"
        )
    problems += faults
    return {"file_name": PurePosixPath(name[1]).name, "height": height, "width": width}, boxes
