"""CVAT's own format, "CVAT for images 1.1", filtered to people.

Written from CVAT's documentation of the format (docs.cvat.ai, "CVAT for image"), and not tested on real exports.
``annotations.xml`` lists the images with their shapes::

    <image id="0" name="a.jpg" width="640" height="480">
      <box label="person" occluded="0" xtl="10.5" ytl="20" xbr="60" ybr="170" z_order="0"/>
      <polygon label="person" occluded="1" points="10,20;30,20;30,60"/>
    </image>

Coordinates are pixels, 0 being the edge of the image. Of polygons, masks, ellipses and rotated boxes the bounding box
is used, and counted. Lines and points have no box, and are left out. Exports of videos ("CVAT for video") list tracks
instead of images; MOT's format is read from the same tool (``hkd data mot``).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hkd.coco.categories import CategoryNames
from hkd.coco.notes import Note, counted_note
from hkd.coco.parsing.values import LARGEST_COORDINATE, shown
from hkd.data.conversion.classes import ClassRoles, class_roles, other_classes_note
from hkd.data.conversion.file_formats.xml_file import XmlElement, XmlError, read_xml
from hkd.data.conversion.finding.image_search import LocatedImages, locate_images
from hkd.data.conversion.finding.missing_images import missing_images_problem
from hkd.data.conversion.finding.root_folder import nothing_found
from hkd.data.conversion.random_split import divide_at_random
from hkd.data.conversion.splits import WHOLE_SET, Split, choose_splits, drop_unusable_boxes
from hkd.data.conversion.summary import ConversionSummary
from hkd.data.conversion.values import decimal
from hkd.data.conversion.writing import write_splits
from hkd.image_files.headers import DEFAULT_MAX_MEGAPIXELS

FILE = "annotations.xml"
_SUBSETS = {"train": "train", "val": "validation", "valid": "validation", "validation": "validation", "test": "test"}
_MOST_POINTS = 100_000
"""Of one polygon."""
_WITHOUT_BOX = ("polyline", "points", "tag", "cuboid", "skeleton")


@dataclass(frozen=True)
class _Shape:
    label: str
    box_xywh: list[float]
    is_occluded: bool
    where: str
    is_box: bool
    """Whether the box is the shape itself."""


@dataclass
class _Image:
    name: str
    width: int
    height: int
    line: int
    shapes: list[_Shape] = field(default_factory=list)


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
    """Write ``<split>.json`` to ``out`` for every subset of the export, or ``all.json``.

    Args:
        root: Folder of ``annotations.xml`` and the images.
        out: Output folder, created if missing.
        person_names: Names of the labels to keep; by default ``person`` or ``pedestrian``.
        ignored_names: Names of labels whose boxes are ignore regions.
        chosen_splits: Names of the splits to convert; by default all.
        validation_images: Number of images of the only split that become the validation images.
        seed: Seed of that division.
        skip_missing: Leave images out whose files do not exist.
        max_megapixels: Largest number of pixels of an image, in millions.
        progress: Show a progress bar on stderr.

    Raises:
        AnnotationError: listing every malformed shape and image.
    """
    root = Path(root)
    problems: list[str] = []
    notes: list[Note] = []
    top = _read(root / FILE, problems)
    without_box: list[str] = []
    subsets: dict[str, list[_Image]] = {}
    for element in [] if top is None else top.all("image"):
        image = _image(element, without_box, problems)
        if image is not None:
            subset = element.attributes.get("subset", "")
            subsets.setdefault(_SUBSETS.get(subset.lower(), subset or WHOLE_SET), []).append(image)
    chosen = choose_splits(subsets, chosen_splits, problems)
    images = [image for members in chosen.values() for image in members]
    used = Counter(shape.label for image in images for shape in image.shapes)
    labels = [] if top is None else [*_labels(top), *used]
    named = CategoryNames(tuple(person_names), tuple(ignored_names))
    roles = class_roles(labels, used, named, FILE, problems)
    notes += counted_note(
        "boxes_of_other_shapes",
        without_box,
        "left out {count} lines, points, tags and others without a box (first: {first})",
    )
    splits = []
    for name, members in chosen.items() if roles is not None else ():
        assert roles is not None
        located = locate_images(
            root, root / FILE, name, [image.name for image in members], search_names=len(subsets) == 1
        )
        split, split_notes = _split(name, members, located, roles, skip_missing, problems)
        split, dropped = drop_unusable_boxes(split)
        splits.append(split)
        notes += [*split_notes, *dropped]
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


def _read(path: Path, problems: list[str]) -> XmlElement | None:
    try:
        top = read_xml(path)
    except (FileNotFoundError, NotADirectoryError):
        remedy = "name the folder of the export, which holds it and the images"
        problems.append(nothing_found(path.parent, FILE, (FILE,), remedy))
        return None
    except OSError as error:
        problems.append(f"{FILE}: cannot be read ({error.strerror})")
        return None
    except XmlError as error:
        problems.append(f"{FILE}: {error}")
        return None
    if next(top.all("image"), None) is not None and top.tag == "annotations":
        return top
    if next(top.all("track"), None) is not None:
        problems.append(
            f"{FILE}: is an export of a video (tracks); export it in CVAT as 'MOT 1.1' with images, and convert that"
            " with `hkd data mot`"
        )
    else:
        problems.append(f"{FILE}: has no <image> in <annotations>; export it in CVAT as 'CVAT for images 1.1'")
    return None


def _labels(top: XmlElement) -> list[str]:
    """Names of the labels of the task, project or job."""
    meta = top.child("meta")
    found = []
    for task in [] if meta is None else meta.children:
        labels = task.child("labels")
        found += [label.text_of("name") or "" for label in ([] if labels is None else labels.all("label"))]
    return [name for name in found if name]


def _image(element: XmlElement, without_box: list[str], problems: list[str]) -> _Image | None:
    where = f"{FILE}, line {element.line}"
    name = element.attributes.get("name", "")
    width, height = (_number(element.attributes.get(key)) for key in ("width", "height"))
    if not name or width is None or height is None or min(width, height) < 1 or width % 1 or height % 1:
        problems.append(f"{where}: the image must have a name, and a width and height of at least 1")
        return None
    image = _Image(name, int(width), int(height), element.line)
    for child in element.children:
        place = f"{FILE}, line {child.line}"
        if child.tag in _WITHOUT_BOX:
            without_box.append(f"{place}, {child.tag}")
            continue
        box = _box(child)
        if box is None or not child.attributes.get("label"):
            found = shown({key: child.attributes[key] for key in list(child.attributes)[:8]})
            problems.append(f"{place}: <{child.tag[:40]}> has {found}, which states no label or no box")
            continue
        is_plain = child.tag == "box" and _number(child.attributes.get("rotation", "0")) == 0
        is_occluded = child.attributes.get("occluded") == "1"
        image.shapes.append(_Shape(child.attributes["label"], box, is_occluded, place, is_plain))
    return image


def _box(element: XmlElement) -> list[float] | None:
    """The bounding box [x, y, width, height] of a shape; None if it is malformed or unknown."""
    numbers = {key: _number(value) for key, value in element.attributes.items()}
    keys = {"box": ("xtl", "ytl", "xbr", "ybr"), "mask": ("left", "top", "width", "height")}.get(
        element.tag, ("cx", "cy", "rx", "ry") if element.tag == "ellipse" else ()
    )
    values = [number for key in keys if (number := numbers.get(key)) is not None]
    if element.tag == "polygon":
        return _box_of_points(element.attributes.get("points", ""))
    if len(values) != 4:
        return None
    first, second, third, fourth = values
    if element.tag == "mask":
        return values
    angle = math.radians(_number(element.attributes.get("rotation", "0")) or 0)
    if element.tag == "box":
        if third < first or fourth < second:
            return None
        center, half = ((first + third) / 2, (second + fourth) / 2), ((third - first) / 2, (fourth - second) / 2)
        if angle == 0:
            return [first, second, third - first, fourth - second]
        reach_x = abs(half[0] * math.cos(angle)) + abs(half[1] * math.sin(angle))
        reach_y = abs(half[0] * math.sin(angle)) + abs(half[1] * math.cos(angle))
    else:
        center = (first, second)
        reach_x = math.hypot(third * math.cos(angle), fourth * math.sin(angle))
        reach_y = math.hypot(third * math.sin(angle), fourth * math.cos(angle))
    return [center[0] - reach_x, center[1] - reach_y, 2 * reach_x, 2 * reach_y]


def _box_of_points(text: str) -> list[float] | None:
    points = [pair.split(",") for pair in text.split(";", _MOST_POINTS) if pair.strip()]
    if len(points) > _MOST_POINTS:
        return None
    numbers = [[_number(value) for value in pair] for pair in points]
    xs = [pair[0] for pair in numbers if len(pair) == 2 and pair[0] is not None]
    ys = [pair[1] for pair in numbers if len(pair) == 2 and pair[1] is not None]
    if not points or len(xs) != len(points) or len(ys) != len(points):
        return None
    return [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]


def _number(text: str | None) -> float | None:
    try:
        number = decimal(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) and abs(number) <= LARGEST_COORDINATE else None


def _split(
    name: str,
    images: Sequence[_Image],
    located: LocatedImages,
    roles: ClassRoles,
    skip_missing: bool,
    problems: list[str],
) -> tuple[Split, list[Note]]:
    missing = [images[position].name for position in located.missing]
    if missing and not (skip_missing and len(missing) < len(images)):
        places = ", ".join(f"'{place}'" for place in located.tried)
        if len(missing) == len(images):
            problems.append(
                f"{FILE}: none of the {len(images):,} images of {name} was found (first: '{missing[0][:200]}'); add"
                f" them to one of {places}"
            )
        else:
            where = f"{FILE}, {name}"
            problems.append(missing_images_problem(missing, len(images), where, f"in one of {places}"))
    split = Split(name, [], [])
    others: Counter[str] = Counter()
    polygons = []
    for image, path in zip(images, located.paths, strict=True):
        if path is None:
            continue
        image_id = len(split.images) + 1
        split.images.append({"id": image_id, "file_name": path, "height": image.height, "width": image.width})
        for shape in image.shapes:
            if shape.label not in roles.people | roles.ignored:
                others[shape.label] += 1
                continue
            record: dict[str, Any] = {"image_id": image_id, "bbox": shape.box_xywh, "occluded": int(shape.is_occluded)}
            if shape.label in roles.ignored:
                record |= {"ignore": 1, "label": shape.label}
            split.annotations.append(record)
            if not shape.is_box:
                polygons.append(shape.where)
    sentence = "left out {count} images whose files do not exist, and their boxes (first: {first})"
    return split, [
        *counted_note("images_missing", missing, sentence, name),
        *counted_note(
            "images_found_elsewhere",
            located.by_name,
            "found {count} images by the ends of their paths (first: {first})",
            name,
        ),
        *counted_note(
            "boxes_from_polygons",
            polygons,
            "read {count} polygons, masks, ellipses and rotated boxes as their bounding boxes (first: {first})",
            name,
        ),
        *other_classes_note(others, name),
    ]
