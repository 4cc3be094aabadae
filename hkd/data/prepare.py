"""From the configuration's ``data`` section to annotations and opened image stores."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from filelock import FileLock

from hkd.coco.annotations import Annotations, read_annotations
from hkd.coco.categories import CategoryNames
from hkd.coco.images import ImageRecord
from hkd.coco.parsing.errors import AnnotationError, collected_problems
from hkd.config import DataConfig, SyntheticConfig
from hkd.data.generated import scenes_folder
from hkd.data.loader import pack_targets
from hkd.data.locations import AnnotationFiles, annotation_files, images_folder, named_categories, with_versions
from hkd.data.sources import synthetic
from hkd.data.store import ImageStore, StoreError, open_store
from hkd.data.unlabelled import (
    UnlabelledImages,
    check_copies,
    check_pixels,
    find_images,
    found_before,
    without_training_files,
)
from hkd.files import partial_folder, remove_leftovers
from hkd.image_files.headers import DEFAULT_MAX_MEGAPIXELS
from hkd.own_folders import create_own_folder


@dataclass(frozen=True)
class PreparedData:
    """Annotations and image stores of training and validation."""

    train_annotations: Annotations
    validation_annotations: Annotations
    train_store: ImageStore
    validation_store: ImageStore
    config: DataConfig
    unlabelled: UnlabelledImages | None = None
    """The images of ``unlabelled_images``."""


def prepare_data(
    config: DataConfig, progress: bool = True, *, unlabelled: Sequence[ImageRecord] | None = None
) -> PreparedData:
    """Read and check the annotations, and open the image stores, building missing ones.

    Without annotation files, street scenes are generated once, in ``cache_dir``. The folder of unlabelled images is
    listed, and no file but its images is read. Data sets in buckets are copied to ``cache_dir`` first.

    Args:
        config: images and the network's input size.
        progress: show progress bars on stderr.
        unlabelled: the images of ``unlabelled_images`` that an earlier call found, perhaps on another machine: they are
            neither searched for nor compared with other images again.

    Raises:
        AnnotationError: listing what is wrong with the annotations or images of both sets, or that a training image
            holds more boxes than ``max_objects_per_image``.
        UnlabelledImagesError: the folder of unlabelled images cannot be used, or has validation images.
        BucketDataError: a bucket cannot be read, lacks images, or has changed.
        StoreError: if ``cache_dir`` cannot be written.
        SharedFolderError: if every user of the machine can write to ``cache_dir``.
    """
    # All sets in buckets are listed before images of the first are fetched.
    located = with_versions(config, ("train_annotations", "validation_annotations", "unlabelled_images"))
    # First, because it may fail, and scenes take long to draw.
    images = None
    if located.unlabelled_images is not None:
        folder = images_folder(located.unlabelled_images, located, progress=progress)
        images = find_images(folder, config.max_megapixels) if unlabelled is None else found_before(unlabelled, folder)
    train, validation = read_training_images(located, progress)
    if train.ignore.all():
        raise AnnotationError([_nothing_to_learn(train)], str(train.path))
    if images is not None and unlabelled is None:
        check_copies(images, validation)
        images = without_training_files(images, train)

    def opened(annotations: Annotations) -> ImageStore:
        return open_store(
            annotations,
            config.image_height,
            config.image_width,
            config.cache_dir,
            progress,
            max_megapixels=config.max_megapixels,
        )

    train_store, validation_store = opened(train), opened(validation)
    pack_targets(train, train_store, config.max_objects_per_image)  # refused here, before any training starts
    stored = None if images is None else UnlabelledImages(images, opened(images))
    if stored is not None and unlabelled is None:
        check_pixels(stored, validation, validation_store)
    return PreparedData(train, validation, train_store, validation_store, config, stored)


def read_training_images(config: DataConfig, progress: bool) -> tuple[Annotations, Annotations]:
    """Training and validation annotations of a configuration. Missing generated scenes are drawn.

    Raises:
        AnnotationError: with the problems of both.
        BucketDataError: a bucket cannot be read, lacks images, or has changed.
        StoreError: if ``cache_dir`` cannot be written.
        SharedFolderError: if every user of the machine can write to ``cache_dir``.
    """
    if config.train_annotations is None or config.validation_annotations is None:
        named = None
        files = [AnnotationFiles(path) for path in _scenes(config.synthetic, config.cache_dir, progress)]
    else:
        named = named_categories(config)
        both = (config.train_annotations, config.validation_annotations)
        files = [annotation_files(location, config, progress=progress) for location in both]
    train, validation = read_sets(files, named=named, max_megapixels=config.max_megapixels)
    return train, validation


def _nothing_to_learn(train: Annotations) -> str:
    count = len(train.ignore)
    problem = f"none of its {count} boxes counts (all are ignored)" if count else "has no box of a person"
    left_out = [
        note.sentence for note in train.notes if note.kind in ("boxes_of_other_categories", "boxes_without_area")
    ]
    return f"{problem}: there is nothing to learn from{''.join(f'; {sentence}' for sentence in left_out)}"


def read_sets(
    files: Sequence[AnnotationFiles],
    *,
    named: CategoryNames | None = None,
    check_images: bool = True,
    max_megapixels: float = DEFAULT_MAX_MEGAPIXELS,
) -> list[Annotations]:
    """The annotations of several sets, as :func:`hkd.coco.annotations.read_annotations` reads each.

    Raises:
        AnnotationError: with the problems of all.
    """
    with collected_problems() as collect:
        found = [
            collect(
                partial(
                    read_annotations,
                    each.annotations,
                    each.image_root,
                    named=named,
                    check_images=check_images,
                    max_megapixels=max_megapixels,
                )
            )
            for each in files
        ]
    read = [annotations for annotations in found if annotations is not None]
    assert len(read) == len(found), "otherwise the problems were raised"
    return read


def _scenes(config: SyntheticConfig, cache_dir: Path, progress: bool) -> tuple[Path, Path]:
    """Annotation files of the generated scenes. One process draws, under a lock; a set is complete or absent."""
    folder = scenes_folder(config, cache_dir)
    names = ("train.json", "validation.json")
    if not all((folder / name).is_file() for name in names):
        try:
            create_own_folder(cache_dir, "data.cache_dir")
            with FileLock(f"{folder}.lock"):
                if not all((folder / name).is_file() for name in names):
                    remove_leftovers(folder)
                    shutil.rmtree(folder, ignore_errors=True)  # part of it was removed
                    with partial_folder(folder) as partial:
                        synthetic.write_scenes(
                            partial,
                            train_images=config.train_images,
                            validation_images=config.validation_images,
                            height=config.height,
                            width=config.width,
                            seed=config.seed,
                            style=synthetic.STYLES[config.style],
                            progress=progress,
                        )
                        partial.replace(folder)
        except OSError as error:
            raise StoreError(
                f"cannot write generated scenes to '{folder}' ({error});"
                " free some space, or name another folder (data.cache_dir)"
            ) from error
    return folder / names[0], folder / names[1]
