"""Test images: annotated images that neither training nor a search sees, none of which is an image of these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from hkd.coco.annotations import Annotations, read_annotations
from hkd.coco.notes import counted
from hkd.coco.parsing.errors import InputError
from hkd.config import DataConfig
from hkd.data.copies import describe_copies, equal_files, equal_pixels, image_paths
from hkd.data.locations import annotation_files, named_categories
from hkd.data.prepare import PreparedData
from hkd.data.store import ImageStore, open_store

SETTING: Final = "data.test_annotations"
_REMEDY: Final = (
    "results on images that a search has seen look better than they are: remove these images from the test "
    "annotations, or name others"
)


class TestImagesError(InputError):
    """Test images are images of another set."""

    __test__ = False  # pytest collects classes of this name


@dataclass(frozen=True, eq=False)
class PreparedTestImages:
    """Annotations of the test images, and the images decoded."""

    annotations: Annotations
    store: ImageStore


def open_test_images(config: DataConfig, *, progress: bool = True) -> PreparedTestImages | None:
    """Read and check the annotations of the test images, and open their store; None where none are configured.

    Raises:
        AnnotationError: listing what is wrong with the annotations or images.
        BucketDataError: a bucket cannot be read, lacks images, or has changed.
        StoreError: if ``cache_dir`` cannot be written.
        SharedFolderError: if every user of the machine can write to ``cache_dir``.
    """
    if config.test_annotations is None:
        return None
    files = annotation_files(config.test_annotations, config, progress=progress)
    annotations = read_annotations(
        files.annotations,
        files.image_root,
        named=named_categories(config),
        max_megapixels=config.max_megapixels,
    )
    store = open_store(
        annotations,
        config.image_height,
        config.image_width,
        config.cache_dir,
        progress,
        max_megapixels=config.max_megapixels,
    )
    return PreparedTestImages(annotations, store)


def check_test_files(test: Annotations, **others: Annotations) -> None:
    """Check that no file of a test image has the bytes of a file of another set, before anything is decoded.

    Args:
        others: Annotations by the name of their set, for messages: ``training``, ``validation``, ``unlabelled``.

    Raises:
        TestImagesError: naming the files.
    """
    paths = image_paths(test)
    problems = []
    for name, other in others.items():
        copies = equal_files(paths, image_paths(other))
        if copies:
            what = f"{counted(len(copies), 'test image')} with the file of {_article(name)} {name} image"
            problems.append(f"{what}: {describe_copies(copies)}; {_REMEDY}")
    _raise_if(problems)


def check_test_pixels(test: PreparedTestImages, data: PreparedData) -> None:
    """Check that no test image has the pixels of another image, which another file format may hold.

    Raises:
        TestImagesError: naming the images.
    """
    others = {
        "training": (data.train_annotations, data.train_store),
        "validation": (data.validation_annotations, data.validation_store),
    }
    if data.unlabelled is not None:
        others["unlabelled"] = (data.unlabelled.annotations, data.unlabelled.store)
    problems = []
    for name, (other, store) in others.items():
        copies = equal_pixels(test.annotations, test.store, other, store)
        if copies:
            what = f"{counted(len(copies), 'test image')} with the pixels of {_article(name)} {name} image"
            problems.append(f"{what}: {describe_copies(copies)}; {_REMEDY}")
    _raise_if(problems)


def _article(name: str) -> str:
    return "an" if name.startswith("u") else "a"


def _raise_if(problems: list[str]) -> None:
    if problems:
        raise TestImagesError(problems, SETTING)
