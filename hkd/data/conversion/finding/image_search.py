"""Finds the images that an annotation file states by names of another machine, or without their folder."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import dropwhile
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from hkd.image_files.listing import IMAGE_SUFFIXES, is_file, is_hidden

_MOST_NAMESAKES = 1000
"""Files of one name whose folders are compared."""
_UPLOAD_PREFIX = re.compile(r"^[0-9a-f]{8}-(?=.)")
"""Label Studio puts it before the name of an uploaded file."""


@dataclass(frozen=True)
class LocatedImages:
    """The files of the images of one annotation file."""

    paths: list[str | None]
    """Of each image, relative to the root; None where it was not found."""
    tried: tuple[str, ...]
    """Folders in which the images were looked for, relative to the root."""
    by_name: list[str]
    """Images found elsewhere than stated, each as ``STATED -> FOUND``."""

    @property
    def missing(self) -> list[int]:
        """Positions of the images that were not found."""
        return [position for position, path in enumerate(self.paths) if path is None]


def locate_images(root: Path, file: Path, split: str, names: Sequence[str], *, search_names: bool) -> LocatedImages:
    """Find the files of the images that an annotation file states.

    All images of a file are expected in one folder: that with the most of them. Backslashes in names separate folders.
    For the others, ``search_names`` looks for files anywhere below the root that end as the stated names do:
    labelling tools write paths of their server. Case does not matter then. A name that fits several files, or a file
    that fits several names, counts as not found.
    """
    folders = _folders(root, file, split)
    tried = tuple(folder.relative_to(root).as_posix() for folder in folders)
    best: list[str | None] = [None] * len(names)
    most = 0
    spellings = [tuple(_spellings(name)) for name in names]
    for folder in folders:
        if not folder.is_dir():
            continue
        found = [_in_folder(root, folder, candidates) for candidates in spellings]
        number = len(found) - found.count(None)
        if number > most:
            best, most = found, number
        if most == len(names):
            break
    if most == len(names) or not search_names:
        return LocatedImages(best, tried, [])
    found = _by_ends_of_names(root, spellings, best)
    renamed = [
        f"{name} -> {path}"
        for name, path, in_folder in zip(names, found, best, strict=True)
        if path is not None and in_folder is None
    ]
    return LocatedImages(found, (*tried, "any other folder"), renamed)


def _folders(root: Path, file: Path, split: str) -> list[Path]:
    beside = file.parent
    places = [root / split, root / "images" / split, root / split / "images", root / split / "data"]
    places += [root / "images", root / "data", root / "data" / split, beside, beside / "images", beside / "data", root]
    return list(dict.fromkeys(places))


def _in_folder(root: Path, folder: Path, candidates: Iterable[str]) -> str | None:
    for name in candidates:
        path = folder / name
        if is_file(path):
            return path.relative_to(root).as_posix()
    return None


def _spellings(name: str) -> Iterator[str]:
    """Relative paths that a stated file name may mean, the most literal first; none leaves its folder."""
    literal = name.replace("\\", "/")
    # Label Studio: /data/local-files/?d=FOLDER/a%20b.jpg, /data/upload/1/abc-b.jpg, ../../media/upload/1/abc-b.jpg.
    decoded = unquote(literal.rpartition("?d=")[2]).replace("\\", "/")
    # An address of a server: https://HOST/PATH/b.jpg?signature=...
    address = urlsplit(literal)
    path = unquote(address.path) if address.scheme in ("http", "https", "s3", "gs") else decoded
    # macOS decomposes accented letters in file names (NFD), other systems keep them as typed (mostly NFC).
    texts = (unicodedata.normalize(form, text) for text in (literal, decoded, path) for form in ("NFC", "NFD"))
    for text in dict.fromkeys((literal, *texts)):
        parts = list(dropwhile(lambda part: part in ("/", "//", ".."), PurePosixPath(text).parts))
        if ".." not in parts and parts:
            yield "/".join(parts)


def _by_ends_of_names(root: Path, spellings: Sequence[Sequence[str]], known: Sequence[str | None]) -> list[str | None]:
    """The files of all images, ``known`` ones unchanged; no file is that of two images."""
    taken = {path for path in known if path is not None}
    by_name: dict[str, list[str]] = {}
    for path in _all_images(root):
        if path not in taken:
            by_name.setdefault(PurePosixPath(path).name.casefold(), []).append(path)
    found = [
        _only_match(candidates, by_name) if path is None else path
        for candidates, path in zip(spellings, known, strict=True)
    ]
    uses = Counter(path for path in found if path is not None)
    return [path if path is not None and (path in taken or uses[path] == 1) else None for path in found]


def _only_match(candidates: Sequence[str], by_name: dict[str, list[str]]) -> str | None:
    """The file with the most last parts of its path in common with a candidate; None if there are none or several."""
    for candidate in candidates:
        parts = PurePosixPath(candidate.casefold()).parts
        files = by_name.get(parts[-1]) or by_name.get(_UPLOAD_PREFIX.sub("", parts[-1]), [])
        if len(files) <= 1:
            if files:
                return files[0]
            continue
        if len(files) > _MOST_NAMESAKES:
            continue
        common = [_common_end(parts, PurePosixPath(file.casefold()).parts) for file in files]
        if common.count(max(common)) == 1:
            return files[common.index(max(common))]
    return None


def _common_end(parts: Sequence[str], others: Sequence[str]) -> int:
    number = 0
    for part, other in zip(reversed(parts), reversed(others), strict=False):
        if part != other:
            break
        number += 1
    return number


def _all_images(root: Path) -> Iterator[str]:
    """Images below the root, as paths relative to it; symbolic links to folders are not followed."""
    for folder, folders, files in os.walk(root):
        place = Path(folder).relative_to(root)
        folders[:] = sorted(name for name in folders if not is_hidden(Path(name)))
        for name in sorted(files):
            if PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES and not is_hidden(Path(name)):
                yield (place / name).as_posix()
