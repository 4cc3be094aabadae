"""What all converters share: splits of a data set are checked as a reader would, then written, all or none of them.

A converter collects COCO records of each split and a sentence for every fault it meets; :func:`write_splits` adds what
the checks of :mod:`hkd.coco.annotations` find, and raises everything together.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from PIL import ExifTags, Image
from rich.console import Console
from rich.progress import track

from hkd.coco.annotations import Annotations, parse_annotations
from hkd.coco.errors import AnnotationError
from hkd.coco.images import check_image_files, parse_images
from hkd.coco.reading import read_json
from hkd.coco.values import is_coordinates, shown
from hkd.coco.writing import annotation_document, write_documents
from hkd.terminal_text import printable

ItemT = TypeVar("ItemT")

UNLABELLED = "no label"
"""Label in the summary of ignored boxes that have no class."""


@dataclass(frozen=True)
class Split:
    """One part of a data set as COCO records; see :func:`hkd.coco.writing.annotation_document`."""

    name: str
    """Name of the output file, without ``.json``."""
    images: list[dict[str, Any]]
    """Each with ``id``, ``file_name`` relative to the image root, ``height`` and ``width``."""
    annotations: list[dict[str, Any]]
    """Each with ``image_id``, ``bbox`` [x, y, width, height] as annotated, and optional fields."""


@dataclass(frozen=True)
class ConversionSummary:
    """Counts over all splits of a conversion; ``str()`` is the text that the command prints."""

    images: int
    boxes: int
    ignored: int
    """Boxes that count neither for nor against a detector."""
    ignored_by_label: Mapping[str, int]
    """``ignored`` by the data set's class of the box, most frequent first."""
    changes: tuple[str, ...]
    """Changes to the data, such as clipped or dropped boxes, one sentence each."""
    paths: tuple[Path, ...]
    """The annotation files, in the order of the splits."""

    def __str__(self) -> str:
        lines = [f"{self.images} images, {self.boxes} boxes, {self.ignored} of them ignored"]
        if self.ignored_by_label and set(self.ignored_by_label) != {UNLABELLED}:
            labels = {printable(label): count for label, count in self.ignored_by_label.items()}
            widest_label = max(map(len, labels))
            widest_count = len(str(max(self.ignored_by_label.values())))
            lines += [
                f"  ignored as {label:<{widest_label}}  {count:>{widest_count}}" for label, count in labels.items()
            ]
        return "\n".join([*lines, *map(printable, self.changes), *(printable(f"wrote {path}") for path in self.paths)])


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
    ignored_labels = Counter(
        label or UNLABELLED
        for part in checked
        for label, is_ignored in zip(part.annotated.labels(), part.ignore.tolist(), strict=True)
        if is_ignored
    )
    several = len(splits) > 1
    clipped = [
        f"{split.name}: {sentence}" if several else sentence
        for split, part in zip(splits, checked, strict=True)
        for sentence in part.repaired
    ]
    return ConversionSummary(
        images=sum(len(part.images) for part in checked),
        boxes=sum(len(part.ignore) for part in checked),
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
            check_image_files(progress(images, described, shown=show_progress), image_root, problems)
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


def drop_unusable_boxes(split: Split) -> tuple[Split, list[str]]:
    """Drop boxes without area and boxes completely outside their image.

    Published data sets contain a few of them, which a user cannot correct. Boxes must be four numbers; other mistakes
    of boxes and images remain for the checks to report.

    Returns:
        The split without these boxes, and a sentence for each of the two kinds that occurred.
    """
    images = {image["id"]: image for image in split.images}
    kept = []
    empty: list[str] = []
    outside: list[str] = []
    for annotation in split.annotations:
        x, y, width, height = annotation["bbox"]
        image = images.get(annotation["image_id"], {})
        image_width, image_height = image.get("width"), image.get("height")
        if x + width <= x or y + height <= y:  # also where floating point is too coarse for the width
            group = empty
        elif (
            isinstance(image_width, int)
            and isinstance(image_height, int)
            and (x >= image_width or y >= image_height or x + width <= 0 or y + height <= 0)
        ):
            group = outside
        else:
            kept.append(annotation)
            continue
        group.append(f"image '{image.get('file_name')}', bbox {annotation['bbox']}")
    notes = [
        f"{split.name}: dropped {len(group)} of {len(split.annotations)} boxes, {what} (first: {group[0]})"
        for group, what in ((empty, "without area"), (outside, "completely outside their image"))
        if group
    ]
    return replace(split, annotations=kept), notes


def format_counts(counts: Counter[str], unit: str) -> str:
    """The five most frequent names with their counts, and the number of the others."""
    listed = ", ".join(f"{count} {name}" for name, count in counts.most_common(5))
    return f"{listed} and {len(counts) - 5} more {unit}" if len(counts) > 5 else listed


def box_at(value: object, where: str, problems: list[str]) -> list[float] | None:
    """Four finite numbers, at most 1e9 in size; else ``None``, and a sentence that begins with ``where``."""
    if not is_coordinates(value):
        problems.append(f"{where} is {shown(value)}; it must be four finite numbers, none beyond 1e9")
        return None
    return list(map(float, value))


def decimal(text: str) -> float:
    """Parse a number in ASCII digits.

    Raises:
        ValueError: the text is not a number; unlike ``float()``, also for ``1_0`` and digits of other scripts.
    """
    if "_" in text or not text.isascii():
        raise ValueError(f"{text!r} is no number")
    return float(text)


def upright_size(path: Path, where: str, problems: list[str]) -> tuple[int, int] | None:
    """Width and height of an image; ``None``, with an entry in ``problems``, if it cannot be used.

    An image with an EXIF rotation is rejected: it is unknown whether its boxes refer to the rotated image.
    """
    try:
        with Image.open(path) as image:
            size, orientation = image.size, image.getexif().get(ExifTags.Base.Orientation, 1)
    except FileNotFoundError:
        problems.append(f"{where}: found no image '{path}'; add it")
    except Exception as error:  # noqa: BLE001 (a decoder may raise anything on a damaged file)
        problems.append(f"{where}: '{path}' does not open as an image ({error}); replace it")
    else:
        if orientation == 1:
            return size
        problems.append(
            f"{where}: '{path}' is stored turned (EXIF orientation {orientation}); store it upright, and see that its"
            " boxes fit"
        )
    return None


def progress(
    items: Iterable[ItemT], description: str, *, total: int | None = None, shown: bool = True
) -> Iterator[ItemT]:
    """Iterate over items with a progress bar on stderr; ``total`` is the length of an iterable without one."""
    is_empty = isinstance(items, Sized) and len(items) == 0
    yield from track(items, description, total=total, console=Console(stderr=True), disable=is_empty or not shown)


def path_between(folder: Path, target: Path) -> str:
    """Relative path between folders, so that both can be moved together; absolute if they share only the root."""
    folder, target = folder.resolve(), target.resolve()
    if folder.anchor != target.anchor or os.path.commonpath([folder, target]) == folder.anchor:
        return str(target)
    return Path(os.path.relpath(target, folder)).as_posix()
