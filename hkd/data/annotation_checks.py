"""Checks of the parts of a COCO document: each takes a list of records, and adds a sentence for all that is wrong.

Used by :mod:`hkd.data.annotations`, which raises all the sentences together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

FloatArray = npt.NDArray[np.float64]

PEDESTRIAN_ID = 1
"""Category id of every box once read, and of every box written."""

LARGEST_COORDINATE = 1e9
"""Boxes reach no further, pixels: what is read here must be fit for evaluation, which asks for the same."""
_ROUNDING = 1e-6
"""A ratio of two areas may pass 1 by so much."""
_PEDESTRIAN_NAMES = ("pedestrian", "person")


@dataclass(frozen=True)
class ImageRecord:
    """One image, as annotated."""

    image_id: int
    file_name: str
    """Relative to the image root; never leaves it."""
    height: int
    """Pixels."""
    width: int


def stated_image_ids(records: Sequence[object]) -> set[int]:
    """Ids of all images that have one."""
    ids = [_integer(record.get("id")) for record in records if isinstance(record, dict)]
    return {image_id for image_id in ids if image_id is not None}


def parse_images(records: Sequence[object], problems: list[str]) -> list[ImageRecord]:
    """The images that are well formed, ids unique, file names inside the image root."""
    images: dict[int, ImageRecord] = {}
    if not records:
        problems.append("'images' is empty; a data set needs at least one image")
    for number, record in enumerate(records):
        if not isinstance(record, dict):
            problems.append(f"images[{number}] is a {type(record).__name__}; it must be an object")
            continue
        image_id, height, width = (_integer(record.get(key)) for key in ("id", "height", "width"))
        name = record.get("file_name", record.get("im_name"))
        if image_id is None or not isinstance(name, str) or not name:
            problems.append(f"images[{number}] needs an integer 'id' and a text 'file_name'; found {record}")
        elif height is None or width is None or height < 1 or width < 1:
            problems.append(
                f"image {image_id} '{name}': height and width must be integers of at least 1; found {record}"
            )
        elif _escapes(name):
            problems.append(
                f"image {image_id}: file_name '{name}' leaves the image root; it must be relative, without '..'"
            )
        elif image_id in images:
            problems.append(
                f"image id {image_id} is given to both '{images[image_id].file_name}' and '{name}'; ids are unique"
            )
        else:
            images[image_id] = ImageRecord(image_id, name, height, width)
    return list(images.values())


def _escapes(name: str) -> bool:
    windows = PureWindowsPath(name)
    return PurePosixPath(name).is_absolute() or bool(windows.drive or windows.root) or ".." in windows.parts


def check_image_files(images: Iterable[ImageRecord], root: Path, problems: list[str]) -> None:
    """Whether every image exists, opens and has the stated size; only headers are read."""
    try:
        state = None if any(root.iterdir()) else "is empty"
    except OSError as error:
        state = f"cannot be listed ({error.strerror})"
    if state is not None:
        problems.append(
            f"the images' folder '{root}' {state}; put the images there, or set image_root (data.image_root)"
        )
        return
    for image in images:
        where = f"image {image.image_id} '{root / image.file_name}'"
        try:
            with Image.open(root / image.file_name) as opened:
                width, height = opened.size
        except FileNotFoundError:
            problems.append(f"{where}: there is no such file; add it, or take it out of the annotations")
        except Exception as error:  # noqa: BLE001 (a decoder may raise anything on a damaged file)
            problems.append(
                f"{where} does not open as an image ({error}); replace it, or take it out of the annotations"
            )
        else:
            if (height, width) != (image.height, image.width):
                problems.append(
                    f"{where} is {width} x {height} pixels (width x height), but annotated as"
                    f" {image.width} x {image.height}; boxes would be misplaced: correct the file or the annotation"
                )


def parse_categories(records: Sequence[object], problems: list[str]) -> tuple[int | None, set[int]]:
    """The pedestrian's category id, and the ids of the others, whose boxes are ignore regions."""
    names: dict[int, str] = {}
    for number, record in enumerate(records):
        category_id = _integer(record.get("id")) if isinstance(record, dict) else None
        if category_id in names:
            problems.append(f"categories[{number}]: its id {category_id} is used before; ids are unique")
        elif isinstance(record, dict) and category_id is not None and isinstance(record.get("name"), str):
            names[category_id] = record["name"]
        else:
            problems.append(f"categories[{number}] needs an integer 'id' and a text 'name'; found {record}")
    for wanted in _PEDESTRIAN_NAMES:
        for category_id, name in names.items():
            if name.strip().lower() == wanted:
                return category_id, set(names) - {category_id}
    if set(names) == {PEDESTRIAN_ID}:
        return PEDESTRIAN_ID, set()
    problems.append(f"one category must be named 'pedestrian' or 'person'; found {names}")
    return None, set(names)


def parse_boxes(
    records: Sequence[object],
    stated_images: set[int],
    pedestrian: int | None,
    others: set[int],
    problems: list[str],
) -> list[dict[str, Any]]:
    """The annotations that are well formed, completed; their boxes are four numbers of any value yet.

    ``stated_images``: ids of all images, faulty ones too: an image's fault is not told again at each of its boxes.
    """
    seen: set[int] = set()
    parsed = []
    for number, record in enumerate(records):
        if not isinstance(record, dict):
            problems.append(f"annotations[{number}] is a {type(record).__name__}; it must be an object")
            continue
        annotation_id, image_id, category = (_integer(record.get(key)) for key in ("id", "image_id", "category_id"))
        where = f"annotations[{number}] (id {record.get('id')!r}, image {record.get('image_id')!r})"
        found = len(problems)
        if annotation_id is None:
            problems.append(f"{where}: 'id' must be an integer")
        elif annotation_id in seen:
            problems.append(f"{where}: its id is used before; ids are unique")
        else:
            seen.add(annotation_id)
        if image_id not in stated_images:
            problems.append(f"{where}: its image is not among the 'images'; correct image_id or add the image")
        if category != pedestrian and category not in others:
            problems.append(f"{where}: category_id {record.get('category_id')!r} is not among the 'categories'")
        completed = complete(record, where, problems)
        if len(problems) == found:
            ignore = completed["ignore"] or completed["iscrowd"] or category != pedestrian
            parsed.append(
                {**completed, "image_id": image_id, "category_id": PEDESTRIAN_ID, "ignore": int(ignore), "where": where}
            )
    return parsed


def complete(record: Mapping[str, Any], where: str, problems: list[str]) -> dict[str, Any]:
    """Box, visible box, visibility, height and flags, with what is absent filled in; ``where`` begins each sentence."""
    bbox = four_numbers(record.get("bbox"))
    if bbox is None:
        problems.append(f"{where}: bbox {record.get('bbox')!r} is not four numbers [x, y, width, height]")
        return {}
    completed: dict[str, Any] = {"bbox": bbox}
    visibility: object = 1.0
    if record.get("vis_bbox") is not None:
        visible = four_numbers(record["vis_bbox"])
        if visible is None or not (np.abs(visible) <= LARGEST_COORDINATE).all() or visible[2] < 0 or visible[3] < 0:
            problems.append(
                f"{where}: vis_bbox {record['vis_bbox']!r} is not four finite numbers [x, y, width, height],"
                " at most 1e9"
            )
        else:
            completed["vis_bbox"] = visible
            area = bbox[2] * bbox[3]
            visibility = min(1.0, visible[2] * visible[3] / area) if area > 0 else 1.0
    numbers: tuple[tuple[str, object, str, Callable[[float], bool]], ...] = (
        ("vis_ratio", visibility, "a number from 0 to 1", lambda value: 0 <= value <= 1 + _ROUNDING),
        (
            "height",
            bbox[3],
            "a finite number of pixels above 0, at most 1e9",
            lambda value: 0 < value <= LARGEST_COORDINATE,
        ),
    )
    for key, default, allowed, is_allowed in numbers:
        value = None if key == "height" and states_image_size(record) else record.get(key)
        number = _number(default if value is None else value)
        completed[key] = number
        if value is not None and (number is None or not is_allowed(number)):
            problems.append(f"{where}: {key} is {value!r}; it must be {allowed}")
    completed["vis_ratio"] = min(1.0, completed["vis_ratio"] or 0.0)
    completed |= _flags(record, where, problems)
    label = record.get("label")
    if isinstance(label, str) and label:
        completed["label"] = label
    elif label is not None:
        problems.append(f"{where}: label is {label!r}; it must be a text, or absent for a pedestrian")
    return completed


def states_image_size(record: Mapping[str, Any]) -> bool:
    """Whether ``width`` and ``height`` of an annotation are its image's, as some writers of COCO JSON have it.

    Caltech's new annotations are such: read as people's heights, every box would count as 480 pixels high.
    """
    return "width" in record and "height" in record


def _flags(record: Mapping[str, Any], where: str, problems: list[str]) -> dict[str, int]:
    """``ignore`` and ``iscrowd``, 0 where absent, and ``occluded`` where stated."""
    flags = {}
    for key in ("ignore", "iscrowd", "occluded"):
        value = record.get(key)
        if value is not None and not (isinstance(value, bool | int | float) and value in (0, 1)):
            problems.append(f"{where}: {key} is {value!r}; it must be 0 or 1 (or false or true)")
        elif value is not None or key != "occluded":
            flags[key] = int(value or 0)
    return flags


def clip_boxes(
    records: list[dict[str, Any]], images: Sequence[ImageRecord], problems: list[str]
) -> tuple[FloatArray, list[str]]:
    """Boxes (N, 4) xywh clipped to their images, and what was clipped; takes ``where`` out of the records."""
    where = [record.pop("where") for record in records]
    boxes = np.array([record["bbox"] for record in records], dtype=np.float64).reshape(-1, 4)
    sizes = {image.image_id: (image.width, image.height) for image in images}
    limits = np.array([sizes[record["image_id"]] for record in records], dtype=np.float64).reshape(-1, 2)
    is_finite = (np.abs(boxes) <= LARGEST_COORDINATE).all(axis=1)  # NaN is not
    is_positive = (boxes[:, 2:] > 0).all(axis=1)
    with np.errstate(invalid="ignore"):
        low = np.clip(boxes[:, :2], 0, limits)
        high = np.clip(boxes[:, :2] + boxes[:, 2:], 0, limits)
        is_inside = (high > low).all(axis=1)
        beyond = np.maximum(low - boxes[:, :2], boxes[:, :2] + boxes[:, 2:] - high).max(axis=1, initial=0)
    for is_good, problem in (
        (is_finite, "holds a number that is not finite, or beyond 1e9 pixels"),
        (is_positive | ~is_finite, "must have a width and a height above 0"),
        (is_inside | ~is_positive | ~is_finite, "lies wholly outside its image"),
    ):
        problems += [
            f"{where[row]}: bbox {records[row]['bbox']} {problem}; correct it or take it out"
            for row in np.flatnonzero(~is_good)
        ]
    clipped = np.flatnonzero(beyond > 1e-6)  # less is rounding
    mended = []
    if len(clipped):
        first = clipped[0]
        mended.append(
            f"clipped {len(clipped)} of {len(boxes)} boxes that reach outside their image, by up to {beyond.max():g}"
            f" pixels (first: {where[first]}, bbox {records[first]['bbox']})"
        )
    return np.concatenate([low, high - low], axis=1), mended


def _integer(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not -(2**63) <= value < 2**63:
        return None  # no integer of 64 bits, which is what arrays hold
    return int(value) if value == int(value) else None


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def four_numbers(value: object) -> list[float] | None:
    """A box as four numbers of any value; ``None`` where it is something else."""
    if not isinstance(value, list) or len(value) != 4:
        return None
    numbers = [number for number in map(_number, value) if number is not None]
    return numbers if len(numbers) == 4 else None
