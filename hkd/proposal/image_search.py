"""The files of annotated images below a folder, whichever folders their names state."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from hkd.coco.images import ImageRecord
from hkd.image_files.listing import is_file


@dataclass(frozen=True)
class ImageSearch:
    """Where the images of one annotation file are."""

    images: tuple[ImageRecord, ...]
    """Those found, with the name of their file relative to the folder that was searched."""
    num_moved: int
    """Images found under another path than annotated."""
    missing: tuple[str, ...]
    """Annotated names of the images that are not there."""
    ambiguous: tuple[tuple[str, tuple[str, ...]], ...]
    """Annotated names that fit several files equally well, or a file that fits several names, with these files."""


def search_images(images: Sequence[ImageRecord], root: Path, list_files: Callable[[], Sequence[str]]) -> ImageSearch:
    """Find each image below ``root``: at its annotated path, or else where the end of the path is the same.

    ``city/a.jpg`` is found at ``images/city/a.jpg`` and at ``a.jpg``. Of several files of the same name, the one
    that shares most folders with the annotated path is used. A file that fits several images is that of none.

    Args:
        images: as annotated.
        root: folder that is searched.
        list_files: returns the image files in and below ``root``, relative to it, with ``/``; called only if an image
            is not at its annotated path.
    """
    elsewhere = [image for image in images if not is_file(root / image.file_name)]
    by_name: dict[str, list[str]] = {}
    for file in list_files() if elsewhere else ():
        by_name.setdefault(_composed(PurePosixPath(file).name), []).append(file)
    fitting = {image.image_id: _best_fitting(image.file_name, by_name) for image in elsewhere}
    names_of_file: dict[str, set[str]] = {}
    for image in elsewhere:
        for file in fitting[image.image_id]:
            names_of_file.setdefault(file, set()).add(image.file_name)

    found: list[ImageRecord] = []
    missing: list[str] = []
    ambiguous: list[tuple[str, tuple[str, ...]]] = []
    for image in images:
        files = fitting.get(image.image_id)
        if files is None:
            found.append(image)
        elif not files:
            missing.append(image.file_name)
        elif len(files) > 1 or len(names_of_file[files[0]]) > 1:
            ambiguous.append((image.file_name, tuple(files)))
        else:
            found.append(replace(image, file_name=files[0]))
    num_moved = len(elsewhere) - len(missing) - len(ambiguous)
    return ImageSearch(tuple(found), num_moved, tuple(missing), tuple(ambiguous))


def _best_fitting(file_name: str, by_name: dict[str, list[str]]) -> list[str]:
    """Files of the same name that share the most folders, counted from the name upwards."""
    parts = PurePosixPath(file_name.replace("\\", "/")).parts
    shared = {
        file: _num_shared_from_end(parts, PurePosixPath(file).parts)
        for file in by_name.get(_composed(parts[-1]) if parts else "", [])
    }
    most = max(shared.values(), default=0)
    return sorted(file for file, count in shared.items() if count == most)


def _composed(name: str) -> str:
    # macOS decomposes accented letters in file names.
    return unicodedata.normalize("NFC", name)


def _num_shared_from_end(first: Sequence[str], second: Sequence[str]) -> int:
    count = 0
    for one, other in zip(reversed(first), reversed(second), strict=False):
        if _composed(one) != _composed(other):
            break
        count += 1
    return count
