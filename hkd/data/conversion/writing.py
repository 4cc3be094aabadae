"""Checking and writing of converted splits, shared by all converters: either all splits are written or none.

A converter collects COCO records of each split, a sentence for every fault and notes on every change;
:func:`write_splits` adds the problems that :mod:`hkd.coco.annotations` finds, and raises all of them together.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from hkd.coco.annotations import Annotations, parse_annotations
from hkd.coco.images import check_image_files, parse_images
from hkd.coco.notes import Note
from hkd.coco.parsing.errors import AnnotationError
from hkd.coco.parsing.reading import read_json
from hkd.coco.writing import annotation_document, write_documents
from hkd.data.conversion.progress import track_progress
from hkd.data.conversion.splits import Split
from hkd.data.conversion.summary import UNLABELLED, ConversionSummary, SplitSummary
from hkd.image_files.headers import DEFAULT_MAX_MEGAPIXELS


def write_splits(
    splits: Sequence[Split],
    out: Path,
    image_root: Path,
    *,
    check_images: bool,
    problems: Sequence[str],
    source: str,
    notes: Sequence[Note] = (),
    max_megapixels: float = DEFAULT_MAX_MEGAPIXELS,
    show_progress: bool = True,
) -> ConversionSummary:
    """Check all splits and write ``<out>/<name>.json`` of each; the images stay where they are.

    Nothing is written if there is a problem in any split, or if the existing files belong to another data set.

    Args:
        splits: At least one, with different names.
        out: Output folder, created if missing.
        image_root: Folder of the images of all splits.
        check_images: Require every image to exist, to be readable and to have the stated size.
        problems: Problems found by the converter, raised together with those found here.
        source: Name of the data set in messages, usually its folder.
        notes: What the converter changed, interpreted or left out.
        max_megapixels: Largest number of pixels of a checked image, in millions.
        show_progress: Show a progress bar on stderr while images are checked.

    Raises:
        AnnotationError: listing every problem.
    """
    out = Path(out)
    if not splits and not problems:
        problems = ["there is nothing to convert"]
    if problems:
        # A split without images had only invalid ones, which are in `problems`.
        splits = [split for split in splits if split.images]
    written_root = path_between(out, image_root)
    documents = [annotation_document(split.images, split.annotations, written_root) for split in splits]
    checked, found, turned = _check(splits, documents, image_root, check_images, max_megapixels, show_progress)
    if problems or found:
        raise AnnotationError([*problems, *found], source)
    paths = tuple(out / f"{split.name}.json" for split in splits)
    replaced = _replaced(dict(zip(paths, documents, strict=True)), source)
    write_documents(dict(zip(paths, documents, strict=True)))
    return _summary(splits, checked, [*notes, *turned], replaced, paths)


def _summary(
    splits: Sequence[Split],
    checked: Sequence[Annotations],
    notes: Sequence[Note],
    replaced: Sequence[Note],
    paths: tuple[Path, ...],
) -> ConversionSummary:
    ignored_labels = [
        Counter(
            label or UNLABELLED
            for label, is_ignored in zip(annotations.annotated.labels(), annotations.ignore.tolist(), strict=True)
            if is_ignored
        )
        for annotations in checked
    ]
    in_all_splits = sum(ignored_labels, Counter[str]())
    found = [
        replace(note, split=split.name) if len(splits) > 1 else note
        for split, annotations in zip(splits, checked, strict=True)
        for note in annotations.notes
    ]
    summaries = tuple(
        SplitSummary(
            name=split.name,
            path=path,
            images=len(annotations.images),
            images_without_boxes=len(annotations.images) - len(set(annotations.image_index.tolist())),
            boxes=len(annotations.ignore),
            ignored=labels.total(),
            ignored_by_label=dict(labels.most_common()),
        )
        for split, path, annotations, labels in zip(splits, paths, checked, ignored_labels, strict=True)
    )
    return ConversionSummary(
        splits=summaries,
        images=sum(split.images for split in summaries),
        boxes=sum(split.boxes for split in summaries),
        ignored=in_all_splits.total(),
        ignored_by_label=dict(in_all_splits.most_common()),
        notes=(*notes, *found, *replaced),
    )


def _check(
    splits: Sequence[Split],
    documents: Sequence[dict[str, Any]],
    image_root: Path,
    check_images: bool,
    max_megapixels: float,
    show_progress: bool,
) -> tuple[list[Annotations], list[str], list[Note]]:
    """The checked splits, their problems and notes on their images; a problem of all splits is reported once."""
    checked: list[Annotations] = []
    found: dict[str, list[str]] = {}
    notes: list[Note] = []
    for split, document in zip(splits, documents, strict=True):
        problems: list[str] = []
        if check_images:
            images = parse_images(document["images"], [])  # invalid records are reported below
            described = f"Checking images of {split.name}"
            tracked = track_progress(images, described, shown=show_progress)
            turned = check_image_files(tracked, image_root, problems, max_megapixels)
            notes += [replace(note, split=split.name) for note in turned]
        try:
            checked.append(parse_annotations(document, Path(split.name), image_root, check_images=False))
        except AnnotationError as error:
            problems += error.problems
        for problem in problems:
            found.setdefault(problem, []).append(split.name)
    named_problems = [
        problem if len(names) == len(splits) else f"{', '.join(names)}: {problem}" for problem, names in found.items()
    ]
    return checked, named_problems, notes


def _replaced(documents: Mapping[Path, Mapping[str, Any]], source: str) -> list[Note]:
    """One note on each replaced file that had other images.

    Raises:
        AnnotationError: an existing file has none of the new images of any split: it belongs to another data set.
    """
    problems = []
    notes = []
    of_all_splits = set[str]().union(*(_image_names(document) for document in documents.values()))
    for path, document in documents.items():
        if not path.is_file():
            continue
        try:
            before = _image_names(read_json(path))
        except AnnotationError:
            before = set()
        gone = before - _image_names(document)
        if before.isdisjoint(of_all_splits):
            held = f"holds {len(before)} other images" if before else "is no file of annotations"
            problems.append(f"'{path}' exists and {held}; choose another folder (--out), or remove the file")
        elif gone:
            sentence = f"replaced {path.name}; {len(gone)} of its {len(before)} images are not in the new file"
            notes.append(Note("files_replaced", 1, sentence, (path.name,)))
    if problems:
        raise AnnotationError(problems, source)
    return notes


def _image_names(document: object) -> set[str]:
    """File names without folders, because a converter may collect the images in another folder."""
    images = document.get("images") if isinstance(document, dict) else None
    names = [image.get("file_name") for image in images or [] if isinstance(image, dict)]
    return {PurePosixPath(name).name for name in names if isinstance(name, str)}


def path_between(folder: Path, target: Path) -> str:
    """Relative path between folders, so that both can be moved together; absolute if they share only the root."""
    folder, target = folder.resolve(), target.resolve()
    if folder.anchor != target.anchor or os.path.commonpath([folder, target]) == folder.anchor:
        return str(target)
    return Path(os.path.relpath(target, folder)).as_posix()
