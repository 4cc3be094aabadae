"""CityPersons (Zhang, Benenson, Schiele, CVPR 2017): its annotations and Cityscapes' image folders to COCO JSON.

``anno_train.mat`` and ``anno_val.mat`` contain, for each image, rows [class, x, y, width, height, instance, visible x,
visible y, visible width, visible height]. Pedestrians count; riders, sitting persons, other persons, groups and ignore
regions are ignored. The result of ``anno_val.mat`` equals the evaluation server's ``val_gt.json`` box by box;
``val_gt.json`` is read if ``anno_val.mat`` does not exist.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hkd.coco.annotations import read_annotations
from hkd.coco.boxes import FloatArray
from hkd.coco.notes import Note
from hkd.coco.parsing.errors import AnnotationError
from hkd.coco.parsing.values import LARGEST_COORDINATE, shown
from hkd.data.conversion.mat_file import MatArray, MatFileError, read_mat
from hkd.data.conversion.progress import track_progress
from hkd.data.conversion.splits import Split, drop_unusable_boxes
from hkd.data.conversion.summary import ConversionSummary
from hkd.data.conversion.writing import write_splits
from hkd.image_files.headers import DEFAULT_MAX_MEGAPIXELS

IMAGE_WIDTH, IMAGE_HEIGHT = 2048, 1024
"""Size of every image of Cityscapes, pixels."""
IMAGE_FOLDER = "leftImg8bit"

PEDESTRIAN = 1
_GROUP = 5
_LABELS = {0: "ignore region", 2: "rider", 3: "sitting person", 4: "other person", _GROUP: "people group"}
"""Names of the classes as in ``val_gt.json``; a pedestrian has no label."""
_COLUMNS = 10
LARGEST_ROWS = 500_000
"""Boxes of one file, to bound memory; CityPersons has about 20,000."""
_RATIO_DIGITS = 12
"""Significant digits of ``vis_ratio``, as in ``val_gt.json``."""


def convert(
    root: Path,
    out: Path,
    *,
    annotations_only: bool = False,
    max_megapixels: float = DEFAULT_MAX_MEGAPIXELS,
    progress: bool = True,
) -> ConversionSummary:
    """Write ``train.json`` and ``val.json`` to ``out``, for the annotations that exist.

    The images stay where they are, in ``<root>/leftImg8bit/{train,val}/<city>``. Image ids start from 1 in each split,
    in the order of the annotations, so that they equal those of ``val_gt.json`` and of detections for it.

    Args:
        root: Folder of ``leftImg8bit`` and of ``anno_{train,val}.mat`` or ``val_gt.json`` (also in ``annotations``).
        out: Output folder, created if missing.
        annotations_only: Do not check the images, which need not exist; sufficient for evaluation.
        max_megapixels: Largest number of pixels of an image, in millions.
        progress: Show a progress bar on stderr.

    Raises:
        AnnotationError: listing every problem of the files.
    """
    root, out = Path(root), Path(out)
    problems: list[str] = []
    notes: list[Note] = []
    splits = []
    for name, path, read in _sources(root):
        try:
            split = read(path, name, problems, progress)
        except AnnotationError as error:
            problems += [f"{path}: {problem}" for problem in error.problems]
            continue
        usable, dropped = drop_unusable_boxes(split)
        splits.append(usable)
        notes += dropped
    if not splits and not problems:
        problems.append("found no anno_train.mat, anno_val.mat or val_gt.json; name the folder that holds them")
    if not annotations_only and not (root / IMAGE_FOLDER).is_dir():
        problems.append(f"found no folder {IMAGE_FOLDER}; put Cityscapes' images there, or convert annotations only")
    if problems:
        raise AnnotationError(problems, str(root))
    return write_splits(
        splits,
        out,
        root / IMAGE_FOLDER,
        check_images=not annotations_only,
        problems=problems,
        source=str(root),
        notes=notes,
        max_megapixels=max_megapixels,
        show_progress=progress,
    )


def _sources(root: Path) -> list[tuple[str, Path, Callable[[Path, str, list[str], bool], Split]]]:
    """Name, file and reader of each existing split."""
    found: list[tuple[str, Path, Callable[[Path, str, list[str], bool], Split]]] = []
    for name in ("train", "val"):
        for folder in (root, root / "annotations"):
            if (folder / f"anno_{name}.mat").is_file():
                found.append((name, folder / f"anno_{name}.mat", _read_mat))
                break
        else:
            places = [folder / f"{name}_gt.json" for folder in (root, root / "annotations")]
            found += [(name, path, _read_json) for path in places if path.is_file()][:1]
    return found


def _read_mat(path: Path, name: str, problems: list[str], progress: bool) -> Split:
    try:
        variables = read_mat(path)
        if len(variables) != 1:
            raise MatFileError(f"it holds {len(variables)} variables, where one is expected")
        (variable,) = variables.values()
        cells = variable.cells()
    except OSError as error:
        raise AnnotationError([f"the file cannot be read ({error.strerror})"], str(path)) from error
    except MatFileError as error:
        raise AnnotationError([f"{error}; CityPersons' anno_{name}.mat is needed here"], str(path)) from error
    if not cells:
        problems.append(f"{path}: it holds no image; is the file damaged?")
    split = Split(name, [], [])
    seen: set[str] = set()
    num_rows = 0
    for number, cell in enumerate(track_progress(cells, f"Reading {path.name}", shown=progress), 1):
        where = f"{path}, image {number}"
        try:
            city, file_name, boxes = _image(cell)
        except MatFileError as error:
            problems.append(f"{where}: {error}")
            continue
        if file_name in seen:
            problems.append(f"{where}: '{file_name}' is a duplicate; remove one of its entries")
        seen.add(file_name)
        split.images.append(_image_record(number, f"{name}/{city}/{file_name}"))
        num_rows += len(boxes)
        if num_rows > LARGEST_ROWS:
            problems.append(f"{where}: the file holds more than {LARGEST_ROWS} boxes, which CityPersons' do not")
            break
        for row, values in enumerate(boxes.tolist(), 1):
            annotation = _annotation(number, values)
            if annotation is None:
                problems.append(f"{where} ('{file_name}'), row {row}: {_row_rule(values)}")
            else:
                split.annotations.append(annotation)
    return split


def _image(cell: MatArray) -> tuple[str, str, FloatArray]:
    """City, file name and rows (n, 10) of one image."""
    structs = cell.structs()
    missing = [key for key in ("cityname", "im_name", "bbs") if len(structs) != 1 or key not in structs[0]]
    if missing:
        raise MatFileError(f"it must be one struct with cityname, im_name and bbs; {', '.join(missing)} missing")
    city, file_name = structs[0]["cityname"].text(), structs[0]["im_name"].text()
    for text in (city, file_name):
        if not text or "/" in text or "\\" in text:
            raise MatFileError(f"found {shown(text)}; cityname and im_name must be names without folders")
    boxes = structs[0]["bbs"].numbers()
    if boxes.size == 0:
        return city, file_name, np.zeros((0, _COLUMNS))
    if boxes.ndim != 2 or boxes.shape[1] != _COLUMNS:
        raise MatFileError(f"bbs is of {' x '.join(map(str, boxes.shape))} numbers; it must have {_COLUMNS} columns")
    return city, file_name, boxes


def _annotation(image_id: int, row: list[float]) -> dict[str, Any] | None:
    """The record of one row; ``None`` if a number is invalid."""
    if not (np.abs(row) <= LARGEST_COORDINATE).all() or row[0] not in (PEDESTRIAN, *_LABELS) or min(row[8:]) < 0:
        return None
    values = [int(value) if value == int(value) else value for value in row]
    label, box, visible = int(row[0]), values[1:5], values[6:]
    area = box[2] * box[3]
    ratio = min(1.0, float(f"{visible[2] * visible[3] / area:.{_RATIO_DIGITS}g}")) if area > 0 else 1.0
    annotation = {
        "image_id": image_id,
        "bbox": box,
        "vis_bbox": visible,
        "vis_ratio": ratio,
        "height": box[3],
        "ignore": int(label != PEDESTRIAN),
        "iscrowd": int(label == _GROUP),
    }
    return annotation if label == PEDESTRIAN else {**annotation, "label": _LABELS[label]}


def _row_rule(row: list[float]) -> str:
    return (
        f"found {row}; it must be ten finite numbers, none beyond 1e9: a class from 0 to {max(_LABELS)}, x, y, width,"
        " height, instance, and the visible part's x, y, width and height, these not below 0"
    )


def _image_record(image_id: int, file_name: str) -> dict[str, Any]:
    return {"id": image_id, "file_name": file_name, "height": IMAGE_HEIGHT, "width": IMAGE_WIDTH}


def _read_json(path: Path, name: str, problems: list[str], progress: bool) -> Split:  # noqa: ARG001 (one signature)
    """Read ``val_gt.json``, which has file names without folders, and ignore flags instead of classes."""
    read = read_annotations(path, check_images=False)
    images = []
    for image in read.images:
        city, separator, _ = image.file_name.partition("_")
        if not separator or "/" in image.file_name:
            problems.append(
                f"{path}: image '{image.file_name}' does not start with its city, as in 'lindau_000000_...'"
            )
        images.append(
            {
                "id": image.image_id,
                "file_name": f"{name}/{city}/{image.file_name}",
                "height": image.height,
                "width": image.width,
            }
        )
    return Split(name, images, read.coco_records())
