"""Which files of a folder belong to a data set."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Final

IMAGE_SUFFIXES: Final = frozenset(
    {".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".mpo", ".pgm", ".png", ".pnm", ".ppm"}
    | {".tif", ".tiff", ".webp"}
)
"""Endings of image files, in lower case."""

_SYSTEM_NAMES: Final = frozenset(
    {
        "$recycle.bin",
        "#recycle",
        "#snapshot",
        "@eadir",  # Synology's thumbnails
        "@recently-snapshot",
        "@recycle",
        "__macosx",  # resource forks in archives from macOS
        "__pycache__",
        "desktop.ini",
        "ehthumbs.db",
        "icon\r",
        "lost+found",
        "system volume information",
        "thumbs.db",
    }
)


def is_hidden(relative_path: PurePath) -> bool:
    """Whether a path in a data set's folder is hidden, or written by a file browser or notebook.

    Such are ``.ipynb_checkpoints/a-checkpoint.jpg``, ``._a.jpg`` (macOS), ``Thumbs.db`` (Windows) and ``@eaDir``
    (Synology): copies of images, or no images.

    Args:
        relative_path: relative to the data set's folder, whose own place does not matter.
    """
    return any(
        (part.startswith(".") and part not in (".", "..")) or part.lower() in _SYSTEM_NAMES
        for part in relative_path.parts
    )


@dataclass(frozen=True)
class FoundFiles:
    """Files of a folder, sorted."""

    kept: tuple[Path, ...]
    hidden: tuple[Path, ...]
    """Files that would have been kept if they were not :func:`hidden <is_hidden>`."""


def split_hidden(files: Iterable[Path], folder: Path) -> FoundFiles:
    """``files`` in ``folder``, sorted, those that belong to the data set and the hidden ones apart."""
    kept: list[Path] = []
    hidden: list[Path] = []
    for file in sorted(files):
        (hidden if is_hidden(file.relative_to(folder)) else kept).append(file)
    return FoundFiles(tuple(kept), tuple(hidden))


def image_files(folder: Path) -> FoundFiles:
    """All files below ``folder`` that end as images do."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and not path.is_dir())
    return split_hidden(found, folder)


def is_file(path: Path) -> bool:
    """Whether there is such a file; False also where no file can have the name: too long, or with a null character."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False
