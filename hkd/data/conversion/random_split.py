"""A data set's only split, divided at random into training and validation images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hkd.coco.notes import Note
from hkd.data.conversion.splits import Split


def divide_at_random(
    splits: Sequence[Split], validation_images: int | None, seed: int, problems: list[str]
) -> tuple[list[Split], list[Note]]:
    """Divide the only split into ``train`` and ``validation``, image by image; the same seed gives the same division.

    Args:
        splits: the converted splits, returned unchanged if ``validation_images`` is None.
        validation_images: number of images for validation.
        seed: of the division.
        problems: gets a sentence if there is not exactly one split, or too few images.

    Returns:
        The splits, and a note on the division.
    """
    if validation_images is None or not splits:
        return list(splits), []
    if len(splits) > 1:
        found = ", ".join(split.name for split in splits)
        problems.append(
            f"--validation-images divides one split, but there are {len(splits)} ({found}); choose one with --split, or"
            " leave --validation-images out"
        )
        return list(splits), []
    (whole,) = splits
    count = len(whole.images)
    if count == 0:
        return list(splits), []  # its images have problems of their own
    if count == 1:
        problems.append(f"--validation-images: {whole.name} has one image, which cannot be divided")
        return list(splits), []
    if not 0 < validation_images < count:
        problems.append(
            f"--validation-images is {validation_images}, but {whole.name} has {count} images; allowed: from 1 to"
            f" {count - 1}"
        )
        return list(splits), []
    # Sorted by name: the division must not depend on the order in which a tool exported the images.
    names = sorted(str(image["file_name"]) for image in whole.images)
    order = np.random.default_rng(seed).permutation(count)
    chosen = {names[position] for position in order[:validation_images]}
    divided = []
    for name, is_validation in (("train", False), ("validation", True)):
        images = [image for image in whole.images if (image["file_name"] in chosen) == is_validation]
        ids = {image["id"] for image in images}
        divided.append(Split(name, images, [one for one in whole.annotations if one["image_id"] in ids]))
    note = Note(
        "split_at_random",
        count,
        f"{whole.name}: divided {count:,} images at random (seed {seed}) into {count - validation_images:,} for"
        f" training and {validation_images:,} for validation",
    )
    return divided, [note]
