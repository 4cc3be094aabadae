"""A folder in the layout of Ultralytics' YOLO, filtered to people.

Written from the format's documentation (docs.ultralytics.com/datasets/detect). ``data.yaml`` lists the splits and the
classes::

    path: .                  # optional; must be in the data set's folder
    train: images/train      # a folder, a .txt that lists images, or a list of these
    val: images/val
    names: {0: person, 1: bicycle}

The labels of ``images/train/a.jpg`` are in ``labels/train/a.txt`` (the last ``images`` of the path is replaced), one
object per line: ``class center_x center_y width height``, as fractions of the image's width and height. An image
without a label file contains no people. Boxes of other classes and duplicate lines are dropped and counted.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from hkd.coco.notes import Note
from hkd.coco.parsing.reading import read_bounded
from hkd.coco.parsing.values import shown
from hkd.config_files.problems import ConfigError
from hkd.config_files.yaml_format import parse_yaml
from hkd.data.conversion.progress import track_progress
from hkd.data.conversion.splits import Split, drop_unusable_boxes
from hkd.data.conversion.summary import ConversionSummary, format_counts
from hkd.data.conversion.values import ImageSizes, decimal, hidden_files_note
from hkd.data.conversion.writing import write_splits
from hkd.image_files.headers import DEFAULT_MAX_MEGAPIXELS
from hkd.image_files.listing import image_files

DEFAULT_PERSON_NAMES = ("person", "pedestrian")
_SPLITS = {"train": "train", "val": "validation", "test": "test"}
LARGEST_CONFIG_BYTES = 1 << 20
LARGEST_TEXT_BYTES = 1 << 28
"""Of one label file, or one list of images."""
_ROUNDING = 1e-6
"""Tolerance above 1 of fractions, which files may round."""


@dataclass
class _Counts:
    """What is dropped or interpreted in a split."""

    hidden: list[str] = field(default_factory=list)
    without_labels: int = 0
    repeated: int = 0
    dropped_classes: Counter[str] = field(default_factory=Counter)

    def notes(self, split: Split) -> list[Note]:
        notes = hidden_files_note(self.hidden, split.name)
        if self.without_labels:
            sentence = f"{self.without_labels} of {len(split.images)} images have no label file and count as empty"
            notes.append(Note("images_without_labels", self.without_labels, sentence, split=split.name))
        if self.repeated:
            sentence = f"dropped {self.repeated} duplicate lines"
            notes.append(Note("duplicate_boxes", self.repeated, sentence, split=split.name))
        if self.dropped_classes:
            counts = format_counts(self.dropped_classes, "classes")
            sentence = f"dropped {self.dropped_classes.total()} boxes of other classes: {counts}"
            notes.append(Note("boxes_of_other_categories", self.dropped_classes.total(), sentence, split=split.name))
        return notes


def convert(
    root: Path,
    out: Path,
    *,
    person_names: Sequence[str] = DEFAULT_PERSON_NAMES,
    max_megapixels: float = DEFAULT_MAX_MEGAPIXELS,
    progress: bool = True,
) -> ConversionSummary:
    """Write ``train.json``, ``validation.json`` and ``test.json`` to ``out``, for the splits that exist.

    Args:
        root: Folder of ``data.yaml`` (or of a single other ``.yaml`` file).
        out: Output folder, created if missing.
        person_names: Names of the classes to keep, case-insensitive.
        max_megapixels: Largest number of pixels of an image, in millions.
        progress: Show a progress bar on stderr.

    Raises:
        AnnotationError: listing every malformed file, line and image.
    """
    root = Path(root)
    problems: list[str] = []
    notes: list[Note] = []
    sizes = ImageSizes(max_megapixels)
    splits = []
    config, file = _read_config(root, problems)
    names = _class_names(config, file, person_names, problems)
    entries = {key: config[key] for key in _SPLITS if config.get(key)}
    if config and not entries:
        problems.append(f"{file}: names neither train nor val nor test")
    for key, entry in entries.items() if names else ():
        counts = _Counts()
        split = Split(_SPLITS[key], [], [])
        images = _images(root, config.get("path"), entry, f"{file}: {key}", counts.hidden, problems)
        for image in track_progress(images, f"Reading {key}", shown=progress):
            _read_image(root, image, split, names, person_names, sizes, counts, problems)
        split, dropped = drop_unusable_boxes(split)
        splits.append(split)
        notes += counts.notes(split) + dropped
    # All images were opened to read their sizes.
    return write_splits(
        splits, out, root, check_images=False, problems=problems, source=str(root), notes=[*notes, *sizes.notes()]
    )


def _read_config(root: Path, problems: list[str]) -> tuple[dict[Any, Any], str]:
    """Content of the data set's YAML file, empty if it is invalid, and its name."""
    files = [root / "data.yaml"] if (root / "data.yaml").is_file() else sorted(root.glob("*.y*ml"))
    if len(files) != 1:
        problems.append(f"found no data.yaml, and {len(files)} other .yaml files; name the folder that holds one")
        return {}, "data.yaml"
    try:
        content = read_bounded(files[0], LARGEST_CONFIG_BYTES)
    except OSError as error:
        problems.append(f"{files[0].name}: cannot be read ({error.strerror})")
        return {}, files[0].name
    if _has_aliases(content):
        problems.append(f"{files[0].name}: has an alias (*name); replace it by its value")
        return {}, files[0].name
    try:
        config = parse_yaml(content, files[0].name, integer_keys=True)
    except ConfigError as error:
        problems += [f"{files[0].name}: {problem}" for problem in error.problems]
        return {}, files[0].name
    if not isinstance(config, dict) or not config:
        problems.append(f"{files[0].name}: must be a mapping with names, train and val")
        return {}, files[0].name
    return config, files[0].name


def _has_aliases(content: bytes) -> bool:
    """Whether the YAML has aliases: nested aliases can expand a hundred bytes to gigabytes."""
    try:
        return any(isinstance(token, yaml.AliasToken) for token in yaml.scan(content))
    except yaml.YAMLError:
        return False  # parse_yaml reports the error


def _class_names(config: dict[Any, Any], file: str, person_names: Sequence[str], problems: list[str]) -> dict[int, str]:
    """Class names by number; empty if they are invalid."""
    if not config:
        return {}
    names = config.get("names")
    pairs = (
        list(enumerate(names)) if isinstance(names, list) else list(names.items()) if isinstance(names, dict) else []
    )
    if not pairs or not all(type(number) is int and isinstance(name, str) for number, name in pairs):
        problems.append(f"{file}: names must be a list of class names, or a mapping from their numbers")
        return {}
    wanted = {name.lower() for name in person_names}
    if not any(name.strip().lower() in wanted for _, name in pairs):
        problems.append(
            f"{file}: no class is named {' or '.join(person_names)}; there are:"
            f" {', '.join(name for _, name in pairs)}. Name those of people (--person)"
        )
        return {}
    return dict(pairs)


def _images(root: Path, base: object, entry: object, where: str, hidden: list[str], problems: list[str]) -> list[Path]:
    """The images of one split, sorted; all are in the data set's folder."""
    images: set[Path] = set()
    for part in entry if isinstance(entry, list) else [entry]:
        place = _inside(root, base, part) if isinstance(part, str) else None
        if place is None:
            problems.append(f"{where} is {shown(part)}; it must name a folder or a .txt in the data set's folder")
        elif place.is_dir():
            found = image_files(place)
            images.update(found.kept)
            hidden += [path.relative_to(root).as_posix() for path in found.hidden]
        else:
            for number, line in enumerate(_lines(place, place.relative_to(root).as_posix(), problems), 1):
                if line.strip():
                    image = _inside(root, base, line.strip(), place.parent)
                    if image is None or not image.is_file():
                        problems.append(
                            f"{place.relative_to(root)}, line {number}: found no image {line.strip()[:80]!r} in"
                            " the data set's folder"
                        )
                    else:
                        images.add(image)
    if not images and not problems:
        problems.append(f"{where} ({shown(entry)}) holds no image")
    return sorted(images)


def _lines(path: Path, name: str, problems: list[str]) -> list[str]:
    try:
        return read_bounded(path, LARGEST_TEXT_BYTES).decode("utf-8", "replace").split("\n")
    except OSError as error:
        problems.append(f"{name}: cannot be read ({error.strerror})")
        return []


def _inside(root: Path, base: object, name: str, beside: Path | None = None) -> Path | None:
    """Path that ``name`` refers to; ``None`` unless it exists inside ``root``.

    Exported files often start with ``../`` although they mean the data set's folder; YOLO accepts that, too.
    """
    top = Path(os.path.abspath(root))  # noqa: PTH100 (resolve would follow links, which may point elsewhere)
    starts = [top / base, top] if isinstance(base, str) else [top]
    starts += [] if beside is None else [top / beside.relative_to(root)]
    for start in starts:
        for spelling in (name, name.removeprefix("../")):
            place = Path(os.path.normpath(start / spelling))
            try:
                if place.is_relative_to(top) and place.exists():
                    return root / place.relative_to(top)
            except OSError:  # the name is too long
                continue
    return None


def _read_image(
    root: Path,
    image: Path,
    split: Split,
    names: dict[int, str],
    person_names: Sequence[str],
    sizes: ImageSizes,
    counts: _Counts,
    problems: list[str],
) -> None:
    name = image.relative_to(root)
    width, height = sizes.size(image, name.as_posix(), problems) or (1, 1)
    image_id = len(split.images) + 1
    split.images.append({"id": image_id, "file_name": name.as_posix(), "height": height, "width": width})
    label = root / _label_path(name)
    if not label.is_file():
        counts.without_labels += 1
        return
    wanted = {person.lower() for person in person_names}
    seen: set[tuple[float, ...]] = set()
    name_of_label = label.relative_to(root).as_posix()
    for number, line in enumerate(_lines(label, name_of_label, problems), 1):
        if not line.strip():
            continue
        row = _row(line, names, f"{name_of_label}, line {number}", problems)
        if row is None:
            continue
        class_name = names[int(row[0])]
        if row in seen:
            counts.repeated += 1
        elif class_name.strip().lower() in wanted:
            center_x, center_y, box_width, box_height = row[1:]
            split.annotations.append(
                {
                    "image_id": image_id,
                    "bbox": [
                        (center_x - box_width / 2) * width,
                        (center_y - box_height / 2) * height,
                        box_width * width,
                        box_height * height,
                    ],
                }
            )
        else:
            counts.dropped_classes[class_name] += 1
        seen.add(row)


def _label_path(image: Path) -> Path:
    parts = list(image.parts)
    for index in range(len(parts) - 2, -1, -1):
        if parts[index] == "images":
            parts[index] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def _row(line: str, names: dict[int, str], where: str, problems: list[str]) -> tuple[float, ...] | None:
    """Class number, center and size as fractions; ``None``, with an entry in ``problems``, if the line is malformed."""
    columns = line.split()
    try:
        numbers = tuple(map(decimal, columns))
    except ValueError:
        numbers = ()
    if len(columns) != 5 or len(numbers) != 5 or not all(map(math.isfinite, numbers)):
        problems.append(
            f"{where}: found {line.strip()[:80]!r}; expected five numbers, class center_x center_y width height"
            " (labels of segments or key points are not read)"
        )
    elif numbers[0] not in names:
        problems.append(f"{where}: class {columns[0]} is not among the names in the data set's .yaml")
    elif not all(0 <= share <= 1 + _ROUNDING for share in numbers[1:]):
        problems.append(f"{where}: found {line.strip()[:80]!r}; center and size must be fractions from 0 to 1")
    else:
        return numbers
    return None
