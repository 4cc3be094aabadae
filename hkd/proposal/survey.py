"""What annotation files contain: images, categories, people and their sizes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hkd.coco.annotations import Annotations
from hkd.coco.boxes import FloatArray, IntArray
from hkd.evaluation.protocols import CITYPERSONS

QUANTILES = (0, 5, 10, 25, 50, 75, 90, 95, 100)
"""Per cent, of the distributions that are printed."""
SIZES_LISTED = 5


@dataclass(frozen=True, eq=False)
class People:
    """N boxes that count (not ignored) with the sizes of their images; one row each, pixels of the original image."""

    heights: FloatArray
    """(N,) of the full body as annotated, by which an evaluation selects."""
    visibilities: FloatArray
    """(N,) visible fraction of the full body."""
    boxes_wh: FloatArray
    """(N, 2) width and height of the box inside its image, from which a detector learns."""
    images_wh: FloatArray
    """(N, 2) width and height of the box's image."""

    def scales(self, input_height: int, input_width: int) -> FloatArray:
        """(N,) pixels of the network's input per pixel of the box's image."""
        return fitted_scales(self.images_wh, input_height, input_width)

    def select(self, subset_name: str) -> People:
        """The people that the subset of CityPersons' protocol counts, by height and visibility."""
        (subset,) = (subset for subset in CITYPERSONS.subsets if subset.name == subset_name)
        rows = subset.height_range.contains(self.heights) & subset.visibility_range.contains(self.visibilities)
        return People(self.heights[rows], self.visibilities[rows], self.boxes_wh[rows], self.images_wh[rows])


@dataclass(frozen=True)
class Survey:
    """Numbers that describe images and boxes of all splits together."""

    num_images: int
    num_images_with_people: int
    image_sizes: tuple[tuple[int, int, int], ...]
    """(width, height, number of images), the most frequent first; at most :data:`SIZES_LISTED`."""
    num_image_sizes: int
    width_range: tuple[int, int]
    height_range: tuple[int, int]
    num_people: int
    num_ignored: int
    ignored_by_label: Mapping[str, int]
    """``num_ignored`` by the data set's class; the key is empty for boxes without one."""
    num_by_subset: Mapping[str, int]
    """People that each subset of CityPersons' protocol counts."""
    box_heights: tuple[float, ...]
    """:data:`QUANTILES` of the people's heights, pixels of the original image."""
    box_aspects: tuple[float, ...]
    """:data:`QUANTILES` of width / height of their boxes."""
    fullest_image: str
    fullest_image_boxes: int
    """All boxes of that image, ignored ones included: each takes a slot of ``data.max_objects_per_image``."""
    most_people: int
    """People in the image with most of them."""


def fitted_scales(images_wh: FloatArray, input_height: int, input_width: int) -> FloatArray:
    """(N,) factor that fits each image (N, 2: width, height) into the network's input, as the image store does."""
    return np.minimum(input_width / images_wh[:, 0], input_height / images_wh[:, 1])


def image_sizes_wh(sets: Sequence[Annotations]) -> FloatArray:
    """(I, 2) width and height of every image of all sets."""
    sizes = [(image.width, image.height) for annotations in sets for image in annotations.images]
    return np.array(sizes, dtype=np.float64).reshape(-1, 2)


def people_of(sets: Sequence[Annotations]) -> People:
    """The boxes of all sets that count."""
    parts = [_people_of_set(annotations) for annotations in sets]
    return People(
        *(
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("heights", "visibilities", "boxes_wh", "images_wh")
        )
    )


def _people_of_set(annotations: Annotations) -> People:
    rows = ~annotations.ignore
    sizes = image_sizes_wh([annotations])
    return People(
        annotations.heights[rows],
        annotations.visibilities[rows],
        annotations.boxes_xywh[rows, 2:],
        sizes[annotations.image_index[rows]],
    )


def survey(sets: Sequence[Annotations]) -> Survey:
    """Describe all sets together; they hold at least one image and one person."""
    sizes = image_sizes_wh(sets)
    people = people_of(sets)
    assert len(sizes)
    assert len(people.heights)
    frequent = Counter((int(width), int(height)) for width, height in sizes.tolist())
    boxes_per_image = np.concatenate([boxes_in_images(annotations) for annotations in sets])
    people_per_image = np.concatenate([people_in_images(annotations) for annotations in sets])
    names = [image.file_name for annotations in sets for image in annotations.images]
    fullest = int(boxes_per_image.argmax())
    ignored_labels = Counter(
        label
        for annotations in sets
        for label, is_ignored in zip(annotations.annotated.labels(), annotations.ignore.tolist(), strict=True)
        if is_ignored
    )
    return Survey(
        num_images=len(sizes),
        num_images_with_people=int((people_per_image > 0).sum()),
        image_sizes=tuple((*size, count) for size, count in frequent.most_common(SIZES_LISTED)),
        num_image_sizes=len(frequent),
        width_range=(int(sizes[:, 0].min()), int(sizes[:, 0].max())),
        height_range=(int(sizes[:, 1].min()), int(sizes[:, 1].max())),
        num_people=len(people.heights),
        num_ignored=ignored_labels.total(),
        ignored_by_label=dict(ignored_labels.most_common()),
        num_by_subset={subset.name: len(people.select(subset.name).heights) for subset in CITYPERSONS.subsets},
        box_heights=quantiles(people.heights),
        box_aspects=quantiles(people.boxes_wh[:, 0] / people.boxes_wh[:, 1]),
        fullest_image=names[fullest],
        fullest_image_boxes=int(boxes_per_image[fullest]),
        most_people=int(people_per_image.max()),
    )


def quantiles(values: FloatArray) -> tuple[float, ...]:
    """:data:`QUANTILES` of at least one value."""
    return tuple(np.percentile(values, QUANTILES).tolist())


def boxes_in_images(annotations: Annotations) -> IntArray:
    """(I,) number of boxes of each image, ignored ones included."""
    return np.bincount(annotations.image_index, minlength=len(annotations.images))


def people_in_images(annotations: Annotations) -> IntArray:
    """(I,) number of people of each image."""
    return np.bincount(annotations.image_index[~annotations.ignore], minlength=len(annotations.images))
