"""The Penn-Fudan pedestrian database (Wang, Shi, Song, Shen, ACCV 2007): PASCAL v1.00 text files to COCO JSON.

The database is a folder with ``Annotation/*.txt`` and ``PNGImages/*.png``. Corners are 1-based and inclusive: a box
(Xmin, Ymin) - (Xmax, Ymax) covers ``Xmax - Xmin + 1`` columns from ``Xmin - 1`` on, counted from 0.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from hkd.coco.errors import AnnotationError
from hkd.coco.reading import read_bounded
from hkd.data.sources import conversion
from hkd.data.sources.conversion import ConversionSummary, Split, write_splits

LARGEST_FILE_BYTES = 1 << 20
"""Of the text of one image."""
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
"""How a line begins, what it must match, and an example; other lines say nothing that is needed."""


def convert(
    root: Path, out: Path, *, seed: int = 0, train_images: int = 120, progress: bool = True
) -> ConversionSummary:
    """Writes ``train.json`` and ``validation.json`` to ``out``; the images stay where they are.

    The split is drawn from ``seed``; ids count the images of the whole database, so that no two splits share one.
    Nothing is written unless everything is in order.

    Args:
        root: the database's folder.
        out: folder of the result; made if needed.
        seed: of the split.
        train_images: images of the training split; the rest is for validation.
        progress: whether a bar is shown on stderr.

    Raises:
        AnnotationError: listing every malformed line with its file and number, and every invalid image or box; or
            ``train_images`` leaves one of the splits empty.
    """
    root, out = Path(root), Path(out)
    problems: list[str] = []
    images, annotations = _read(root, progress, problems)
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
        splits, out, root / "PNGImages", check_images=True, problems=(), source=str(root), show_progress=progress
    )


def _read(root: Path, progress: bool, problems: list[str]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Image and annotation records of the whole database, by file name, images counted from 1."""
    files = sorted((root / "Annotation").glob("*.txt"))
    if not files:
        problems.append("there is no Annotation/*.txt; name the folder that holds Annotation and PNGImages")
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for path in conversion.progress(files, "Reading annotations", shown=progress):
        read = _read_file(path, problems)
        if read is not None:
            images.append({"id": len(images) + 1, **read[0]})
            annotations += [{"image_id": len(images), "bbox": box} for box in read[1]]
    return images, annotations


def _read_file(path: Path, problems: list[str]) -> tuple[dict[str, Any], list[list[int]]] | None:
    """The image's file name, height and width, and its boxes [x, y, width, height]; None if the file is at fault."""
    where = f"{path.parent.name}/{path.name}"
    found: dict[str, list[tuple[int, re.Match[str]]]] = {beginning: [] for beginning, _, _ in _KINDS_OF_LINE}
    faults = []
    try:
        # Latin-1 reads any byte, and what is needed is ASCII.
        text = read_bounded(path, LARGEST_FILE_BYTES).decode("latin-1")
    except OSError as error:
        problems.append(f"{where}: cannot be read ({error.strerror})")
        return None
    for number, line in enumerate(re.split(r"\r\n|\r|\n", text), 1):
        for beginning, pattern, example in _KINDS_OF_LINE:
            match = pattern.match(line)
            if match is not None:
                found[beginning].append((number, match))
            elif line.startswith(beginning):
                faults.append(f"{where}, line {number}: found {line[:120]!r}; expected as in: {example}")
    *headers, (boxes_begin, _, _) = _KINDS_OF_LINE
    faults += [
        f"{where} has {len(found[beginning])} lines '{beginning}'; expected one, as in: {example}"
        for beginning, _, example in headers
        if len(found[beginning]) != 1 and not faults
    ]
    if faults:
        problems += faults
        return None
    (_, name), (size_line, size), (count_line, count) = (found[beginning][0] for beginning, _, _ in headers)
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
        faults.append(f"{where}, line {count_line}: {count[1]} objects announced, {len(boxes)} boxes found; truncated?")
    problems += faults
    return {"file_name": PurePosixPath(name[1]).name, "height": height, "width": width}, boxes
