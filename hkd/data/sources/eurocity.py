"""EuroCity Persons (Braun, Krebs, Flohr, Gavrila, TPAMI 2019): one JSON file per image to COCO JSON.

Written from the paper and the published evaluation code, and not tested on the real files. Input: any of the parts
``{day,night}/{img,labels}/{train,val}/<city>/<image>.{png,json}``. A label file is::

    {"identity": "frame", "imagewidth": 1920, "imageheight": 1024, "children": [{"identity": "pedestrian",
     "x0": 704, "y0": 415, "x1": 726, "y1": 478, "tags": ["occluded>10"], "children": []}, ...]}

- A ``pedestrian`` counts, unless tagged ``sitting-lying`` or ``behind-glass`` (ignored by the evaluation code), or
  ``depiction`` or ``reflection`` (not a real person): these are ignored, labelled with the tag.
- Riders, co-riders (children of riders) and distant groups of persons are ignored, labelled with their identity.
  A group that is a ``depiction`` or ``reflection`` is dropped, as in the evaluation code.
- Objects of another identity, or of none (``null``, which the published files contain), are ignored and counted.
- Vehicles and groups of vehicles are dropped and counted.
- ``occluded>10``, ``>40``, ``>80`` (and ``truncated>...``) mean that 10 to 40, 40 to 80, more than 80 per cent are
  hidden; ``vis_ratio`` is the middle of the visible range: 0.75, 0.4, 0.1; the smallest one if there are several tags.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hkd.coco.notes import Note, counted_note
from hkd.coco.parsing.errors import AnnotationError
from hkd.coco.parsing.reading import read_json
from hkd.coco.parsing.values import is_pixel_count, shown
from hkd.data.conversion.finding.missing_images import leave_out_missing_images
from hkd.data.conversion.progress import track_progress
from hkd.data.conversion.splits import Split, drop_unusable_boxes_of_all
from hkd.data.conversion.summary import ConversionSummary
from hkd.data.conversion.values import box_at, decimal, hidden_files_note
from hkd.data.conversion.writing import write_splits
from hkd.image_files.headers import DEFAULT_MAX_MEGAPIXELS
from hkd.image_files.listing import split_hidden

_TIMES = ("day", "night")
_PARTS = {"train": "train", "val": "validation"}
_VEHICLES = ("bicycle", "buggy", "motorbike", "scooter", "tricycle", "wheelchair")
_DROPPED_IDENTITIES = {*_VEHICLES, *(f"{vehicle}-group" for vehicle in _VEHICLES)}
_KNOWN_IDENTITIES = {
    "pedestrian",
    "rider",
    "co-rider",
    "person-group-far-away",
    "rider+vehicle-group-far-away",
    *_DROPPED_IDENTITIES,
}
_NO_IDENTITY = "unknown"
"""Label of objects without an identity."""
_UNREAL = ("depiction", "reflection")
_IGNORED_TAGS = (*_UNREAL, "sitting-lying", "behind-glass")
_SHARE_TAGS = ("occluded>", "truncated>")
_VISIBLE_SHARE = {
    f"{kind}{share}": visible for kind in _SHARE_TAGS for share, visible in ((10, 0.75), (40, 0.4), (80, 0.1))
}


@dataclass
class _Findings:
    """What the files of all splits hold besides the records."""

    problems: list[str] = field(default_factory=list)
    not_persons: Counter[str] = field(default_factory=Counter)
    """Dropped objects by identity."""
    unknown: list[str] = field(default_factory=list)
    without_box: list[str] = field(default_factory=list)
    hidden: list[str] = field(default_factory=list)

    def notes(self) -> list[Note]:
        counts = ", ".join(f"{count} {identity}" for identity, count in self.not_persons.most_common())
        total = self.not_persons.total()
        dropped = f"dropped {total} objects that are not persons: {counts}"
        return [
            *([Note("boxes_of_other_categories", total, dropped)] if total else []),
            *counted_note(
                "boxes_of_unknown_classes",
                self.unknown,
                "ignored {count} objects without a known identity (first: {first})",
            ),
            *counted_note(
                "boxes_without_area", self.without_box, "dropped {count} objects without coordinates (first: {first})"
            ),
            *hidden_files_note(self.hidden),
        ]


def convert(
    root: Path,
    out: Path,
    *,
    skip_missing: bool = False,
    max_megapixels: float = DEFAULT_MAX_MEGAPIXELS,
    progress: bool = True,
) -> ConversionSummary:
    """Write ``{day,night}_{train,validation}.json`` to ``out``, for the parts that exist.

    Args:
        root: Folder of ``day`` and ``night``, or of ``ECP``, which contains them.
        out: Output folder, created if missing.
        skip_missing: Leave images out whose files do not exist.
        max_megapixels: Largest number of pixels of an image, in millions.
        progress: Show a progress bar on stderr.

    Raises:
        AnnotationError: listing every malformed file and object, and every invalid image or box.
    """
    root = Path(root)
    if (root / "ECP").is_dir():
        root /= "ECP"
    found = _Findings()
    notes: list[Note] = []
    splits = []
    without_images = []
    for time in _TIMES:
        for part in _PARTS:
            if not (root / time / "labels" / part).is_dir():
                continue
            if not (root / time / "img" / part).is_dir():
                without_images.append((time, part))
                continue
            splits.append(_read_split(root, time, part, progress, found))
    for time, part in without_images:
        if splits:
            sentence = f"left out, because there is no {time}/img/{part}"
            notes.append(Note("splits_missing", 1, sentence, split=f"{time}_{_PARTS[part]}"))
        else:
            found.problems.append(f"there is {time}/labels/{part}, but no {time}/img/{part}; add its images")
    if not splits and not found.problems:
        found.problems.append("found no {day,night}/labels/{train,val}; name the folder that holds day and night")
    if not found.problems:
        splits, left_out = leave_out_missing_images(splits, root, skip_missing, found.problems)
        notes += left_out
    splits, dropped = drop_unusable_boxes_of_all(splits)
    return write_splits(
        splits,
        out,
        root,
        check_images=True,
        problems=found.problems,
        source=str(root),
        notes=[*notes, *dropped, *found.notes()],
        max_megapixels=max_megapixels,
        show_progress=progress,
    )


def _read_split(root: Path, time: str, part: str, progress: bool, found: _Findings) -> Split:
    split = Split(f"{time}_{_PARTS[part]}", [], [])
    labels = root / time / "labels" / part
    files = split_hidden(labels.glob("*/*.json"), labels)
    found.hidden += [path.relative_to(root).as_posix() for path in files.hidden]
    if not files.kept:
        found.problems.append(f"there is no {time}/labels/{part}/CITY/*.json")
    for path in track_progress(files.kept, f"Reading {time} {part}", shown=progress):
        name = path.relative_to(labels).with_suffix("")
        where = f"{time}/labels/{part}/{name.as_posix()}.json"
        try:
            frame = read_json(path)
        except AnnotationError as error:
            found.problems += [f"{where}: {problem}" for problem in error.problems]
            continue
        if not isinstance(frame, dict) or not isinstance(frame.get("children"), list):
            found.problems.append(f"{where}: must be an object with imagewidth, imageheight and a list 'children'")
            continue
        width, height = _number(frame.get("imagewidth")), _number(frame.get("imageheight"))
        if not is_pixel_count(width) or not is_pixel_count(height):
            size = f"{shown(width)} x {shown(height)}"
            found.problems.append(f"{where}: imagewidth x imageheight is {size}; both must be integers of at least 1")
            continue
        image_id = len(split.images) + 1
        file_name = f"{time}/img/{part}/{name.as_posix()}.png"
        split.images.append({"id": image_id, "file_name": file_name, "height": height, "width": width})
        for record in _records(frame["children"], where, found):
            split.annotations.append({"image_id": image_id, **record})
    return split


def _records(children: list[Any], where: str, found: _Findings) -> list[dict[str, Any]]:
    """The COCO records of a frame's objects and of all their descendants."""
    placed = [(f"{where}, children[{index}]", child) for index, child in enumerate(children)]
    for place, child in placed:  # the list grows while it is iterated
        inner = (child.get("children") or []) if isinstance(child, dict) else []
        if isinstance(inner, list):
            placed += [(f"{place}, children[{index}]", below) for index, below in enumerate(inner)]
        else:
            found.problems.append(f"{place}: children is a {type(inner).__name__}; it must be a list")
    records = []
    for place, child in placed:
        identity = child.get("identity") if isinstance(child, dict) else 0
        tags = (child.get("tags") or []) if isinstance(child, dict) else []
        are_texts = isinstance(tags, list) and all(isinstance(tag, str) for tag in tags)
        if not (identity is None or isinstance(identity, str)) or not are_texts:
            found.problems.append(f"{place}: must be an object with a text 'identity' and a list of texts 'tags'")
            continue
        unknown = [tag for tag in tags if tag.startswith(_SHARE_TAGS) and tag not in _VISIBLE_SHARE]
        if unknown:
            found.problems.append(f"{place}: found tag {shown(unknown[0])}; allowed: {', '.join(_VISIBLE_SHARE)}")
            continue
        unreal = next((tag for tag in _UNREAL if tag in tags), None)
        if identity in _DROPPED_IDENTITIES:
            found.not_persons[identity] += 1
        elif unreal and identity != "pedestrian":
            found.not_persons[f"{identity or _NO_IDENTITY} ({unreal})"] += 1
        else:
            corners = _corners(child, place, found)
            if corners is not None:
                records.append(_record(identity or _NO_IDENTITY, tags, corners))
                if identity not in _KNOWN_IDENTITIES:
                    found.unknown.append(f"{place}, identity {shown(identity)}")
    return records


def _corners(child: dict[str, Any], place: str, found: _Findings) -> list[float] | None:
    """Left, top, right and bottom; ``None``, with an entry in ``found``, if they are absent or no numbers."""
    values = [_number(child.get(key)) for key in ("x0", "y0", "x1", "y1")]
    if all(value is None for value in values):
        found.without_box.append(place)
        return None
    return box_at(values, f"{place}: [x0, y0, x1, y1]", found.problems)


def _number(value: object) -> object:
    """The number in a text, which the evaluation code reads as one; any other value as it is."""
    if not isinstance(value, str):
        return value
    try:
        number = decimal(value)
    except ValueError:
        return value
    return int(number) if number.is_integer() else number


def _record(identity: str, tags: list[str], corners_xyxy: list[float]) -> dict[str, Any]:
    left, top, right, bottom = corners_xyxy
    record: dict[str, Any] = {
        "bbox": [left, top, right - left, bottom - top],
        "vis_ratio": min((_VISIBLE_SHARE[tag] for tag in tags if tag in _VISIBLE_SHARE), default=1.0),
        "height": bottom - top,
        "ignore": 0,
        "iscrowd": int("-group" in identity),
        "occluded": int(any(tag.startswith("occluded>") for tag in tags)),
    }
    label = identity if identity != "pedestrian" else next((tag for tag in _IGNORED_TAGS if tag in tags), None)
    if label is not None:
        record |= {"ignore": 1, "label": label}
    return record
