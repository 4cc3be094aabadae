"""Images for INT8: those that the user names, or those of the training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hkd.coco.annotations import Annotations
from hkd.coco.categories import CategoryNames
from hkd.config import DataConfig
from hkd.data.locations import AnnotationFiles
from hkd.data.prepare import read_sets, read_training_images
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
    named = {
        "data.train_annotations": data.train_annotations,
        "data.validation_annotations": data.validation_annotations,
        "data.image_root": data.image_root if data.train_annotations is not None else None,
    }
    missing = [f"{path} ({key})" for key, path in named.items() if isinstance(path, Path) and not path.exists()]
    if missing:
        raise QuantisationError(
            f"the configuration of the training names {', '.join(missing)}, which is not there; run the command in the "
            "folder in which the training ran, or give --calibration and --validation"
        )
    return read_training_images(data, progress=True)
