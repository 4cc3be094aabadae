"""Ground truth as arrays for evaluation. Boxes are as annotated: evaluation repairs nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hkd.coco.boxes import AnnotatedBoxes, BoolArray, FloatArray, IntArray
from hkd.coco.categories import PEDESTRIAN_ID
from hkd.coco.documents import DocumentColumns
from hkd.coco.images import image_names, largest_image
from hkd.coco.notes import Note
from hkd.coco.parsing.errors import AnnotationError
from hkd.coco.parsing.reading import read_json


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """N boxes on I images: images by ascending id, boxes image by image and within one in the file's order."""

    image_ids: IntArray
    """(I,) ascending."""
    image_names: tuple[str, ...]
    """(I,) file names without folder and ending (``set06_V000_I00029``); empty where the file states none."""
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
    pedestrian_ids: tuple[int, ...] = (PEDESTRIAN_ID,)
    """Category ids of pedestrians in detections."""
    largest_image_wh: tuple[float, float] | None = None
    """The largest width and the largest height that images state, pixels; None where none states both."""
    notes: tuple[Note, ...] = ()
    """What was not read as written or left out."""


def read_ground_truth(path: Path | str) -> GroundTruth:
    """Ground truth from a file of COCO-style JSON.

    Raises:
        AnnotationError: naming every kind of mistake and its records.
    """
    return parse_ground_truth(read_json(Path(path)), str(path))


def parse_ground_truth(document: object, source: str) -> GroundTruth:
    """Ground truth from a COCO dictionary with ``images`` and ``annotations``.

    An image needs ``id``; its name (``file_name`` or ``im_name``), ``width`` and ``height`` are read if present.
    :class:`hkd.coco.boxes.BoxColumns` has the rules for annotations, :func:`hkd.coco.categories.read_categories` those
    for ``categories``.

    Args:
        document: the parsed JSON.
        source: the document's file; for messages.

    Raises:
        AnnotationError: naming every kind of mistake and its records.
    """
    columns = DocumentColumns(document, source)
    if columns.problems:
        raise AnnotationError(columns.problems, source)
    assert columns.categories is not None
    return sorted_ground_truth(
        columns.boxes.annotated_boxes(),
        np.array(columns.image_ids, dtype=np.int64),
        image_names(columns.images),
        pedestrian_ids=columns.categories.of_detections(),
        largest_image_wh=largest_image(columns.images),
        notes=tuple(replace(note, sentence=f"{source}: {note.sentence}") for note in columns.boxes.fields.notes()),
    )


def sorted_ground_truth(
    boxes: AnnotatedBoxes,
    image_ids: IntArray,
    names: Sequence[str],
    *,
    pedestrian_ids: tuple[int, ...] = (PEDESTRIAN_ID,),
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
        image_names=tuple(names[position] for position in by_id.tolist()),
        image_index=image_index[order],
        boxes_xywh=boxes.boxes_xywh[order],
        heights=boxes.heights[order],
        visibilities=boxes.visibilities[order],
        visible_boxes_xywh=boxes.visible_boxes_xywh[order],
        occluded=boxes.occluded[order],
        label_names=boxes.label_names,
        label_index=boxes.label_index[order],
        ignore=boxes.ignore[order],
        pedestrian_ids=pedestrian_ids,
        largest_image_wh=largest_image_wh,
        notes=notes,
    )
