"""EuroCity Persons (Braun, Krebs, Flohr, Gavrila, TPAMI 2019): one JSON file per image to COCO JSON.

Written from the paper and the published evaluation code, and not tested on the real files. Input: any of the parts
``{day,night}/{img,labels}/{train,val}/<city>/<image>.{png,json}``. A label file is::

    {"identity": "frame", "imagewidth": 1920, "imageheight": 1024, "children": [{"identity": "pedestrian",
     "x0": 704, "y0": 415, "x1": 726, "y1": 478, "tags": ["occluded>10"], "children": []}, ...]}

- A ``pedestrian`` counts, unless tagged ``sitting-lying`` or ``behind-glass`` (ignored by the evaluation code), or
  ``depiction`` or ``reflection`` (not a real person): these are ignored, labelled with the tag.
- Riders, co-riders (children of riders) and distant groups of persons are ignored, labelled with their identity.
  A group that is a ``depiction`` or ``reflection`` is dropped, as in the evaluation code.
- Vehicles and groups of vehicles are dropped and counted.
- ``occluded>10``, ``>40``, ``>80`` (and ``truncated>...``) mean that 10 to 40, 40 to 80, more than 80 per cent are
  hidden; ``vis_ratio`` is the middle of the visible range: 0.75, 0.4, 0.1; the smallest one if there are several tags.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from hkd.coco.notes import Note
from hkd.coco.parsing.errors import AnnotationError
from hkd.coco.parsing.reading import read_json
from hkd.coco.parsing.values import shown
from hkd.data.conversion.progress import track_progress
from hkd.data.conversion.splits import Split, drop_unusable_boxes
from hkd.data.conversion.summary import ConversionSummary
from hkd.data.conversion.values import box_at
from hkd.data.conversion.writing import write_splits
from hkd.image_files.headers import DEFAULT_MAX_MEGAPIXELS

_TIMES = ("day", "night")
_PARTS = {"train": "train", "val": "validation"}
_VEHICLES = ("bicycle", "buggy", "motorbike", "scooter", "tricycle", "wheelchair")
_DROPPED_IDENTITIES = {*_VEHICLES, *(f"{vehicle}-group" for vehicle in _VEHICLES)}
_UNREAL = ("depiction", "reflection")
_IGNORED_TAGS = (*_UNREAL, "sitting-lying", "behind-glass")
_SHARE_TAGS = ("occluded>", "truncated>")
_VISIBLE_SHARE = {
    f"{kind}{share}": visible for kind in _SHARE_TAGS for share, visible in ((10, 0.75), (40, 0.4), (80, 0.1))
}


def convert(
    root: Path,
    out: Path,
    *,
    max_megapixels: float = DEFAULT_MAX_MEGAPIXELS,
    progress: bool = True,
) -> ConversionSummary:
    """Write ``{day,night}_{train,validation}.json`` to ``out``, for the parts that exist.

    Args:
        root: Folder of ``day`` and ``night``, or of ``ECP``, which contains them.
        out: Output folder, created if missing.
        max_megapixels: Largest number of pixels of an image, in millions.
        progress: Show a progress bar on stderr.

    Raises:
        AnnotationError: listing every malformed file and object, and every invalid image or box.
    """
    root = Path(root)
    if (root / "ECP").is_dir():
        root /= "ECP"
    problems: list[str] = []
    dropped_classes: Counter[str] = Counter()
    notes: list[Note] = []
    splits = []
    for time in _TIMES:
        for part in _PARTS:
            if not (root / time / "labels" / part).is_dir():
                continue
            if not (root / time / "img" / part).is_dir():
                problems.append(f"there is {time}/labels/{part}, but no {time}/img/{part}; add its images")
                continue
            split, dropped = drop_unusable_boxes(_read_split(root, time, part, progress, problems, dropped_classes))
            splits.append(split)
            notes += dropped
    if not splits and not problems:
        problems.append("found no {day,night}/labels/{train,val}; name the folder that holds day and night")
    if dropped_classes:
        counts = ", ".join(f"{count} {identity}" for identity, count in dropped_classes.most_common())
        sentence = f"dropped {dropped_classes.total()} objects that are not persons: {counts}"
        notes.append(Note("boxes_of_other_categories", dropped_classes.total(), sentence))
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


def _read_split(
    root: Path, time: str, part: str, progress: bool, problems: list[str], dropped_classes: Counter[str]
) -> Split:
    split = Split(f"{time}_{_PARTS[part]}", [], [])
    labels = root / time / "labels" / part
    files = sorted(labels.glob("*/*.json"))
    if not files:
        problems.append(f"there is no {time}/labels/{part}/CITY/*.json")
    for path in track_progress(files, f"Reading {time} {part}", shown=progress):
        name = path.relative_to(labels).with_suffix("")
        where = f"{time}/labels/{part}/{name.as_posix()}.json"
        try:
            frame = read_json(path)
        except AnnotationError as error:
            problems += [f"{where}: {problem}" for problem in error.problems]
            continue
        if not isinstance(frame, dict) or not isinstance(frame.get("children"), list):
            problems.append(f"{where}: must be an object with imagewidth, imageheight and a list 'children'")
            continue
        image_id = len(split.images) + 1
        split.images.append(
            {
                "id": image_id,
                "file_name": f"{time}/img/{part}/{name.as_posix()}.png",
                "height": frame.get("imageheight"),
                "width": frame.get("imagewidth"),
            }
        )
        for record in _records(frame["children"], where, problems, dropped_classes):
            split.annotations.append({"image_id": image_id, **record})
    return split


def _records(
    children: list[Any], where: str, problems: list[str], dropped_classes: Counter[str]
) -> list[dict[str, Any]]:
    """The COCO records of a frame's objects and of all their descendants."""
    placed = [(f"{where}, children[{index}]", child) for index, child in enumerate(children)]
    for place, child in placed:  # the list grows while it is iterated
        inner = child.get("children", []) if isinstance(child, dict) else []
        if isinstance(inner, list):
            placed += [(f"{place}, children[{index}]", below) for index, below in enumerate(inner)]
        else:
            problems.append(f"{place}: children is a {type(inner).__name__}; it must be a list")
    records = []
    for place, child in placed:
        identity = child.get("identity") if isinstance(child, dict) else None
        tags = child.get("tags", []) if isinstance(child, dict) else []
        are_texts = isinstance(tags, list) and all(isinstance(tag, str) for tag in tags)
        if not isinstance(identity, str) or not are_texts:
            problems.append(f"{place}: must be an object with a text 'identity' and a list of texts 'tags'")
            continue
        unknown = [tag for tag in tags if tag.startswith(_SHARE_TAGS) and tag not in _VISIBLE_SHARE]
        if unknown:
            problems.append(f"{place}: found tag {shown(unknown[0])}; allowed: {', '.join(_VISIBLE_SHARE)}")
            continue
        unreal = next((tag for tag in _UNREAL if tag in tags), None)
        if identity in _DROPPED_IDENTITIES:
            dropped_classes[identity] += 1
        elif unreal and identity != "pedestrian":
            dropped_classes[f"{identity} ({unreal})"] += 1
        else:
            corners = box_at(
                [child.get(key) for key in ("x0", "y0", "x1", "y1")], f"{place}: [x0, y0, x1, y1]", problems
            )
            if corners is not None:
                records.append(_record(identity, tags, corners))
    return records


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
