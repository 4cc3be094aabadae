"""Images for INT8: those that the user names, or those of the training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hkd.coco.annotations import Annotations
from hkd.coco.categories import CategoryNames
from hkd.coco.notes import counted
from hkd.coco.parsing.errors import InputError
from hkd.config import DataConfig
from hkd.data.copies import describe_copies, equal_files, image_paths, some
from hkd.data.locations import UNLABELLED, AnnotationFiles, annotation_files, images_folder, named_categories
from hkd.data.prepare import read_sets, read_training_images
from hkd.data.unlabelled import find_images
from hkd.export.quantisation import QuantisationError


def read_given(
    calibration: Path,
    validation: Path,
    image_root: Path | None,
    *,
    people: Sequence[str],
    ignored: Sequence[str],
    max_megapixels: float,
) -> tuple[Annotations, Annotations]:
    """Calibration and validation images by their annotation files.

    Args:
        image_root: folder of the images; None: as each file states.
        people: names of categories of people.
        ignored: names of categories of ignore regions.
        max_megapixels: largest number of pixels of an image, in millions.

    Raises:
        AnnotationError: an annotation file cannot be read, or has no images.
    """
    images, validation_images = read_sets(
        [AnnotationFiles(calibration, image_root), AnnotationFiles(validation, image_root)],
        named=CategoryNames(tuple(people), tuple(ignored)),
        max_megapixels=max_megapixels,
    )
    return images, validation_images


def read_of_training(data: DataConfig) -> tuple[Annotations, Annotations]:
    """Training images, which calibrate, and validation images of a training.

    Relative paths are relative to the working directory, as they are in the training.

    Raises:
        QuantisationError: the files of the configuration are not there.
        AnnotationError: an annotation file cannot be read, or has no images.
        BucketDataError: a bucket cannot be read, or has changed since the training.
    """
    missing = _missing(data, "train_annotations", "validation_annotations")
    if missing:
        raise QuantisationError(
            f"the configuration of the training names {missing}, which is not there; run the command in the folder in "
            "which the training ran, or give --calibration and --validation"
        )
    return read_training_images(data, progress=True)


def compare_with_training(calibration: Annotations, validation: Annotations, data: DataConfig | None) -> str | None:
    """Check given images against those of the training, by the bytes of their files.

    Args:
        calibration: each must be a training image.
        validation: none may be one.
        data: of the training; None where it is unknown.

    Returns:
        Why they could not be compared; None if they were.

    Raises:
        QuantisationError: listing images of both sets that are not allowed.
        StoreError: missing generated scenes cannot be written.
        SharedFolderError: if every user of the machine can write to ``data.cache_dir``.
    """
    if data is None:
        return "weights do not state the images of their training; give --trial, or --config with --weights"
    missing = _missing(data, "train_annotations", UNLABELLED)
    if missing:
        return f"the configuration of the training names {missing}, which is not there"
    try:
        training = _training_images(data)
    except InputError as error:
        return "; ".join(str(error).split("\n"))
    problems = []
    known = equal_files(image_paths(calibration), training)
    others = [f"'{path}'" for path in image_paths(calibration) if path not in known]
    if others:
        problems.append(
            f"--calibration {calibration.path}: {counted(len(others), 'image')} of {len(calibration.images):,} with "
            f"the file of no training image: {', '.join(some(others))}; allowed: images of the training "
            f"({data.train_annotations or 'generated scenes'}"
            f"{'' if data.unlabelled_images is None else f', {data.unlabelled_images}'})"
        )
    copies = equal_files(image_paths(validation), training)
    if copies:
        problems.append(
            f"--validation {validation.path}: {counted(len(copies), 'image')} of {len(validation.images):,} with the "
            f"file of a training image: {describe_copies(copies)}; allowed: other images, because miss rates on "
            "training images are too low"
        )
    if problems:
        raise QuantisationError(*problems, "Without --calibration and --validation, those of the training are used.")
    return None


def _training_images(data: DataConfig) -> list[Path]:
    """Files of all images that the training learned from."""
    if data.train_annotations is None:
        training = read_training_images(data, progress=True)[0]
    else:
        files = annotation_files(data.train_annotations, data, progress=True)
        (training,) = read_sets([files], named=named_categories(data), max_megapixels=data.max_megapixels)
    if data.unlabelled_images is None:
        return image_paths(training)
    folder = images_folder(data.unlabelled_images, data, progress=True)
    return [*image_paths(training), *image_paths(find_images(folder, data.max_megapixels))]


def _missing(data: DataConfig, *settings: str) -> str:
    """The paths of the configuration that are not on this machine, each with its key."""
    # Without annotations, scenes are generated.
    keys = settings if data.train_annotations is None else (*settings, "image_root")
    paths = {key: getattr(data, key) for key in keys}
    return ", ".join(
        f"{path} (data.{key})" for key, path in paths.items() if isinstance(path, Path) and not path.exists()
    )
