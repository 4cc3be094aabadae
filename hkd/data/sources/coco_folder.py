"""A folder in COCO's layout, filtered to people.

Written from the documentation of the format (cocodataset.org, "Data format"), and not tested on COCO's files. Input:
``annotations/instances_<split>.json`` (if there is none, every ``annotations/<split>.json``) with images in
``<split>``, ``images/<split>``, ``images`` or the folder itself; or ``<split>/_annotations.coco.json`` beside its
images, as exported by some labelling tools.

Boxes of people are kept with their pedestrian fields (see :mod:`hkd.coco.annotations`); boxes of other categories are
dropped and counted. ``iscrowd`` boxes are ignored. Images without people are kept. Image ids do not change, so that
detections in COCO's format remain valid.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hkd.coco.boxes import PedestrianFields
from hkd.coco.categories import normalized_name, read_category_names
from hkd.coco.images import IMAGE_NAMES, ImageRecord, read_image_ids, read_image_records
from hkd.coco.notes import Note
from hkd.coco.parsing.errors import AnnotationError
from hkd.coco.parsing.reading import read_json
from hkd.coco.parsing.records import Records
from hkd.coco.parsing.values import COORDINATES_REQUIREMENT, is_box, is_coordinates, is_integer
from hkd.coco.selection import KNOWN_IMAGE_REQUIREMENT
from hkd.data.conversion.splits import Split, drop_unusable_boxes
from hkd.data.conversion.summary import ConversionSummary, format_counts
from hkd.data.conversion.writing import write_splits
from hkd.image_files.headers import DEFAULT_MAX_MEGAPIXELS

DEFAULT_PERSON_NAMES = ("person", "pedestrian")
_REMEDY = "correct or remove the annotation"
_KEPT = ("vis_bbox", "vis_ratio", "ignore", "iscrowd", "label", "occluded")


def convert(
    root: Path,
    out: Path,
    *,
    person_names: Sequence[str] = DEFAULT_PERSON_NAMES,
    max_megapixels: float = DEFAULT_MAX_MEGAPIXELS,
    progress: bool = True,
) -> ConversionSummary:
    """Write ``<split>.json`` to ``out`` for every split that exists.

    Args:
        root: Folder of the data set.
        out: Output folder, created if missing.
        person_names: Names of the categories to keep, case-insensitive.
        max_megapixels: Largest number of pixels of an image, in millions.
        progress: Show a progress bar on stderr.

    Raises:
        AnnotationError: listing every malformed file, record and image.
    """
    root = Path(root)
    problems: list[str] = []
    notes: list[Note] = []
    splits = []
    files = _annotation_files(root)
    if not files:
        problems.append("found neither annotations/*.json nor SPLIT/_annotations.coco.json; name the set's folder")
    for name, path in files.items():
        if path.resolve() == (Path(out) / f"{name}.json").resolve():
            problems.append(f"{path.relative_to(root)} would be overwritten by the conversion; write to another folder")
        split = _read_split(name, path, root, person_names, problems, notes)
        if split is not None:
            split, dropped = drop_unusable_boxes(split)
            splits.append(split)
            notes += dropped
    return write_splits(
        splits,
        out,
        root,
        check_images=True,
        problems=problems,
        source=str(root),
        notes=notes,
        max_megapixels=max_megapixels,
        show_progress=progress,
    )


def _annotation_files(root: Path) -> dict[str, Path]:
    """Annotation files by the name of their split."""
    instances = {
        path.stem.removeprefix("instances_"): path for path in sorted(root.glob("annotations/instances_*.json"))
    }
    others = {path.stem: path for path in sorted(root.glob("annotations/*.json"))}
    exported = {path.parent.name: path for path in sorted(root.glob("*/_annotations.coco.json"))}
    return instances or others or exported


def _read_split(
    name: str,
    path: Path,
    root: Path,
    person_names: Sequence[str],
    problems: list[str],
    notes: list[Note],
) -> Split | None:
    where = path.relative_to(root).as_posix()
    try:
        document = read_json(path)
    except AnnotationError as error:
        problems += [f"{where}: {problem}" for problem in error.problems]
        return None
    if not isinstance(document, dict) or not all(
        isinstance(document.get(key), list) for key in ("images", "annotations", "categories")
    ):
        problems.append(f"{where}: must be an object with the lists 'images', 'annotations' and 'categories'")
        return None
    found: list[str] = []
    image_records = Records(document["images"], "images", found, named_by=IMAGE_NAMES)
    image_ids = read_image_ids(image_records)
    # If image ids are invalid, the boxes of these images are not reported as well.
    known_ids = None if found else set(image_ids)
    images = read_image_records(image_records, image_ids)
    categories = _categories(document["categories"], person_names, found)
    annotations = _annotations(document["annotations"], known_ids, categories, name, found, notes)
    problems += [f"{where}: {problem}" for problem in found]
    if found or not images:
        return None
    folder = _image_folder(root, name, images)
    if folder is None:
        problems.append(
            f"{where}: its first image '{images[0].file_name}' is in none of {name}, images/{name}, images and '{root}'"
        )
        return None
    return Split(
        name,
        [
            {
                "id": image.image_id,
                "file_name": (folder / image.file_name).relative_to(root).as_posix(),
                "height": image.height,
                "width": image.width,
            }
            for image in images
        ],
        annotations,
    )


def _image_folder(root: Path, name: str, images: Sequence[ImageRecord]) -> Path | None:
    for folder in (root / name, root / "images" / name, root / "images", root):
        if os.path.isfile(folder / images[0].file_name):  # noqa: PTH113 (Path.is_file raises on too long a name)
            return folder
    return None


def _categories(records: list[Any], person_names: Sequence[str], problems: list[str]) -> dict[int, tuple[str, bool]]:
    """Name of each category id, and whether its boxes are people; empty if a category is invalid."""
    names = read_category_names(records, problems)
    if names is None:
        return {}
    wanted = {normalized_name(name) for name in person_names}
    categories = {category_id: (name, normalized_name(name) in wanted) for category_id, name in names.items()}
    if not any(is_person for _, is_person in categories.values()):
        found = ", ".join(names.values()) or "none"
        problems.append(
            f"no category is named {' or '.join(person_names)}; there are: {found}. Name those of people (--person)"
        )
    return categories


def _annotations(
    values: list[Any],
    known_ids: Set[object] | None,
    categories: Mapping[int, tuple[str, bool]],
    split: str,
    problems: list[str],
    notes: list[Note],
) -> list[dict[str, Any]]:
    records = Records(values, "annotations", problems, named_by=("id", "image_id"))
    image_ids = records.column("image_id", is_integer, "an integer", _REMEDY)
    if known_ids is not None:
        records.require_known_image(image_ids, known_ids, KNOWN_IMAGE_REQUIREMENT, f"add the image, or {_REMEDY}")
    category_ids = records.column(
        "category_id",
        lambda value: is_integer(value) and (not categories or value in categories),
        'the "id" of one of the "categories"',
        _REMEDY,
    )
    row_categories = [
        categories.get(int(value), ("", False)) if is_integer(value) else ("", False) for value in category_ids
    ]
    people = records.selected([is_person for _, is_person in row_categories])
    boxes = people.column("bbox", is_coordinates, COORDINATES_REQUIREMENT, _REMEDY)
    is_empty = [is_coordinates(box) and not is_box(box) for box in boxes]
    # Boxes without area are dropped later; their height and visibility may be zero or undefined as well.
    empty = people.selected(is_empty)
    people = people.selected([not is_dropped for is_dropped in is_empty])
    fields = PedestrianFields(people)
    if problems:
        return []
    notes += [replace(note, split=split) for note in fields.notes()]
    dropped_classes = Counter(name for name, is_person in row_categories if not is_person)
    if dropped_classes:
        counts = format_counts(dropped_classes, "categories")
        sentence = f"dropped {dropped_classes.total()} boxes of other categories: {counts}"
        notes.append(Note("boxes_of_other_categories", dropped_classes.total(), sentence, split=split))
    boxes_xywh = np.array([row["bbox"] for row in people.rows], dtype=np.float64).reshape(-1, 4)
    return [
        *(
            _annotation(row, height, visibility)
            for row, height, visibility in zip(
                people.rows, fields.heights, fields.visible_fractions(boxes_xywh).tolist(), strict=True
            )
        ),
        *map(_image_and_box, empty.rows),
    ]


def _annotation(row: Mapping[str, Any], height: object, visibility: float) -> dict[str, Any]:
    """The output record of one person; ``height`` is 0 if not stated, ``visibility`` is stated or derived."""
    stated = {key: row[key] for key in _KEPT if row.get(key) not in (None, "")}
    if stated.get("iscrowd") in (1, True):
        stated = {"label": "crowd", **stated, "ignore": 1}
    if height:
        stated["height"] = height
    if "vis_bbox" in stated:
        stated["vis_ratio"] = visibility
    return {**_image_and_box(row), **stated}


def _image_and_box(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"image_id": int(row["image_id"]), "bbox": list(map(float, row["bbox"]))}
