"""The Penn-Fudan pedestrian database (Wang, Shi, Song, Shen, ACCV 2007): PASCAL v1.00 text files to COCO JSON.

The database is a folder with ``Annotation/*.txt`` and ``PNGImages/*.png``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hkd.coco.parsing.errors import AnnotationError
from hkd.data.conversion.file_formats.pascal_text import read_pascal_text
from hkd.data.conversion.progress import track_progress
from hkd.data.conversion.splits import Split
from hkd.data.conversion.summary import ConversionSummary
from hkd.data.conversion.values import hidden_files_note
from hkd.data.conversion.writing import write_splits
from hkd.image_files.headers import DEFAULT_MAX_MEGAPIXELS
from hkd.image_files.listing import split_hidden

_ARCHIVE_FOLDER = "PennFudanPed"


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
    file = read_pascal_text(path, where, problems)
    if file is None:
        return None
    for box in file.boxes:
        x, y, width, height = box.bbox
        is_outside = x >= file.width or y >= file.height or x + width <= 0 or y + height <= 0
        if min(width, height) < 1 or is_outside:
            left, top, right, bottom = box.corners
            problems.append(
                f"{where}, line {box.line}: box ({left}, {top}) - ({right}, {bottom}) is empty or outside the"
                f" {file.width} x {file.height} image"
            )
    record = {"file_name": file.image_name, "height": file.height, "width": file.width}
    return record, [box.bbox for box in file.boxes]
