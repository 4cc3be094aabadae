"""Ground truth as arrays for evaluation. Boxes are as annotated: evaluation repairs nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from hkd.coco.boxes import AnnotatedBoxes, BoolArray, FloatArray, IntArray
from hkd.coco.categories import Categories, CategoryNames, default_categories
from hkd.coco.documents import DocumentColumns
from hkd.coco.images import file_names, largest_image, name_of_image, numbers_of_text_ids
from hkd.coco.notes import Note
from hkd.coco.parsing.errors import AnnotationError
from hkd.coco.parsing.reading import read_json


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """N boxes on I images: images by ascending id, boxes image by image and within one in the file's order."""

    image_ids: IntArray
    """(I,) ascending."""
    file_names: tuple[str, ...]
    """(I,) file names as stated, with slashes; empty where the file states none."""
    image_index: IntArray
    """(N,) ascending: position of each box's image in ``image_ids``."""
    boxes_xywh: FloatArray
    """(N, 4) pixels of the original image."""
    heights: FloatArray
    """(N,) height of the full body, pixels; see :class:`hkd.coco.boxes.AnnotatedBoxes`, also for the fields below."""
    visibilities: FloatArray
    """(N,) visible fraction of the full body."""
    visible_boxes_xywh: FloatArray
    """(N, 4) NaN where a box has none."""
    occluded: BoolArray
    """(N,)."""
    label_names: tuple[str, ...]
    """(L,) the data set's own classes, each once, in alphabetical order."""
    label_index: IntArray
    """(N,) position of each box's label in ``label_names``, -1 where it has none and is a pedestrian."""
    ignore: BoolArray
    """(N,) ignored in every subset."""
    categories: Categories = field(default_factory=default_categories)
    text_ids: Mapping[str, int] = field(default_factory=dict)
    """The ids in the file, where they are texts that are no numbers, and those in ``image_ids``."""
    largest_image_wh: tuple[float, float] | None = None
    """The largest width and the largest height that images state, pixels; None where none states both."""
    notes: tuple[Note, ...] = ()
    """Annotations that were left out, ignored or not read as written."""

    @property
    def image_names(self) -> tuple[str, ...]:
        """(I,) file names without folder and ending (``set06_V000_I00029``); empty where the file states none."""
        return tuple(map(name_of_image, self.file_names))


def read_ground_truth(path: Path | str, named: CategoryNames | None = None) -> GroundTruth:
    """Ground truth from a file of COCO-style JSON.

    Args:
        path: of the file.
        named: the categories that the user names; by default those of :func:`hkd.coco.categories.read_categories`.

    Raises:
        AnnotationError: naming every kind of mistake and its records.
    """
    return parse_ground_truth(read_json(Path(path)), str(path), named)


def parse_ground_truth(document: object, source: str, named: CategoryNames | None = None) -> GroundTruth:
    """Ground truth from a COCO dictionary with ``images`` and ``annotations``.

    An image needs ``id``; its name (``file_name`` or ``im_name``), ``width`` and ``height`` are read if present.
    :class:`hkd.coco.boxes.BoxColumns` has the rules for annotations, :func:`hkd.coco.categories.read_categories` those
    for ``categories``.

    Args:
        document: the parsed JSON.
        source: the document's file; for messages.
        named: the categories that the user names.

    Raises:
        AnnotationError: naming every kind of mistake and its records.
    """
    columns = DocumentColumns(document, source, named)
    if columns.problems:
        raise AnnotationError(columns.problems, source)
    assert columns.categories is not None
    return sorted_ground_truth(
        columns.boxes.annotated_boxes(),
        np.array(columns.image_ids, dtype=np.int64),
        file_names(columns.images),
        categories=columns.categories,
        text_ids=numbers_of_text_ids(columns.images),
        largest_image_wh=largest_image(columns.images),
        notes=tuple(
            replace(note, sentence=f"{source}: {note.sentence}")
            for note in (*columns.boxes.notes(), *columns.boxes.doubts(), *columns.boxes.repeated_people())
        ),
    )


def sorted_ground_truth(
    boxes: AnnotatedBoxes,
    image_ids: IntArray,
    names: Sequence[str],
    *,
    categories: Categories | None = None,
    text_ids: Mapping[str, int] | None = None,
    largest_image_wh: tuple[float, float] | None,
    notes: tuple[Note, ...] = (),
) -> GroundTruth:
    """Ground truth of boxes and images in any order; ``names`` are in the order of ``image_ids``."""
    by_id = np.argsort(image_ids)
    sorted_ids = image_ids[by_id]
    image_index = np.searchsorted(sorted_ids, boxes.image_ids)
    order = np.argsort(image_index, kind="stable")
    return GroundTruth(
        image_ids=sorted_ids,
        file_names=tuple(names[position] for position in by_id.tolist()),
        image_index=image_index[order],
        boxes_xywh=boxes.boxes_xywh[order],
        heights=boxes.heights[order],
        visibilities=boxes.visibilities[order],
        visible_boxes_xywh=boxes.visible_boxes_xywh[order],
        occluded=boxes.occluded[order],
        label_names=boxes.label_names,
        label_index=boxes.label_index[order],
        ignore=boxes.ignore[order],
        categories=default_categories() if categories is None else categories,
        text_ids={} if text_ids is None else text_ids,
        largest_image_wh=largest_image_wh,
        notes=notes,
    )
