"""A data set in PASCAL VOC's format, filtered to people.

Written from the documentation of VOC's development kit, and from files as CVAT, LabelImg and Roboflow write them. The
XML files may be in ``Annotations`` with the images in ``JPEGImages`` and the splits in ``ImageSets/Main``, or beside
the images. An object marked ``difficult`` is ignored, as in VOC's own evaluation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hkd.coco.categories import CategoryNames
from hkd.coco.images import turned_images_note
from hkd.coco.notes import Note, counted_note
from hkd.coco.parsing.values import shown
from hkd.data.conversion.classes import ClassRoles, class_roles, other_classes_note
from hkd.data.conversion.finding.root_folder import nothing_found
from hkd.data.conversion.progress import track_progress
from hkd.data.conversion.random_split import divide_at_random
from hkd.data.conversion.splits import Split, choose_splits, drop_unusable_boxes
from hkd.data.conversion.summary import ConversionSummary
from hkd.data.conversion.values import hidden_files_note
from hkd.data.conversion.writing import write_splits
from hkd.data.sources.voc.annotation_file import Corners, VocFile, VocObject, choose_corners, read_voc_file
from hkd.data.sources.voc.layout import Layout, read_layout
from hkd.image_files.headers import DEFAULT_MAX_MEGAPIXELS, ImageFileError, ImageHeader, read_header


@dataclass(frozen=True)
class _Item:
    """One image with its XML file, which a listed image may lack."""

    image: Path
    header: ImageHeader
    file: VocFile | None


def convert(
    root: Path,
    out: Path,
    *,
    person_names: Sequence[str] = (),
    ignored_names: Sequence[str] = (),
    corners: Corners | None = None,
    chosen_splits: Sequence[str] = (),
    validation_images: int | None = None,
    seed: int = 0,
    max_megapixels: float = DEFAULT_MAX_MEGAPIXELS,
    progress: bool = True,
) -> ConversionSummary:
    """Write ``<split>.json`` to ``out`` for every split.

    Args:
        root: Folder of the data set.
        out: Output folder, created if missing.
        person_names: Names of the classes to keep; by default ``person`` or ``pedestrian``.
        ignored_names: Names of classes whose boxes are ignore regions.
        corners: What the corners of boxes mean; by default what the files show.
        chosen_splits: Names of the splits to convert; by default all.
        validation_images: Number of images of the only split that become the validation images.
        seed: Seed of that division.
        max_megapixels: Largest number of pixels of an image, in millions.
        progress: Show a progress bar on stderr.

    Raises:
        AnnotationError: listing every malformed file, object and image.
    """
    root = Path(root)
    problems: list[str] = []
    layout = read_layout(root, problems)
    layout.splits = choose_splits(layout.splits, chosen_splits, problems)
    if not layout.splits and not problems:
        problems.append(nothing_found(root, "XML file", (), "name the folder of the data set"))
    items: dict[str, list[_Item]] = {}
    for name, members in layout.splits.items():
        tracked = track_progress(list(members.items()), f"Reading {name}", shown=progress)
        read = [_read_item(root, layout, key, path, max_megapixels, problems) for key, path in tracked]
        items[name] = [item for item in read if item is not None]
    turned = [
        f"'{item.image.relative_to(root)}' (orientation {item.header.orientation})"
        for split in items.values()
        for item in split
        if item.header.orientation != 1
    ]
    files = [item.file for split in items.values() for item in split if item.file is not None]
    used = Counter(one.name for file in files for one in file.objects)
    named = CategoryNames(tuple(person_names), tuple(ignored_names))
    roles = class_roles(used, used, named, "the objects' names", problems)
    meaning, reason = choose_corners(files) if corners is None else (corners, "as requested")
    notes = [*_layout_notes(root, layout), *_corner_notes(files, meaning, reason)]
    splits = []
    for name, split_items in items.items() if roles is not None else ():
        assert roles is not None
        split, split_notes = _split(name, split_items, root, roles, meaning, problems)
        split, dropped = drop_unusable_boxes(split)
        splits.append(split)
        notes += [*split_notes, *dropped]
    splits, divided = divide_at_random(splits, validation_images, seed, problems)
    # All images were opened to read their sizes.
    return write_splits(
        splits,
        out,
        root,
        check_images=False,
        problems=problems,
        source=str(root),
        notes=[*notes, *turned_images_note(turned), *divided],
    )


def _read_item(
    root: Path, layout: Layout, key: str, path: Path | None, max_megapixels: float, problems: list[str]
) -> _Item | None:
    file = None
    where = key
    if path is not None:
        where = path.relative_to(root).as_posix()
        file = read_voc_file(path, where, problems)
        if file is None:
            return None
    images = layout.images_of(key, "" if file is None else file.file_name)
    if len(images) != 1:
        stated = f", and none of the stated name {shown(file.file_name)}" if file is not None and file.file_name else ""
        found = ", ".join(image.relative_to(root).as_posix() for image in images[:3])
        problems.append(
            f"{where}: {len(images)} images may be meant ({found}); rename the others"
            if images
            else f"{where}: found no image of the same name{stated}; add the image"
        )
        return None
    try:
        header = read_header(images[0], max_megapixels)
    except (ImageFileError, FileNotFoundError) as error:
        problems.append(f"{where}: its image '{images[0].relative_to(root)}' {error}")
        return None
    return _Item(images[0], header, file)


def _split(
    name: str, items: Sequence[_Item], root: Path, roles: ClassRoles, corners: Corners, problems: list[str]
) -> tuple[Split, list[Note]]:
    split = Split(name, [], [])
    others: Counter[str] = Counter()
    swapped: list[str] = []
    unlabelled: list[str] = []
    for image_id, item in enumerate(items, 1):
        size = item.header.width, item.header.height
        file_name = item.image.relative_to(root).as_posix()
        split.images.append({"id": image_id, "file_name": file_name, "height": size[1], "width": size[0]})
        if item.file is None:
            unlabelled.append(file_name)
            continue
        boxes = [(one, one.box_xywh(corners)) for one in item.file.objects]
        _check_size(item, [box for _, box in boxes], item.file.path.relative_to(root).as_posix(), swapped, problems)
        for one, box in boxes:
            if one.name in roles.people or one.name in roles.ignored:
                split.annotations.append({"image_id": image_id, **_annotation(one, box, one.name in roles.people)})
            else:
                others[one.name] += 1
    return split, [
        *counted_note(
            "images_without_labels", unlabelled, "{count} listed images have no XML file and count as empty", name
        ),
        *counted_note(
            "sizes_swapped",
            swapped,
            "{count} files state width and height the wrong way round, as their boxes show",
            name,
        ),
        *other_classes_note(others, name),
    ]


def _annotation(one: VocObject, box: list[float], is_person: bool) -> dict[str, Any]:
    record: dict[str, Any] = {"bbox": box}
    if one.occluded is not None:
        record["occluded"] = int(one.occluded)
    if not is_person:
        return record | {"ignore": 1, "label": one.name}
    return record | ({"ignore": 1, "label": "difficult"} if one.difficult else {})


def _check_size(item: _Item, boxes: Sequence[list[float]], where: str, swapped: list[str], problems: list[str]) -> None:
    """Note a stated size that is not the upright image's: its boxes would be misplaced."""
    assert item.file is not None
    size = float(item.header.width), float(item.header.height)
    stated = item.file.size
    if stated is None or stated == size:
        return
    are_inside = all(
        x >= -1 and y >= -1 and x + width <= size[0] + 1 and y + height <= size[1] + 1 for x, y, width, height in boxes
    )
    if stated == (size[1], size[0]) and item.header.orientation == 1 and are_inside:
        swapped.append(where)
        return
    hint = ""
    stored_width, stored_height = item.header.stored_size
    if item.header.orientation != 1 and stated == (float(stored_width), float(stored_height)):
        hint = (
            f" (EXIF orientation {item.header.orientation}: the stated size is that of the pixels as stored); store the"
            " image upright, without the tag"
        )
    problems.append(
        f"{where}: states an image of {stated[0]:g} x {stated[1]:g} pixels (width x height), but"
        f" '{item.image.name}' has {size[0]:g} x {size[1]:g}{hint or '; correct the file or the image'}"
    )


def _layout_notes(root: Path, layout: Layout) -> list[Note]:
    used = {key for members in layout.splits.values() for key in members}
    without_file = [
        path.relative_to(root).as_posix() for key, paths in layout.images.items() if key not in used for path in paths
    ]
    relative = [[path.relative_to(root).as_posix() for path in paths] for paths in (layout.hidden, layout.not_listed)]
    return [
        *hidden_files_note(relative[0]),
        *counted_note(
            "files_not_listed",
            relative[1],
            "left out {count} XML files that no list in ImageSets/Main names (first: {first})",
        ),
        *counted_note(
            "images_excluded", without_file, "left out {count} images that have no XML file (first: {first})"
        ),
    ]


def _corner_notes(files: Sequence[VocFile], corners: Corners, reason: str) -> list[Note]:
    count = sum(len(file.objects) for file in files)
    meanings = {
        "pixels": "first and last pixels, counted from 1",
        "edges": "edges, counted from 0",
        "edges-from-1": "edges, counted from 1",
    }
    sentence = f"read the corners of boxes as {meanings[corners]} ({reason}); --corners sets another meaning"
    return [Note("corners_interpreted", count, sentence)] if count else []
