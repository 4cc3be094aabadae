"""Annotation files with the images that were found for them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path, PurePosixPath

import numpy as np

from hkd.coco.annotations import Annotations, read_annotations
from hkd.coco.boxes import BoolArray
from hkd.coco.categories import CategoryNames
from hkd.coco.images import check_image_files
from hkd.coco.notes import EXAMPLES_KEPT, Note, counted_note
from hkd.coco.parsing.errors import AnnotationError, collected_problems
from hkd.data.conversion.progress import track_progress
from hkd.data.conversion.writing import path_between
from hkd.image_files.headers import DEFAULT_MAX_MEGAPIXELS
from hkd.image_files.listing import image_files
from hkd.proposal.image_search import ImageSearch, search_images

_NAMED = 3
"""Files that a message names."""


@dataclass(frozen=True)
class Sources:
    """The annotations of all files, of images that exist below one folder."""

    sets: tuple[Annotations, ...]
    """In the order of the files; image names are relative to ``image_root``."""
    image_root: Path
    notes: tuple[Note, ...]
    """Everything that was left out or changed."""


def read_sources(
    paths: Sequence[Path],
    image_root: Path | None = None,
    *,
    named: CategoryNames | None = None,
    skip_missing: bool = False,
    max_megapixels: float = DEFAULT_MAX_MEGAPIXELS,
) -> Sources:
    """Read annotation files and find their images.

    Args:
        paths: COCO-style JSON.
        image_root: folder in or below which the images are; None: as stated in the files.
        named: categories of people and of ignore regions, by the user; None: by their names.
        skip_missing: leave out images that are not there, with their boxes.
        max_megapixels: largest number of pixels of an image, in millions.

    Raises:
        AnnotationError: listing everything that is wrong with the files and images.
    """
    with collected_problems() as collect:
        read = [collect(partial(read_annotations, path, image_root, named=named, check_images=False)) for path in paths]
    sets = [part for part in read if part is not None]
    root = image_root or _common_root(sets)
    if image_root is None:
        sets = [_named_from(part, root) for part in sets]
    if not root.is_dir() or (image_root is None and root.resolve() == Path(root.resolve().anchor)):
        # Searching below a file system's root, which a file of a stranger may name, would read all disks.
        what = f"the folder of images that it states is '{root}'" if root.is_dir() else f"there is no folder '{root}'"
        problem = f"{what}; name the folder of the images (--images)"
        raise AnnotationError([problem], ", ".join(map(str, paths)))
    list_files = cache(partial(_image_names, root))
    problems: list[str] = []
    notes: list[Note] = []
    found = []
    for part in sets:
        search = search_images(part.images, root, list_files)
        checked: list[str] = _search_problems(search, root, list_files, skip_missing)
        tracked = track_progress(search.images, "Checking images")
        turned = check_image_files(tracked, root, checked, max_megapixels) if search.images else []
        problems += [f"{part.path}: {problem}" for problem in checked]
        of_file = [*part.notes, *turned, *_search_notes(search, root)]
        notes += [replace(note, split=str(part.path)) for note in of_file] if len(sets) > 1 else of_file
        found.append(_with_found_images(part, search, root))
    if problems:
        raise AnnotationError(problems)
    return Sources(tuple(found), root, (*notes, *_shared_images(found)))


def select_images(annotations: Annotations, images: BoolArray) -> Annotations:
    """The images of these rows (I,) with their boxes."""
    boxes = np.flatnonzero(images[annotations.image_index])
    position = np.cumsum(images) - 1
    return replace(
        annotations,
        images=tuple(image for image, is_in in zip(annotations.images, images.tolist(), strict=True) if is_in),
        image_index=position[annotations.image_index[boxes]],
        boxes_xywh=annotations.boxes_xywh[boxes],
        annotated=annotations.annotated.rows(boxes),
    )


def _common_root(sets: Sequence[Annotations]) -> Path:
    """The folder that the images of all files are in or below."""
    roots = {part.image_root.resolve() for part in sets}
    if len(roots) == 1:
        return sets[0].image_root
    common = Path(os.path.commonpath(list(roots)))
    if common == Path(common.anchor):
        listed = ", ".join(f"'{root}'" for root in sorted(roots))
        raise AnnotationError([f"the images are in folders that have nothing in common, {listed}; name one (--images)"])
    return common


def _named_from(annotations: Annotations, root: Path) -> Annotations:
    """The images with names relative to a folder that contains their own root."""
    if annotations.image_root.resolve() == root.resolve():
        return annotations
    below = PurePosixPath(path_between(root, annotations.image_root))
    images = tuple(replace(image, file_name=(below / image.file_name).as_posix()) for image in annotations.images)
    return replace(annotations, images=images)


def _image_names(root: Path) -> list[str]:
    """Image files in and below the folder, relative to it."""
    return [path.relative_to(root).as_posix() for path in image_files(root).kept]


def _search_problems(
    search: ImageSearch, root: Path, list_files: Callable[[], Sequence[str]], skip_missing: bool
) -> list[str]:
    missing, ambiguous = search.missing, search.ambiguous
    num_images = len(search.images) + len(missing) + len(ambiguous)
    problems = []
    if len(missing) == num_images:
        problems.append(
            f"none of its {num_images:,} images is in '{root}' or below, which has {len(list_files()):,} image files"
            f" (first missing: {_listed(missing)}); name the folder of the images (--images)"
        )
    elif missing and not skip_missing:
        problems.append(
            f"{len(missing):,} of its {num_images:,} images are not in '{root}' or below (first: {_listed(missing)});"
            " add them, name another folder (--images), or leave them out (--skip-missing)"
        )
    for name, files in ambiguous[:_NAMED]:
        which = f"may be any of {_listed(files)}"
        if len(files) == 1:
            which = f"has no file of its own: it fits {_listed(files)}, and so do other images,"
        problems.append(f"image '{name}' {which} in '{root}'; name the folder that its path starts from (--images)")
    if len(ambiguous) > _NAMED:
        problems.append(f"{len(ambiguous) - _NAMED:,} more images fit several files, or share one")
    return problems


def _search_notes(search: ImageSearch, root: Path) -> list[Note]:
    notes = counted_note(
        "images_missing",
        search.missing,
        f"left out {{count}} images that are not in '{root}' or below, with their boxes (first: '{{first}}')",
    )
    if search.num_moved:
        sentence = f"found {search.num_moved:,} images under another path in '{root}' than annotated"
        notes.append(Note("images_found_elsewhere", search.num_moved, sentence))
    return notes


def _shared_images(sets: Sequence[Annotations]) -> list[Note]:
    """A note on images that are in two files."""
    names = [{image.file_name for image in part.images} for part in sets]
    shared = sorted(set.intersection(*names)) if len(names) > 1 else []
    if not shared:
        return []
    sentence = (
        f"{len(shared):,} images are in both files, so that validation measures images that were trained on (first:"
        f" '{shared[0]}')"
    )
    return [Note("images_in_both_splits", len(shared), sentence, tuple(shared[:EXAMPLES_KEPT]))]


def _with_found_images(annotations: Annotations, search: ImageSearch, root: Path) -> Annotations:
    found = {image.image_id: image for image in search.images}
    rows = np.array([image.image_id in found for image in annotations.images], dtype=np.bool_)
    chosen = select_images(annotations, rows)
    return replace(chosen, image_root=root, images=tuple(found[image.image_id] for image in chosen.images))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names[:_NAMED]) + (" ..." if len(names) > _NAMED else "")
