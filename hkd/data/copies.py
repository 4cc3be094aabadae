"""Images of one set that are images of another: by the bytes of their files, or by their pixels."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from hkd.coco.annotations import Annotations
from hkd.data.store import ImageStore

_NAMED: Final = 5
"""Files that a message names; it counts the others."""
_ROWS_BETWEEN: Final = 16
"""Images that agree in every 16th row of their pixels are compared completely."""


def image_paths(annotations: Annotations) -> list[Path]:
    """The files of a set of images, in its order."""
    return [annotations.image_root / image.file_name for image in annotations.images]


def equal_files(paths: Sequence[Path], others: Sequence[Path]) -> dict[Path, Path]:
    """The files of ``paths`` with the bytes of one of ``others``, and which one."""
    by_size: dict[int, list[Path]] = defaultdict(list)
    for path in others:
        by_size[path.stat().st_size].append(path)
    by_content: dict[int, dict[bytes, Path]] = {}  # for each size that occurs in both
    copies = {}
    for path in paths:
        size = path.stat().st_size
        if size in by_size:
            if size not in by_content:
                by_content[size] = {_content(other): other for other in by_size[size]}
            other = by_content[size].get(_content(path))
            if other is not None:
                copies[path] = other
    return copies


def equal_pixels(
    annotations: Annotations, store: ImageStore, other_annotations: Annotations, other_store: ImageStore
) -> dict[Path, Path]:
    """The images with the pixels of one of the others, which another file format may hold, and which one.

    Both stores have images of the same size. What is compared is the network's input.
    """
    by_rows: dict[bytes, list[int]] = defaultdict(list)
    for position in range(len(other_store.image_ids)):
        by_rows[_some_rows(other_store, position)].append(position)
    paths, other_paths = image_paths(annotations), image_paths(other_annotations)
    copies = {}
    for position, path in enumerate(paths):
        for candidate in by_rows.get(_some_rows(store, position), ()):
            if (store.images[position] == other_store.images[candidate]).all():
                copies[path] = other_paths[candidate]
    return copies


def describe_copies(copies: dict[Path, Path]) -> str:
    """Each copy and its original; of many, the first ones and the number of the others."""
    return "; ".join(
        some([f"'{path}' is '{other}'" if path != other else f"'{path}'" for path, other in copies.items()])
    )


def some(texts: Sequence[str]) -> list[str]:
    """The first texts, and the number of the others."""
    more = len(texts) - _NAMED
    return [*texts[:_NAMED], *([f"and {more} more"] if more > 0 else [])]


def _content(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _some_rows(store: ImageStore, position: int) -> bytes:
    return hashlib.sha256(store.images[position, ::_ROWS_BETWEEN].tobytes()).digest()
