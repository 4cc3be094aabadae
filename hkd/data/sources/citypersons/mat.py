"""Reader of CityPersons' ``anno_train.mat`` and ``anno_val.mat`` (cvgroup-njust/CityPersons).

They contain, for each image, rows [class, x, y, width, height, instance, visible x, visible y, visible width, visible
height].
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hkd.coco.boxes import FloatArray
from hkd.coco.parsing.errors import AnnotationError
from hkd.coco.parsing.values import LARGEST_COORDINATE, shown
from hkd.data.conversion.file_formats.mat_file import MatArray, MatFileError, read_mat
from hkd.data.conversion.progress import track_progress
from hkd.data.conversion.splits import Split
from hkd.data.sources.citypersons.records import LABELS, LARGEST_ROWS, PEDESTRIAN, box_record, image_record

_COLUMNS = 10


def read_mat_split(path: Path, name: str, problems: list[str], *, progress: bool) -> Split:
    """Read the images and boxes of one file; wrong rows are added to ``problems``.

    Args:
        path: of the file.
        name: of the split, ``train`` or ``val``.
        problems: messages with file, image and row.
        progress: Show a progress bar on stderr.

    Raises:
        AnnotationError: the file cannot be read or has another content.
    """
    cells = _cells(path, name)
    if not cells:
        problems.append(f"{path}: it holds no image; perhaps it is damaged: download it again")
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
        split.images.append(image_record(number, f"{name}/{city}/{file_name}"))
        num_rows += len(boxes)
        if num_rows > LARGEST_ROWS:
            problems.append(f"{where}: the file holds more than {LARGEST_ROWS} boxes, which CityPersons' do not")
            break
        for row, values in enumerate(boxes.tolist(), 1):
            if _is_valid(values):
                split.annotations.append(box_record(number, int(values[0]), values[1:5], values[6:]))
            else:
                problems.append(f"{where} ('{file_name}'), row {row}: {_row_rule(values)}")
    return split


def _cells(path: Path, name: str) -> list[MatArray]:
    """One element for each image.

    Raises:
        AnnotationError: the file cannot be read or has another content.
    """
    try:
        variables = read_mat(path)
        if len(variables) != 1:
            raise MatFileError(f"it holds {len(variables)} variables, where one is expected")
        (variable,) = variables.values()
        return variable.cells()
    except OSError as error:
        raise AnnotationError([f"the file cannot be read ({error.strerror})"], str(path)) from error
    except MatFileError as error:
        raise AnnotationError([f"{error}; CityPersons' anno_{name}.mat is needed here"], str(path)) from error


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


def _is_valid(row: list[float]) -> bool:
    is_finite = (np.abs(row) <= LARGEST_COORDINATE).all()  # NaN is not
    return bool(is_finite) and row[0] in (PEDESTRIAN, *LABELS) and min(row[8:]) >= 0


def _row_rule(row: list[float]) -> str:
    return (
        f"found {row}; it must be ten finite numbers, none beyond 1e9: a class from 0 to {max(LABELS)}, x, y, width,"
        " height, instance, and the visible part's x, y, width and height, these not below 0"
    )
