"""Images without annotations, from a folder: its readable image files, none of which is a validation image."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from hkd.coco.annotations import Annotations, without_boxes
from hkd.coco.images import ImageRecord, can_be_annotated, turned_images_note
from hkd.coco.notes import counted, counted_note
from hkd.coco.parsing.errors import InputError
from hkd.config import SyntheticConfig
from hkd.data.conversion.progress import track_progress
from hkd.data.copies import describe_copies, equal_files, equal_pixels, image_paths, some
from hkd.data.sources.synthetic import STYLES, validation_scenes
from hkd.data.store import ImageStore
from hkd.image_files.headers import DEFAULT_MAX_MEGAPIXELS, ImageFileError, read_header
from hkd.image_files.listing import IMAGE_SUFFIXES, image_files
from hkd.image_files.pixels import read_rgb

SETTING: Final = "data.unlabelled_images"


class UnlabelledImagesError(InputError):
    """A folder of unlabelled images cannot be used."""


@dataclass(frozen=True)
class UnlabelledImages:
    """The images of a folder, decoded."""

    annotations: Annotations
    """Without boxes."""
    store: ImageStore


def find_images(
    folder: Path,
    max_megapixels: float = DEFAULT_MAX_MEGAPIXELS,
    *,
    is_decoded: bool = False,
    progress: bool = False,
    source: str = SETTING,
) -> Annotations:
    """The images in a folder, at any depth, in alphabetical order and numbered from 1, without boxes.

    No other file is read: not even annotations of these images.

    Args:
        max_megapixels: largest number of pixels of an image, in millions.
        is_decoded: whether to decode the images, which finds damaged ones, and not only to read their headers.
        progress: show a progress bar on stderr.
        source: the setting or argument that names the folder; for messages.

    Raises:
        UnlabelledImagesError: the folder is absent, cannot be read or has no images, or some of them cannot be read.
    """
    links = _require_readable(folder, source)
    found = image_files(folder)
    if not found.kept:
        hidden = f" beside {counted(len(found.hidden), 'hidden one')}" if found.hidden else ""
        endings = ", ".join(sorted(IMAGE_SUFFIXES))
        problem = f"'{folder}' has no image files{hidden}; name a folder of images ({endings}), at any depth"
        raise UnlabelledImagesError([problem], source)
    records: list[ImageRecord] = []
    unreadable: list[str] = []
    turned: list[str] = []
    for path in track_progress(found.kept, "Reading images", shown=progress):
        name = path.relative_to(folder).as_posix()
        if not can_be_annotated(name):
            unreadable.append(f"'{path}' has a name that annotations cannot hold (a drive of Windows); rename it")
            continue
        try:
            header = read_header(path, max_megapixels)
            if is_decoded:
                read_rgb(path, max_megapixels)
        except FileNotFoundError:
            unreadable.append(f"'{path}' is a link to no file; remove it")
        except ImageFileError as error:
            unreadable.append(f"'{path}' {error}, or remove it")
        else:
            records.append(ImageRecord(len(records) + 1, name, header.height, header.width))
            if header.orientation != 1:
                turned.append(f"'{name}' (orientation {header.orientation})")
    if unreadable:
        first = f"{len(unreadable):,} of {counted(len(found.kept), 'image')} in '{folder}' cannot be read"
        raise UnlabelledImagesError([f"{first}: {'; '.join(some(unreadable))}"], source)
    names = [f"'{path.relative_to(folder)}'" for path in found.hidden]
    sentence = f"{counted(len(names), 'hidden image file')} not used (first: {{first}})"
    hidden_files = counted_note("files_hidden", names, sentence)
    sentence = f"{counted(len(links), 'link to a folder', 'links to folders')} not followed (first: {{first}})"
    linked_folders = counted_note("other", links, sentence)
    return without_boxes(records, folder, folder, (*turned_images_note(turned), *hidden_files, *linked_folders))


def found_before(records: Sequence[ImageRecord], folder: Path, *, source: str = SETTING) -> Annotations:
    """The images that :func:`find_images` found, perhaps on another machine, without boxes.

    Only the existence of their files is checked.

    Raises:
        UnlabelledImagesError: naming files that are not in the folder.
    """
    missing = [f"'{folder / record.file_name}'" for record in records if not (folder / record.file_name).is_file()]
    if missing:
        first = f"{len(missing):,} of {counted(len(records), 'image')} that were found before are missing"
        advice = "restore them, on every machine of a cluster, or start again"
        raise UnlabelledImagesError([f"{first}: {'; '.join(some(missing))}; {advice}"], source)
    return without_boxes(records, folder, folder)


def check_copies(images: Annotations, validation: Annotations, *, source: str = SETTING) -> None:
    """Check that no file has the content of a validation image, before anything is decoded.

    Raises:
        UnlabelledImagesError: naming the files.
    """
    _require_none_of(
        equal_files(image_paths(images), image_paths(validation)), "with the file of a validation image", source
    )


def without_training_files(images: Annotations, train: Annotations, *, source: str = SETTING) -> Annotations:
    """The images whose files have not the content of a training image, with a note on the others.

    Raises:
        UnlabelledImagesError: all of them have.
    """
    paths = image_paths(images)
    copies = equal_files(paths, image_paths(train))
    if len(copies) == len(paths):
        problem = f"'{images.path}' has training images alone ({len(paths):,}); name a folder of other images"
        raise UnlabelledImagesError([problem], source)
    if not copies:
        return images
    kept = [record for record, path in zip(images.images, paths, strict=True) if path not in copies]
    records = [replace(record, image_id=number) for number, record in enumerate(kept, start=1)]
    sentence = f"{counted(len(copies), 'training image')} left out of the unlabelled ones (first: {{first}})"
    left_out = counted_note("images_in_both_splits", [f"'{path}'" for path in copies], sentence)
    return without_boxes(records, images.image_root, images.path, (*images.notes, *left_out))


def check_pixels(
    images: UnlabelledImages, validation: Annotations, validation_store: ImageStore, *, source: str = SETTING
) -> None:
    """Check that no image has the pixels of a validation image, which another file format may hold.

    Both stores have images of the same size. What is compared is the network's input.

    Raises:
        UnlabelledImagesError: naming the images.
    """
    copies = equal_pixels(images.annotations, images.store, validation, validation_store)
    _require_none_of(copies, "with the pixels of a validation image", source)


def check_generated(
    images: Annotations, config: SyntheticConfig, max_megapixels: float = DEFAULT_MAX_MEGAPIXELS
) -> None:
    """Check that no image has the pixels of a generated validation scene. The scenes are drawn and not written.

    Raises:
        UnlabelledImagesError: naming the images, or one that does not decode.
    """
    paths = [
        path
        for path, image in zip(image_paths(images), images.images, strict=True)
        if (image.height, image.width) == (config.height, config.width)
    ]
    if not paths:  # scenes take long to draw
        return
    scenes = validation_scenes(
        config.validation_images,
        height=config.height,
        width=config.width,
        seed=config.seed,
        style=STYLES[config.style],
    )
    by_pixels = {hashlib.sha256(picture.tobytes()).digest(): Path(name) for name, picture in scenes}
    copies = {}
    for path in paths:
        try:
            pixels = read_rgb(path, max_megapixels).tobytes()
        except ImageFileError as error:
            raise UnlabelledImagesError([f"'{path}' {error}, or remove it"], SETTING) from error
        scene = by_pixels.get(hashlib.sha256(pixels).digest())
        if scene is not None:
            copies[path] = scene
    _require_none_of(copies, "with the pixels of a generated validation image", SETTING)


def _require_none_of(copies: dict[Path, Path], what: str, source: str) -> None:
    """Raise an error that names the copies, unless there is none."""
    if not copies:
        return
    problem = (
        f"{counted(len(copies), 'image')} {what}: {describe_copies(copies)}. Results on images that were trained on do"
        " not count: move them out of the folder, or name another one"
    )
    raise UnlabelledImagesError([problem], source)


def _require_readable(folder: Path, source: str) -> list[str]:
    """Check that the folder and all folders in it can be listed; ``rglob`` leaves out those that cannot, and links.

    Returns:
        The links to folders.
    """
    if folder.exists() and not folder.is_dir():
        raise UnlabelledImagesError([f"'{folder}' is a file; name a folder of images"], source)
    errors: list[OSError] = []
    links = []
    for parent, names, _ in os.walk(folder, onerror=errors.append):
        links += [f"'{Path(parent, name)}'" for name in names if Path(parent, name).is_symlink()]
    problems = [f"'{error.filename}' ({error.strerror})" for error in errors]
    if problems:
        advice = (
            "name a folder that exists, on every machine of a cluster" if not folder.exists() else "make it readable"
        )
        raise UnlabelledImagesError([f"cannot list {'; '.join(some(problems))}; {advice}"], source)
    return links
