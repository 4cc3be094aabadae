"""Records of one split of a data set, as a converter collects them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any, TypeVar

from hkd.coco.notes import Note, counted_note
from hkd.coco.parsing.values import shown

FilesT = TypeVar("FilesT")


@dataclass(frozen=True)
class Split:
    """One part of a data set as COCO records; see :func:`hkd.coco.writing.annotation_document`."""

    name: str
    """Name of the output file, without ``.json``."""
    images: list[dict[str, Any]]
    """Each with ``id``, ``file_name`` relative to the image root, ``height`` and ``width``."""
    annotations: list[dict[str, Any]]
    """Each with ``image_id``, ``bbox`` [x, y, width, height] as annotated, and optional fields."""


WHOLE_SET = "all"
"""Split of a data set that states none."""
_SPLIT_FOLDERS = {"train": "train", "training": "train", "test": "test", "testing": "test"} | dict.fromkeys(
    ("val", "valid", "validation"), "validation"
)
_LONGEST_NAME = 100
"""Letters; file systems allow 255 bytes, of which a temporary file beside it needs some."""


def split_of_folders(relative_path: PurePath) -> str:
    """The split that a folder of the path is named after (``train``, ``valid`` ...), else :data:`WHOLE_SET`."""
    names = [_SPLIT_FOLDERS[part.lower()] for part in relative_path.parts[:-1] if part.lower() in _SPLIT_FOLDERS]
    return names[0] if names else WHOLE_SET


def choose_splits(found: Mapping[str, FilesT], chosen: Sequence[str], problems: list[str]) -> dict[str, FilesT]:
    """The splits that a user named with ``--split``, or all if none.

    Names that do not exist are problems, and so are those of the data set that are no names of files: splits are
    written to ``<out>/<name>.json``, and their images are looked for in folders of that name.
    """
    problems += [
        f"the split {shown(name)} cannot name a file; rename it to letters, digits, -, _ and . (at most"
        f" {_LONGEST_NAME}, not starting with .)"
        for name in found
        if not _is_file_name(name)
    ]
    found = {name: files for name, files in found.items() if _is_file_name(name)}
    unknown = [name for name in chosen if name not in found]
    if unknown and found:
        problems.append(f"there is no split {', '.join(unknown)} (--split); there are: {', '.join(found)}")
    return {name: files for name, files in found.items() if name in chosen or not chosen}


def _is_file_name(name: str) -> bool:
    """Whether a name of a data set names a file in the output folder, and nothing else."""
    is_one_part = not name.startswith(".") and not {"/", "\\", "\0"} & {*name}
    return is_one_part and name.isprintable() and 0 < len(name) <= _LONGEST_NAME


def drop_unusable_boxes(split: Split) -> tuple[Split, list[Note]]:
    """Drop boxes without area and boxes completely outside their image.

    Published data sets contain a few of them, which a user cannot correct. Boxes must be four numbers; other mistakes
    of boxes and images remain for the checks to report.

    Returns:
        The split without these boxes, and a note on each of the two kinds that occurred.
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
    total = len(split.annotations)
    notes = counted_note(
        "boxes_without_area",
        empty,
        f"dropped {{count}} of {total} boxes, without area (first: {{first}})",
        split.name,
    )
    notes += counted_note(
        "boxes_outside_image",
        outside,
        f"dropped {{count}} of {total} boxes, completely outside their image (first: {{first}})",
        split.name,
    )
    return replace(split, annotations=kept), notes


def drop_unusable_boxes_of_all(splits: Iterable[Split]) -> tuple[list[Split], list[Note]]:
    """:func:`drop_unusable_boxes` of each split."""
    usable = [drop_unusable_boxes(split) for split in splits]
    return [split for split, _ in usable], [note for _, notes in usable for note in notes]
