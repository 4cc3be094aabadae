"""The files of annotated images below a folder, whichever folders their names state."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from hkd.coco.images import ImageRecord


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
    """Annotated names that fit several files equally well, with these files."""


def search_images(images: Sequence[ImageRecord], root: Path, files: Iterable[str]) -> ImageSearch:
    """Find each image below ``root``: at its annotated path, or else where the end of the path is the same.

    ``city/a.jpg`` is found at ``images/city/a.jpg`` and at ``a.jpg``. Of several files of the same name, the one
    that shares most folders with the annotated path is used.

    Args:
        images: as annotated.
        root: folder that was searched.
        files: image files below ``root``, relative to it, with ``/``; used only if an image is not at its path.
    """
    found: list[ImageRecord] = []
    missing: list[str] = []
    ambiguous: list[tuple[str, tuple[str, ...]]] = []
    by_name: dict[str, list[str]] | None = None
    num_moved = 0
    for image in images:
        if _is_file(root / image.file_name):
            found.append(image)
            continue
        if by_name is None:
            by_name = {}
            for file in files:
                by_name.setdefault(PurePosixPath(file).name, []).append(file)
        fitting = _best_fitting(image.file_name, by_name)
        if not fitting:
            missing.append(image.file_name)
        elif len(fitting) > 1:
            ambiguous.append((image.file_name, tuple(fitting)))
        else:
            num_moved += 1
            found.append(replace(image, file_name=fitting[0]))
    return ImageSearch(tuple(found), num_moved, tuple(missing), tuple(ambiguous))


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that is too long, or holds a zero byte
        return False


def _best_fitting(file_name: str, by_name: dict[str, list[str]]) -> list[str]:
    """Files of the same name that share the most folders, counted from the name upwards."""
    parts = PurePosixPath(file_name.replace("\\", "/")).parts
    shared = {
        file: _num_shared_from_end(parts, PurePosixPath(file).parts)
        for file in by_name.get(parts[-1] if parts else "", [])
    }
    most = max(shared.values(), default=0)
    return sorted(file for file, count in shared.items() if count == most)


def _num_shared_from_end(first: Sequence[str], second: Sequence[str]) -> int:
    count = 0
    for one, other in zip(reversed(first), reversed(second), strict=False):
        if one != other:
            break
        count += 1
    return count
