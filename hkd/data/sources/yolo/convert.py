"""A data set in YOLO's format, filtered to people.

Written from the format's documentation (docs.ultralytics.com/datasets/detect) and from exports of labelling tools.
``data.yaml`` lists the splits and the classes::

    path: .                  # optional; must be in the data set's folder
    train: images/train      # a folder, a .txt that lists images, or a list of these
    val: images/val
    names: {0: person, 1: bicycle}

Instead, darknet's ``obj.data`` may list them; or ``classes.txt`` the classes alone, the splits being folders. The
labels of ``images/train/a.jpg`` are in ``labels/train/a.txt`` (the last ``images`` of the path is replaced), or beside
the image. :func:`hkd.data.sources.yolo.labels.parse_row` has their format. An image without a label file contains no
people. Boxes of other classes and duplicate lines are dropped and counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hkd.coco.categories import CategoryNames
from hkd.coco.notes import Note, counted_note
from hkd.data.conversion.classes import ClassRoles, class_roles, other_classes_note
from hkd.data.conversion.file_formats.text_file import PROBLEMS_PER_FILE, read_lines
from hkd.data.conversion.progress import track_progress
from hkd.data.conversion.random_split import divide_at_random
from hkd.data.conversion.splits import Split, choose_splits, drop_unusable_boxes
from hkd.data.conversion.summary import ConversionSummary
from hkd.data.conversion.values import ImageSizes, hidden_files_note
from hkd.data.conversion.writing import write_splits
from hkd.data.sources.yolo.config import YoloConfig, read_config
from hkd.data.sources.yolo.labels import LabelRow, parse_row
from hkd.data.sources.yolo.layout import find_splits, images_of_split, label_file, label_path
from hkd.image_files.headers import DEFAULT_MAX_MEGAPIXELS


@dataclass
class _SplitData:
    """The images of a split and their labels, as read."""

    name: str
    images: list[tuple[Path, int, int]] = field(default_factory=list)
    """Path relative to the root, width and height in pixels."""
    rows: list[list[LabelRow]] = field(default_factory=list)
    """Of each image."""
    hidden: list[str] = field(default_factory=list)
    moved: list[str] = field(default_factory=list)
    without_labels: list[str] = field(default_factory=list)
    beside: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)
    clipped: list[str] = field(default_factory=list)
    polygons: list[str] = field(default_factory=list)

    def notes(self) -> list[Note]:
        """What was left out, changed or interpreted, except for classes."""
        without = f"{{count}} of {len(self.images)} images have no label file and count as empty"
        return [
            *hidden_files_note(self.hidden, self.name),
            *counted_note(
                "images_found_elsewhere",
                self.moved,
                "{count} paths exist in the data set's folder only without their first folders (first: {first})",
                self.name,
            ),
            *counted_note("images_without_labels", self.without_labels, without, self.name),
            *counted_note(
                "labels_beside_images",
                self.beside,
                "{count} label files were found beside their images (first: {first})",
                self.name,
            ),
            *counted_note("duplicate_boxes", self.repeated, "dropped {count} duplicate lines", self.name),
            *counted_note(
                "boxes_clipped",
                self.clipped,
                "clipped {count} boxes with numbers up to 1 % beyond the image's edge (first: {first})",
                self.name,
            ),
            *counted_note(
                "boxes_from_polygons",
                self.polygons,
                "read {count} polygons as their bounding boxes (first: {first})",
                self.name,
            ),
        ]


def convert(
    root: Path,
    out: Path,
    *,
    person_names: Sequence[str] = (),
    ignored_names: Sequence[str] = (),
    chosen_splits: Sequence[str] = (),
    validation_images: int | None = None,
    seed: int = 0,
    max_megapixels: float = DEFAULT_MAX_MEGAPIXELS,
    progress: bool = True,
) -> ConversionSummary:
    """Write ``train.json``, ``validation.json`` and ``test.json`` to ``out``, for the splits that exist.

    Args:
        root: Folder of ``data.yaml`` (or of a single other ``.yaml`` file, ``obj.data`` or ``classes.txt``).
        out: Output folder, created if missing.
        person_names: Names of the classes to keep, case-insensitive; by default ``person`` or ``pedestrian``.
        ignored_names: Names of classes whose boxes are ignore regions.
        chosen_splits: Names of the splits to convert; by default all.
        validation_images: Number of images of the only split that become the validation images.
        seed: Seed of that division.
        max_megapixels: Largest number of pixels of an image, in millions.
        progress: Show a progress bar on stderr.

    Raises:
        AnnotationError: listing every malformed file, line and image.
    """
    root = Path(root)
    problems: list[str] = []
    notes: list[Note] = []
    sizes = ImageSizes(max_megapixels)
    config = read_config(root, problems)
    entries = {} if config is None else find_splits(root, config)
    if config is not None and not entries:
        problems.append(f"{config.file}: found no image in the data set's folder")
    splits_read = []
    for name, entry in choose_splits(entries, chosen_splits, problems).items():
        assert config is not None
        found_problems: list[str] = []
        found = images_of_split(root, config, name, entry, found_problems)
        if found_problems and not found.images and name != "train" and "train" in entries and not chosen_splits:
            # Roboflow's data.yaml names splits that were not exported.
            notes.append(Note("splits_missing", 1, f"left out: {found_problems[0]}", split=name))
            continue
        problems += found_problems
        data = _SplitData(name, hidden=found.hidden, moved=found.moved)
        for image in track_progress(found.images, f"Reading {name}", shown=progress):
            _read_image(root, image, config, data, sizes, problems)
        if data.images and len(data.without_labels) == len(data.images):
            sentence = _no_labels(data)
            if name == "test" and len(entries) > 1 and not chosen_splits:
                notes.append(Note("splits_missing", 1, f"left out: {sentence}", split=name))
                continue
            problems.append(f"{name}: {sentence}")
        splits_read.append(data)
        notes += data.notes()
    roles = None if config is None else _roles(config, splits_read, person_names, ignored_names, problems)
    splits = []
    for data in splits_read if roles is not None else ():
        assert roles is not None
        assert config is not None
        split, others = _split(data, config, roles)
        split, dropped = drop_unusable_boxes(split)
        splits.append(split)
        notes += [*other_classes_note(others, split.name), *dropped]
    notes += _shared_images_notes(splits)
    splits, divided = divide_at_random(splits, validation_images, seed, problems)
    # All images were opened to read their sizes.
    return write_splits(
        *(splits, out, root),
        check_images=False,
        problems=problems,
        source=str(root),
        notes=[*notes, *sizes.notes(), *divided],
    )


def _read_image(
    root: Path, image: Path, config: YoloConfig, data: _SplitData, sizes: ImageSizes, problems: list[str]
) -> None:
    name = image.relative_to(root)
    width, height = sizes.size(image, name.as_posix(), problems) or (1, 1)
    rows: list[LabelRow] = []
    data.images.append((name, width, height))
    data.rows.append(rows)
    label, is_beside = label_file(root, name)
    if label is None:
        data.without_labels.append(name.as_posix())
        return
    if is_beside:
        data.beside.append(label.as_posix())
    seen: set[LabelRow] = set()
    num_problems = len(problems)
    for number, line in enumerate(read_lines(root / label, label.as_posix(), problems), 1):
        if not line.strip():
            continue
        if len(problems) - num_problems == PROBLEMS_PER_FILE:
            break
        where = f"{label.as_posix()}, line {number}"
        row = parse_row(line, config.keypoints)
        if isinstance(row, LabelRow) and row.class_id not in config.names:
            row = f"class {row.class_id} is not among the names in {config.file}"
        if isinstance(row, str):
            problems.append(f"{where}: found {line.strip()[:80]!r}; {row}")
            continue
        if row in seen:
            data.repeated.append(where)
            continue
        seen.add(row)
        rows.append(row)
        if row.clipped:
            data.clipped.append(where)
        if row.from_polygon:
            data.polygons.append(where)


def _no_labels(data: _SplitData) -> str:
    """A sentence on a split of which no image has a label file: probably its labels are not published, or lost."""
    image = data.images[0][0]
    return (
        f"none of its {len(data.images)} images has a label file (the first, {image.as_posix()}, would have"
        f" {label_path(image).as_posix()}); add them, or convert other splits alone (--split NAME). An empty"
        " file states that an image shows nobody"
    )


def _roles(
    config: YoloConfig,
    splits: Sequence[_SplitData],
    person_names: Sequence[str],
    ignored_names: Sequence[str],
    problems: list[str],
) -> ClassRoles | None:
    used = Counter(config.names[row.class_id] for data in splits for rows in data.rows for row in rows)
    named = CategoryNames(tuple(person_names), tuple(ignored_names))
    return class_roles(config.names.values(), used, named, config.file, problems)


def _split(data: _SplitData, config: YoloConfig, roles: ClassRoles) -> tuple[Split, Counter[str]]:
    """The records of a split, and the number of its boxes of other classes."""
    split = Split(data.name, [], [])
    others: Counter[str] = Counter()
    for image_id, ((name, width, height), rows) in enumerate(zip(data.images, data.rows, strict=True), 1):
        split.images.append({"id": image_id, "file_name": name.as_posix(), "height": height, "width": width})
        for row in rows:
            class_name = config.names[row.class_id]
            record = {"image_id": image_id, "bbox": row.box_xywh(width, height)}
            if class_name in roles.people:
                split.annotations.append(record)
            elif class_name in roles.ignored:
                split.annotations.append(record | {"ignore": 1, "label": class_name})
            else:
                others[class_name] += 1
    return split, others


def _shared_images_notes(splits: Sequence[Split]) -> list[Note]:
    """Notes on images that are in several splits."""
    notes = []
    for position, split in enumerate(splits):
        names = {image["file_name"] for image in split.images}
        for other in splits[:position]:
            shared = [image["file_name"] for image in other.images if image["file_name"] in names]
            sentence = (
                f"{{count}} of {len(names)} images of {split.name} are images of {other.name} as well, so that its"
                " results say little about new images"
            )
            notes += counted_note("images_in_both_splits", shared, sentence)
    return notes
