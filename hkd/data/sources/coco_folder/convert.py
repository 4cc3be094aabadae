"""A folder in COCO's layout, or an export in COCO's format, filtered to people.

Written from the documentation of the format (cocodataset.org, "Data format") and from exports of labelling tools, and
not tested on COCO's files. :mod:`hkd.data.sources.coco_folder.layout` has the layouts of files.

Annotations are read by the rules of :mod:`hkd.coco`: people are kept with their pedestrian fields, boxes of other
categories are left out and counted. ``iscrowd`` boxes are ignored. Images without people are kept. Image ids do not
change, so that detections in COCO's format remain valid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hkd.coco.categories import PERSON_NAMES, CategoryNames, normalized_name
from hkd.coco.documents import DocumentColumns
from hkd.coco.images import read_image_records
from hkd.coco.notes import Note, counted_note
from hkd.coco.parsing.errors import AnnotationError
from hkd.coco.parsing.other_formats import export_hint
from hkd.coco.parsing.reading import read_json
from hkd.coco.parsing.values import as_id, shown
from hkd.data.conversion.finding.image_search import LocatedImages, locate_images
from hkd.data.conversion.finding.missing_images import missing_images_problem
from hkd.data.conversion.finding.root_folder import nothing_found
from hkd.data.conversion.random_split import divide_at_random
from hkd.data.conversion.splits import Split, choose_splits, drop_unusable_boxes
from hkd.data.conversion.summary import ConversionSummary
from hkd.data.conversion.values import hidden_files_note
from hkd.data.conversion.writing import write_splits
from hkd.data.sources.coco_folder.layout import PATTERNS, AnnotationFile, find_annotation_files, hidden_files
from hkd.image_files.headers import DEFAULT_MAX_MEGAPIXELS

_KEPT = ("vis_bbox", "vis_ratio", "ignore", "iscrowd", "label", "occluded")
_OTHER_FORMAT = "must be an object with the lists 'images', 'annotations' and 'categories'"


@dataclass(frozen=True)
class _Export:
    """One annotation file as read, and where its images are."""

    file: AnnotationFile
    where: str
    """The file relative to the root, for messages."""
    document: dict[str, Any]
    names: list[str]
    """Stated name of each image, empty if it is no text."""
    located: LocatedImages

    @property
    def missing(self) -> list[int]:
        """Positions of the images whose stated files do not exist."""
        return [position for position in self.located.missing if self.names[position]]

    @property
    def has_images(self) -> bool:
        """Whether any image was found, or none is stated."""
        return not any(self.names) or any(self.located.paths)


def convert(
    root: Path,
    out: Path,
    *,
    person_names: Sequence[str] = (),
    ignored_names: Sequence[str] = (),
    chosen_splits: Sequence[str] = (),
    validation_images: int | None = None,
    seed: int = 0,
    skip_missing: bool = False,
    max_megapixels: float = DEFAULT_MAX_MEGAPIXELS,
    progress: bool = True,
) -> ConversionSummary:
    """Write ``<split>.json`` to ``out`` for every split of which there are images.

    Args:
        root: Folder of the data set.
        out: Output folder, created if missing.
        person_names: Names of the categories to keep, case-insensitive; by default ``person`` or ``pedestrian``.
        ignored_names: Names of categories whose boxes are ignore regions.
        chosen_splits: Names of the splits to convert; by default those of which there are images.
        validation_images: Number of images of the only split that become the validation images.
        seed: Seed of that division.
        skip_missing: Leave images out whose files do not exist.
        max_megapixels: Largest number of pixels of an image, in millions.
        progress: Show a progress bar on stderr.

    Raises:
        AnnotationError: listing every malformed file, record and image.
    """
    root = Path(root)
    problems: list[str] = []
    notes: list[Note] = []
    files = {file.split: file for file in find_annotation_files(root)}
    if not files:
        what = "annotations/*.json, SPLIT/_annotations.coco.json or other .json"
        problems.append(nothing_found(root, what, PATTERNS, "name the folder of the data set"))
    notes += hidden_files_note(hidden_files(root))
    chosen = choose_splits(files, chosen_splits, problems)
    read, others = _read_exports(root, list(chosen.values()), len(files) == 1, bool(chosen_splits), problems)
    notes += counted_note(
        "files_without_annotations",
        others,
        "left out {count} JSON files that are not in COCO's format (first: {first})",
    )
    kept, absent_notes = _with_images(read, bool(chosen_splits), problems)
    notes += absent_notes
    named = CategoryNames(tuple(person_names), tuple(ignored_names))
    splits = []
    for export in kept:
        _require_other_file(export, Path(out), validation_images, problems)
        split, split_notes = _read_split(export, named, skip_missing, problems)
        notes += split_notes
        if split is not None:
            split, dropped = drop_unusable_boxes(split)
            splits.append(split)
            notes += dropped
    splits, divided = divide_at_random(splits, validation_images, seed, problems)
    return write_splits(
        *(splits, out, root),
        check_images=True,
        problems=problems,
        source=str(root),
        notes=[*notes, *divided],
        max_megapixels=max_megapixels,
        show_progress=progress,
    )


def _read_exports(
    root: Path, files: Sequence[AnnotationFile], is_only: bool, are_chosen: bool, problems: list[str]
) -> tuple[list[_Export], list[str]]:
    """The annotation files; and those in another format, which are problems unless others are in COCO's."""
    read = []
    found: dict[str, list[str]] = {}
    for file in files:
        of_file: list[str] = []
        export = _read_export(root, file, is_only, of_file)
        if export is not None:
            read.append(export)
        elif of_file and _OTHER_FORMAT in of_file[0] and not are_chosen:
            found[file.path.relative_to(root).as_posix()] = of_file
        else:
            problems += of_file
    if not read:
        problems += [problem for of_file in found.values() for problem in of_file]
        return [], []
    return read, list(found)


def _read_export(root: Path, file: AnnotationFile, is_only: bool, problems: list[str]) -> _Export | None:
    where = file.path.relative_to(root).as_posix()
    try:
        document = read_json(file.path)
    except AnnotationError as error:
        problems += [f"{where}: {problem}" for problem in error.problems]
        return None
    if not isinstance(document, dict) or not all(
        isinstance(document.get(key), list) for key in ("images", "annotations")
    ):
        hint = export_hint(document)
        problems.append(f"{where}: {_OTHER_FORMAT}" + ("" if hint is None else f"; {hint}"))
        return None
    names = [name if isinstance(name, str) else "" for name in map(_stated_name, document["images"])]
    return _Export(
        file, where, document, names, locate_images(root, file.path, file.split, names, search_names=is_only)
    )


def _stated_name(image: object) -> object:
    return image.get("file_name", image.get("im_name")) if isinstance(image, dict) else None


def _with_images(exports: Sequence[_Export], are_chosen: bool, problems: list[str]) -> tuple[list[_Export], list[Note]]:
    """The exports of which there are images, and notes on the others, which are problems if they were chosen."""
    kept = [export for export in exports if export.has_images]
    notes = []
    for export in exports:
        if export.has_images:
            continue
        name = next(filter(None, export.names))
        state = f"none of its {len(export.located.paths):,} images was found (first: '{name[:200]}')"
        places = ", ".join(f"'{place}'" for place in export.located.tried)
        if kept and not are_chosen:
            sentence = f"{export.file.split}: left out, because {state}; looked in {places}"
            notes.append(Note("splits_missing", 1, sentence, (export.file.split,)))
        else:
            problems.append(f"{export.where}: {state}; put the images into one of {places}")
    return kept, notes


def _require_other_file(export: _Export, out: Path, validation_images: int | None, problems: list[str]) -> None:
    names = (export.file.split,) if validation_images is None else ("train", "validation")
    if any(export.file.path.resolve() == (out / f"{name}.json").resolve() for name in names):
        problems.append(f"{export.where} would be overwritten by the conversion; write to another folder")


def _read_split(
    export: _Export, named: CategoryNames, skip_missing: bool, problems: list[str]
) -> tuple[Split | None, list[Note]]:
    name = export.file.split
    missing = [export.names[position] for position in export.missing]
    if missing and not skip_missing:
        problems.append(_missing_images_problem(export, missing))
    # Without the missing images, of which the sentence above is enough.
    columns = DocumentColumns(_with_files(export), export.where, named)
    images = read_image_records(columns.images, columns.image_ids)
    _require_named_people(columns, named)
    problems += [f"{export.where}: {problem}" for problem in columns.problems]
    if columns.problems or not images:
        return None, []
    notes = [replace(note, split=name) for note in columns.boxes.notes()]
    notes += counted_note(
        "images_missing",
        missing,
        "left out {count} images whose files do not exist, and their boxes (first: {first})",
        name,
    )
    notes += counted_note(
        "images_found_elsewhere",
        export.located.by_name,
        "found {count} images by the ends of their paths (first: {first})",
        name,
    )
    records = [
        {"id": image.image_id, "file_name": image.file_name, "height": image.height, "width": image.width}
        for image in images
    ]
    return Split(name, records, _annotations(columns)), notes


def _require_named_people(columns: DocumentColumns, named: CategoryNames) -> None:
    """Note that the only category, which counts as people whatever its name, is not named so: it may be cars."""
    if columns.categories is None or named.people:
        return
    names = [columns.categories.names.get(category_id, PERSON_NAMES[0]) for category_id in columns.categories.people]
    if not any(normalized_name(name) in PERSON_NAMES for name in names):
        columns.problems.append(
            f"no category is named {' or '.join(PERSON_NAMES)}; there is {', '.join(map(shown, names))}. Name those of"
            " people (--person)"
        )


def _missing_images_problem(export: _Export, missing: Sequence[str]) -> str:
    found = next(path for path in export.located.paths if path is not None)
    place = f"where the others are (such as '{found}')"
    return missing_images_problem(missing, len(export.located.paths), export.where, place)


def _with_files(export: _Export) -> dict[str, Any]:
    """The document with the files of its images, without the images that do not exist and their annotations."""
    missing = set(export.missing)
    images = export.document["images"]
    absent_ids = {_id(images[position].get("id")) for position in missing}
    return {
        **export.document,
        "images": [
            {**image, "file_name": path} if path is not None else image
            for position, (image, path) in enumerate(zip(images, export.located.paths, strict=True))
            if position not in missing
        ],
        "annotations": [
            row
            for row in export.document["annotations"]
            if not (absent_ids and isinstance(row, dict) and _id(row.get("image_id")) in absent_ids)
        ],
    }


def _id(value: object) -> object:
    """An image's id for comparisons; None if it is none."""
    value = as_id(value)
    return value if isinstance(value, (int, str)) else None


def _annotations(columns: DocumentColumns) -> list[dict[str, Any]]:
    selected, fields = columns.boxes.selected, columns.boxes.fields
    boxes_xywh = np.array(selected.boxes, dtype=np.float64).reshape(-1, 4)
    return [
        {"image_id": image_id, "bbox": box, **_fields(row, height, visibility, label)}
        for row, image_id, box, height, visibility, label in zip(
            selected.records.rows,
            selected.image_ids,
            boxes_xywh.tolist(),
            fields.heights,
            fields.visible_fractions(boxes_xywh).tolist(),
            _labels_of_regions(columns),
            strict=True,
        )
    ]


def _labels_of_regions(columns: DocumentColumns) -> list[str]:
    """The category's name of each box that is an ignore region by its category; empty for all others."""
    selected = columns.boxes.selected
    names = {} if columns.categories is None else columns.categories.names
    return [
        str(names.get(category_id, ""))
        if is_region and isinstance(category_id := as_id(row["category_id"]), int)
        else ""
        for row, is_region in zip(selected.records.rows, selected.is_ignored, strict=True)
    ]


def _fields(row: Mapping[str, Any], height: object, visibility: float, region: str) -> dict[str, Any]:
    """The optional fields of one output record; ``height`` is 0 if not stated, ``visibility`` is stated or derived."""
    stated = {key: row[key] for key in _KEPT if row.get(key) not in (None, "")}
    if region:
        stated = {"label": region, **stated, "ignore": 1}
    if stated.get("iscrowd") in (1, True):
        stated = {"label": "crowd", **stated, "ignore": 1}
    if height:
        stated["height"] = height
    if "vis_bbox" in stated:
        stated["vis_ratio"] = visibility
    return stated
