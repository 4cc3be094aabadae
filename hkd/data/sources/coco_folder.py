"""A folder in COCO's layout, filtered to people.

Written from COCO's documentation of its format (cocodataset.org, "Data format"); its real files were not at hand. Read
are ``annotations/instances_<split>.json`` (or, where there is none, every ``annotations/<split>.json``) with images in
``<split>``, ``images/<split>``, ``images`` or the folder itself; or, as some labelling tools export it,
``<split>/_annotations.coco.json`` beside its images.

Boxes of the person categories are kept with what the pedestrian fields say of them (see
:mod:`hkd.data.annotations`); boxes of other categories are left out, and counted. ``iscrowd`` boxes are ignored. Images
without people stay, and image ids stay, so that detections in COCO's format still fit.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from hkd.data.annotation_checks import ImageRecord, complete, parse_images, stated_image_ids
from hkd.data.annotations import AnnotationError, read_json
from hkd.data.sources import conversion
from hkd.data.sources.conversion import ConversionSummary, Split, box_at, drop_unusable_boxes, write_splits

DEFAULT_PERSON_NAMES = ("person", "pedestrian")
_KEPT = ("vis_bbox", "vis_ratio", "height", "ignore", "iscrowd", "label", "occluded")


def convert(
    root: Path, out: Path, *, person_names: Sequence[str] = DEFAULT_PERSON_NAMES, progress: bool = True
) -> ConversionSummary:
    """Writes ``<split>.json`` to ``out`` of every split that is there.

    Args:
        root: the data set's folder.
        out: folder of the result; made if needed.
        person_names: names of the categories that are kept; case does not matter.
        progress: whether a bar is shown on stderr.

    Raises:
        AnnotationError: listing every malformed file, record and image.
    """
    root = Path(root)
    problems: list[str] = []
    mended: list[str] = []
    splits = []
    files = _annotation_files(root)
    if not files:
        problems.append("there is neither annotations/*.json nor SPLIT/_annotations.coco.json; name the set's folder")
    for name, path in files.items():
        if path.resolve() == (Path(out) / f"{name}.json").resolve():
            problems.append(
                f"{path.relative_to(root)} would be replaced by what is made of it; write to another folder"
            )
        split = _read_split(name, path, root, person_names, progress, problems, mended)
        if split is not None:
            split, told = drop_unusable_boxes(split)
            splits.append(split)
            mended += told
    return write_splits(
        splits, out, root, check_images=True, problems=problems, source=str(root), mended=mended, show_progress=progress
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
    progress: bool,
    problems: list[str],
    mended: list[str],
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
    images = parse_images(document["images"], found)
    stated = stated_image_ids(document["images"])
    categories = _categories(document["categories"], person_names, found)
    records = conversion.progress(document["annotations"], f"Reading {where}", shown=progress)
    annotations = _annotations(records, stated, categories, name, found, mended)
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
    """Name of each category id, and whether its boxes are people."""
    wanted = {name.lower() for name in person_names}
    categories: dict[int, tuple[str, bool]] = {}
    for number, record in enumerate(records):
        category_id = record.get("id") if isinstance(record, dict) else None
        name = record.get("name") if isinstance(record, dict) else None
        if type(category_id) is int and category_id in categories:
            problems.append(f"categories[{number}]: its id {category_id} is used before; ids are unique")
        elif type(category_id) is int and isinstance(name, str):
            categories[category_id] = name, name.strip().lower() in wanted
        else:
            problems.append(f"categories[{number}] needs an integer 'id' and a text 'name'; found {record}")
    if not any(is_person for _, is_person in categories.values()):
        names = ", ".join(name for name, _ in categories.values()) or "none"
        problems.append(
            f"no category is named {' or '.join(person_names)}; there are: {names}. Name those of people (--person)"
        )
    return categories


def _annotations(
    records: Iterable[Any],
    stated_images: set[int],
    categories: dict[int, tuple[str, bool]],
    split: str,
    problems: list[str],
    mended: list[str],
) -> list[dict[str, Any]]:
    left_out: Counter[str] = Counter()
    kept = []
    for number, record in enumerate(records):
        if not isinstance(record, dict):
            problems.append(f"annotations[{number}] is a {type(record).__name__}; it must be an object")
            continue
        image_id, category_id = record.get("image_id"), record.get("category_id")
        where = f"annotations[{number}] (id {record.get('id')!r}, image {image_id!r})"
        if type(image_id) is not int or image_id not in stated_images:
            problems.append(f"{where}: its image is not among the 'images'; correct image_id or add the image")
            continue
        if type(category_id) is not int or category_id not in categories:
            problems.append(f"{where}: category_id {category_id!r} is not among the 'categories'")
            continue
        name, is_person = categories[category_id]
        if not is_person:
            left_out[name] += 1
            continue
        box = box_at(record.get("bbox"), f"{where}: bbox", problems)
        if box is None:
            continue
        stated = {key: record[key] for key in _KEPT if record.get(key) is not None}
        if stated.get("iscrowd") in (1, True):
            stated = {"label": "crowd", **stated, "ignore": 1}
        # Told of the record as it stands here, not as numbered in what is written.
        if box[2] > 0 and box[3] > 0:
            complete({"bbox": box, **stated}, where, problems)
        kept.append({"image_id": image_id, "bbox": box, **stated})
    if left_out:
        counts = ", ".join(f"{count} {name}" for name, count in left_out.most_common(5))
        more = f" and {len(left_out) - 5} more categories" if len(left_out) > 5 else ""
        mended.append(f"{split}: left out {left_out.total()} boxes of other categories: {counts}{more}")
    return kept
