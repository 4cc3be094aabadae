"""Where the files of a configuration are on this machine: where it says, or in a copy of what it names in a bucket."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from hkd.bucket_uri import place_of, with_version, without_version
from hkd.coco.categories import CategoryNames
from hkd.coco.notes import counted
from hkd.coco.parsing.errors import collected_problems
from hkd.config import DataConfig
from hkd.data.buckets.copies import DataCopy, annotated_copy, images_copy, known_copy
from hkd.data.buckets.fetching import fetch
from hkd.data.buckets.listing import BucketDataError, ListedImage

ANNOTATIONS: Final = ("train_annotations", "validation_annotations", "test_annotations")
UNLABELLED: Final = "unlabelled_images"
SETTINGS: Final = (*ANNOTATIONS, UNLABELLED)
"""Of a configuration, which may name a data set in a bucket."""


@dataclass(frozen=True)
class AnnotationFiles:
    """Annotations on this machine."""

    annotations: Path
    image_root: Path | None = None
    """Folder of the images; None: as stated in the annotations."""


def annotation_files(
    location: str | Path, config: DataConfig, *, is_fetched: bool = True, progress: bool = False
) -> AnnotationFiles:
    """The files of annotations that a configuration names; those in a bucket are copied.

    Args:
        location: The setting's value.
        is_fetched: Whether to fetch the images, too.
        progress: Show a progress bar on stderr.

    Raises:
        BucketDataError: the bucket cannot be read, lacks images, or has changed.
        AnnotationError: listing what is wrong with annotations in a bucket.
    """
    if isinstance(location, Path):
        assert not isinstance(config.image_root, str), "the configuration refuses it"
        return AnnotationFiles(location, config.image_root)
    copy = annotated_copy(location, _image_root(config), config.cache_dir, named=named_categories(config))
    if is_fetched:
        fetch(copy, progress=progress)
    return AnnotationFiles(copy.annotations, copy.images)


def images_folder(location: str | Path, config: DataConfig, *, progress: bool = False) -> Path:
    """The folder of images without annotations; one in a bucket is copied.

    Raises:
        BucketDataError: the bucket cannot be read, has no images, or has changed.
    """
    if isinstance(location, Path):
        return location
    copy = images_copy(location, config.cache_dir)
    fetch(copy, progress=progress)
    return copy.images


def known_files(location: str | Path, config: DataConfig) -> AnnotationFiles | None:
    """The files of annotations, without a request to a bucket; None where this machine has no copy of that version."""
    if isinstance(location, Path):
        return annotation_files(location, config)
    copy = known_copy(location, _image_root(config), config.cache_dir)
    return None if copy is None else AnnotationFiles(copy.annotations, copy.images)


def copies_of(config: DataConfig, settings: Sequence[str] = SETTINGS) -> dict[str, DataCopy]:
    """The copies of data sets in buckets, by the settings that name them; their images are listed, and not fetched.

    Raises:
        BucketDataError: with the problems of all.
    """
    found: dict[str, DataCopy | None] = {}
    with collected_problems(BucketDataError) as collect:
        for setting in settings:
            uri = getattr(config, setting)
            if isinstance(uri, str):
                if setting == UNLABELLED:
                    list_set = partial(images_copy, uri, config.cache_dir)
                else:
                    named = named_categories(config)
                    list_set = partial(annotated_copy, uri, _image_root(config), config.cache_dir, named=named)
                found[setting] = collect(list_set)
    return {setting: copy for setting, copy in found.items() if copy is not None}


def with_versions(config: DataConfig, settings: Sequence[str] = SETTINGS) -> DataConfig:
    """The configuration with the version of each data set in a bucket: what differs from it is refused from now on.

    Raises:
        BucketDataError: with the problems of all.
    """
    copies = copies_of(config, settings)
    versions = {setting: with_version(copy.uri, copy.version) for setting, copy in copies.items()}
    return config.model_copy(update=versions) if versions else config


def with_versions_of(other: DataConfig, config: DataConfig) -> DataConfig:
    """The configuration with the versions that another one has of the same data sets."""
    versions = {}
    for setting in SETTINGS:
        uri, known = getattr(config, setting), getattr(other, setting)
        if isinstance(uri, str) and isinstance(known, str) and uri == without_version(known):
            versions[setting] = known
    return config.model_copy(update=versions) if versions else config


def planned_fetches(config: DataConfig) -> list[str]:
    """What of the data sets in buckets each node fetches, in words."""
    lines = []
    for copy in copies_of(config).values():
        missing = copy.missing()
        here = f"{len(missing):,} ({_mebibytes(missing)}) are missing here" if missing else "they are here"
        count = f"{counted(len(copy.listing.images), 'image')} ({_mebibytes(copy.listing.images)})"
        lines.append(f"fetch {count} of {place_of(copy.uri)}, once per node; {here}, in {copy.folder}")
    return lines


def _mebibytes(images: Sequence[ListedImage]) -> str:
    return f"{sum(image.size for image in images) / 2**20:,.1f} MiB"


def named_categories(config: DataConfig) -> CategoryNames:
    """The categories that a configuration names."""
    return CategoryNames(config.person_categories, config.ignored_categories)


def _image_root(config: DataConfig) -> str | None:
    assert not isinstance(config.image_root, Path), "the configuration refuses it"
    return config.image_root
