"""Where the images and label files of a data set in YOLO's format are."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath

from hkd.coco.parsing.values import shown
from hkd.data.conversion.file_formats.text_file import PROBLEMS_PER_FILE, read_lines
from hkd.data.conversion.splits import split_of_folders
from hkd.data.sources.yolo.config import YoloConfig
from hkd.image_files.listing import image_files, is_hidden

_MOST_PARTS = 12
"""Last parts of a path of another machine that are looked for."""


@dataclass
class ImageSet:
    """The images of one split."""

    images: list[Path] = field(default_factory=list)
    """Sorted; all in the data set's folder."""
    hidden: list[str] = field(default_factory=list)
    moved: list[str] = field(default_factory=list)
    """Paths that exist in the data set's folder only without their first parts, each as ``STATED -> FOUND``."""


def find_splits(root: Path, config: YoloConfig) -> dict[str, object]:
    """What is stated of each split; where nothing is, the images below folders that are named as splits."""
    if config.splits:
        return dict(config.splits)
    found: dict[str, object] = {}
    for path in image_files(root).kept:
        members = found.setdefault(split_of_folders(path.relative_to(root)), [])
        assert isinstance(members, list)
        members.append(path.relative_to(root).as_posix())
    return found


def images_of_split(root: Path, config: YoloConfig, name: str, entry: object, problems: list[str]) -> ImageSet:
    """The images of one split; ``entry`` is a folder, a list of images in a text file, or a list of these."""
    found = ImageSet()
    images: set[Path] = set()
    num_problems = len(problems)
    where = f"{config.file}: {name}"
    for part in entry if isinstance(entry, list) else [entry]:
        place = _inside(root, config.base, part, found.moved) if isinstance(part, str) else None
        if place is None:
            problems.append(
                f"{where} is {shown(part)}; it must name a folder or a .txt in the data set's folder. --split NAME"
                " converts other splits alone"
            )
        elif place.is_dir():
            listed = image_files(place)
            images.update(listed.kept)
            found.hidden += [path.relative_to(root).as_posix() for path in listed.hidden]
        elif place.suffix.lower() == ".txt":
            images |= _listed(root, config.base, place, found, problems)
        else:
            images.add(place)
    if not images and len(problems) == num_problems:
        problems.append(f"{where} ({shown(entry)}) holds no image")
    found.images = sorted(images)
    return found


def _listed(root: Path, base: object, file: Path, found: ImageSet, problems: list[str]) -> set[Path]:
    images = set()
    list_name = file.relative_to(root).as_posix()
    absent: list[str] = []
    num_lines = 0
    seen: set[str] = set()
    for number, line in enumerate(read_lines(file, list_name, problems), 1):
        text = line.strip()
        if not text or text in seen:
            continue
        seen.add(text)
        num_lines += 1
        if len(absent) == PROBLEMS_PER_FILE:
            break
        num_moved = len(found.moved)
        image = _inside(root, base, text, found.moved, file.parent)
        is_moved = len(found.moved) > num_moved
        # Of two lines with the same end, at most one means this file.
        if image is None or not image.is_file() or (is_moved and image in images):
            absent.append(f"line {number}, {text[:80]!r}")
        elif is_hidden(image.relative_to(root)):
            found.hidden.append(image.relative_to(root).as_posix())
        else:
            images.add(image)
    if absent:
        so_far = " read so far" if len(absent) == PROBLEMS_PER_FILE else ""
        problems.append(
            f"{list_name}: {len(absent):,} of {num_lines:,} lines{so_far}"
            f" name no image in the data set's folder (first: {absent[0]}); add the images, or remove the lines"
        )
    return images


def _inside(root: Path, base: object, name: str, moved: list[str], beside: Path | None = None) -> Path | None:
    """Path that ``name`` refers to; ``None`` unless it exists inside ``root``.

    Exported files often start with ``../`` although they mean the data set's folder; YOLO accepts that, too. Files from
    another machine state a path of that machine, of which the end is looked for: two parts at least, because
    ``images`` alone may be any folder of images.
    """
    top = Path(os.path.abspath(root))  # noqa: PTH100 (resolve would follow links, which may point elsewhere)
    starts = [top / base, top] if isinstance(base, str) else [top]
    starts += [] if beside is None else [top / beside.relative_to(root)]
    name = name.replace("\\", "/")
    for spelling in (name, name.removeprefix("../")):
        for start in starts:
            place = _existing(top, start, spelling)
            if place is not None:
                return root / place
    parts = PurePosixPath(name).parts[-_MOST_PARTS:]
    is_list = PurePosixPath(name).suffix.lower() == ".txt"  # darknet's data/train.txt
    for first in range(1, len(parts) - (0 if is_list else 1)):
        if parts[first] == "..":
            continue
        for start in starts:
            place = _existing(top, start, "/".join(parts[first:]))
            if place is not None and ((root / place).is_file() or _is_absolute(name)):
                moved.append(f"{name} -> {place.as_posix()}")
                return root / place
    return None


def _is_absolute(name: str) -> bool:
    return name.startswith("/") or PureWindowsPath(name).drive != ""


def _existing(top: Path, start: Path, name: str) -> Path | None:
    """The path relative to ``top`` if it exists there."""
    place = Path(os.path.normpath(start / name))
    try:
        if place.is_relative_to(top) and place.exists():
            return place.relative_to(top)
    except (OSError, ValueError):  # the name is too long, or has a NUL
        pass
    return None


def label_file(root: Path, image: Path) -> tuple[Path | None, bool]:
    """The label file of an image, relative to the root, and whether it is beside the image although it is elsewhere
    by Ultralytics' rule, which replaces the last folder ``images`` of the path by ``labels``.
    """
    by_rule = label_path(image)
    if (root / by_rule).is_file():
        return by_rule, False
    beside = image.with_suffix(".txt")
    return (beside, True) if (root / beside).is_file() else (None, False)


def label_path(image: Path) -> Path:
    """The label file of an image by Ultralytics' rule."""
    parts = list(image.parts)
    for index in range(len(parts) - 2, -1, -1):
        if parts[index] == "images":
            parts[index] = "labels"
            break
    return Path(*parts).with_suffix(".txt")
