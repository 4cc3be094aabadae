"""Where a data set in VOC's format has its XML files, its images and its splits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from hkd.data.conversion.file_formats.text_file import read_lines
from hkd.data.conversion.splits import split_of_folders
from hkd.image_files.listing import IMAGE_SUFFIXES, image_files, split_hidden

_LISTS = {"train": "train", "val": "validation", "valid": "validation", "test": "test", "trainval": "trainval"}
_FOLDERS_OF_KINDS = ("annotations", "jpegimages", "images", "imgs", "img", "labels", "xmls", "xml")
"""Folders that part annotations from images; an image and its XML file have the same path without them."""


@dataclass
class Layout:
    """The files of a data set. A key is the path of a file without ending and without folders of kinds."""

    splits: dict[str, dict[str, Path | None]] = field(default_factory=dict)
    """Of each split, the XML file of each key; None for a listed image without one, which shows nobody."""
    images: dict[str, list[Path]] = field(default_factory=dict)
    """Image files by key."""
    images_by_name: dict[str, list[Path]] = field(default_factory=dict)
    """Image files by the last part of their key."""
    hidden: tuple[Path, ...] = ()
    not_listed: list[Path] = field(default_factory=list)
    """XML files in no list of a split."""

    def images_of(self, key: str, stated_name: str) -> list[Path]:
        """The images that an XML file may describe: of its own name, otherwise of the name that it states."""
        stated = PurePosixPath(stated_name.replace("\\", "/"))
        stem = stated.stem if stated.suffix.lower() in IMAGE_SUFFIXES else stated.name
        found: list[Path] = []
        for name in (PurePosixPath(key).name, stem):
            beside = self.images.get((PurePosixPath(key).parent / name).as_posix())
            found = beside or self.images_by_name.get(name, [])
            if found:
                break
        if len(found) > 1:  # a.jpg beside a.png
            found = [path for path in found if path.name == stated.name] or found
        return found


def read_layout(root: Path, problems: list[str]) -> Layout:
    """Find the files of a data set; mistakes of its lists are added to ``problems``.

    The lists are ``ImageSets/Main/SPLIT.txt``. Without them, a folder named as a split (``train``, ``valid`` ...) is
    one, and all files are one split if there is no such folder.
    """
    xml_files = split_hidden(root.rglob("*.[xX][mM][lL]"), root)
    pictures = image_files(root)
    layout = Layout(hidden=(*xml_files.hidden, *pictures.hidden))
    for picture in pictures.kept:
        key = _key(picture.relative_to(root))
        layout.images.setdefault(key, []).append(picture)
        layout.images_by_name.setdefault(PurePosixPath(key).name, []).append(picture)
    by_key: dict[str, Path] = {}
    for path in xml_files.kept:
        other = by_key.setdefault(_key(path.relative_to(root)), path)
        if other != path:
            problems.append(f"{path.relative_to(root)} and {other.relative_to(root)} are of the same image; remove one")
    lists = _lists(root / "ImageSets" / "Main")
    nested = sorted(path.parent.parent.relative_to(root) for path in root.glob("*/ImageSets/Main"))
    if nested and not lists:
        found = ", ".join(f"'{path.as_posix()}'" for path in nested[:5])
        problems.append(f"the lists of splits are those of {found}; name one of these folders (--root)")
    if not lists:
        for key, path in by_key.items():
            layout.splits.setdefault(split_of_folders(path.relative_to(root)), {})[key] = path
        return layout
    for name, path in lists.items():
        members = layout.splits.setdefault(name, {})
        for key, where in _members(path, path.relative_to(root).as_posix(), problems):
            if key not in by_key and key not in layout.images:
                problems.append(f"{where}: found neither an XML file nor an image of '{key[:80]}'; add them")
            elif key in members:
                problems.append(f"{where}: '{key[:80]}' is listed twice; remove the line")
            else:
                members[key] = by_key.get(key)
    listed = set[str]().union(*layout.splits.values())
    layout.not_listed = [path for key, path in by_key.items() if key not in listed]
    return layout


def _key(relative_path: Path) -> str:
    parts = [part for part in relative_path.parts[:-1] if part.lower() not in _FOLDERS_OF_KINDS]
    return "/".join([*parts, relative_path.stem])


def _lists(folder: Path) -> dict[str, Path]:
    """The lists of all classes by the name of their split; ``person_train.txt`` lists those of one class."""
    files = {path.stem: path for path in split_hidden(folder.glob("*.txt"), folder).kept}
    if {"train", "val"} <= set(files):
        files.pop("trainval", None)
    whole = [name for name in files if not any(name.endswith(f"_{other}") for other in files)]
    known = [name for name in whole if name in _LISTS]
    return {_LISTS.get(name, name): files[name] for name in known or whole}


def _members(path: Path, name: str, problems: list[str]) -> Iterator[tuple[str, str]]:
    """Key and place of each line of a list."""
    for number, line in enumerate(read_lines(path, name, problems), 1):
        member = line.strip().strip('"')  # CVAT quotes names with blanks
        if member:
            suffix = PurePosixPath(member).suffix
            yield _key(Path(member if suffix.lower() in IMAGE_SUFFIXES else f"{member}.xml")), f"{name}, line {number}"
