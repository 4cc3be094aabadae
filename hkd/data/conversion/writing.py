"""Checking and writing of converted splits, shared by all converters: either all splits are written or none.

A converter collects COCO records of each split and a sentence for every fault it meets; :func:`write_splits` adds the
problems that :mod:`hkd.coco.annotations` finds, and raises all of them together.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from hkd.coco.annotations import Annotations, parse_annotations
from hkd.coco.images import check_image_files, parse_images
from hkd.coco.parsing.errors import AnnotationError
from hkd.coco.parsing.reading import read_json
from hkd.coco.writing import annotation_document, write_documents
from hkd.data.conversion.progress import track_progress
from hkd.data.conversion.splits import Split
from hkd.data.conversion.summary import UNLABELLED, ConversionSummary


def write_splits(
    splits: Sequence[Split],
    out: Path,
    image_root: Path,
    *,
    check_images: bool,
    problems: Sequence[str],
    source: str,
    changes: Sequence[str] = (),
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
        changes: Changes made by the converter, one sentence each.
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
    checked, found = _check(splits, documents, image_root, check_images, show_progress)
    if problems or found:
        raise AnnotationError([*problems, *found], source)
    paths = tuple(out / f"{split.name}.json" for split in splits)
    replaced = _replaced(dict(zip(paths, documents, strict=True)), source)
    write_documents(dict(zip(paths, documents, strict=True)))
    return _summary(splits, checked, changes, replaced, paths)


def _summary(
    splits: Sequence[Split],
    checked: Sequence[Annotations],
    changes: Sequence[str],
    replaced: Sequence[str],
    paths: tuple[Path, ...],
) -> ConversionSummary:
    ignored_labels = Counter(
        label or UNLABELLED
        for annotations in checked
        for label, is_ignored in zip(annotations.annotated.labels(), annotations.ignore.tolist(), strict=True)
        if is_ignored
    )
    clipped = [
        f"{split.name}: {sentence}" if len(splits) > 1 else sentence
        for split, annotations in zip(splits, checked, strict=True)
        for sentence in annotations.repaired
    ]
    return ConversionSummary(
        images=sum(len(annotations.images) for annotations in checked),
        boxes=sum(len(annotations.ignore) for annotations in checked),
        ignored=ignored_labels.total(),
        ignored_by_label=dict(ignored_labels.most_common()),
        changes=(*changes, *clipped, *replaced),
        paths=paths,
    )


def _check(
    splits: Sequence[Split],
    documents: Sequence[dict[str, Any]],
    image_root: Path,
    check_images: bool,
    show_progress: bool,
) -> tuple[list[Annotations], list[str]]:
    """The checked splits, and their problems; a problem of all splits is reported once."""
    checked: list[Annotations] = []
    found: dict[str, list[str]] = {}
    for split, document in zip(splits, documents, strict=True):
        problems: list[str] = []
        if check_images:
            images = parse_images(document["images"], [])  # invalid records are reported below
            described = f"Checking images of {split.name}"
            check_image_files(track_progress(images, described, shown=show_progress), image_root, problems)
        try:
            checked.append(parse_annotations(document, Path(split.name), image_root, check_images=False))
        except AnnotationError as error:
            problems += error.problems
        for problem in problems:
            found.setdefault(problem, []).append(split.name)
    return checked, [
        problem if len(names) == len(splits) else f"{', '.join(names)}: {problem}" for problem, names in found.items()
    ]


def _replaced(documents: Mapping[Path, Mapping[str, Any]], source: str) -> list[str]:
    """One sentence for each replaced file that had other images.

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
            notes.append(f"replaced {path.name}; {len(gone)} of its {len(before)} images are not in the new file")
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
