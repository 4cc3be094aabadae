"""Detections as arrays and as COCO results: a list of ``image_id``, ``category_id``, ``bbox`` and ``score``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hkd.coco.boxes import FloatArray, IntArray
from hkd.coco.categories import PEDESTRIAN_ID
from hkd.coco.ground_truth import GroundTruth
from hkd.coco.notes import Note
from hkd.coco.parsing.errors import AnnotationError
from hkd.coco.parsing.records import Records
from hkd.coco.parsing.values import BOX_REQUIREMENT, is_box, is_finite, is_integer, kind_of

_REMEDY = "correct or remove the detection"


@dataclass(frozen=True, eq=False)
class DetectedBoxes:
    """D detections; their order decides between equal scores."""

    image_index: IntArray
    """(D,) position of each detection's image in :attr:`hkd.coco.ground_truth.GroundTruth.image_ids`."""
    boxes_xywh: FloatArray
    """(D, 4) pixels of the original image."""
    scores: FloatArray
    """(D,) any finite number; higher means more confident."""
    notes: tuple[Note, ...] = ()
    """Detections of the file that were left out or interpreted."""

    def coco_results(self, image_ids: IntArray) -> list[dict[str, Any]]:
        """The detections as COCO results; ``image_ids`` are those that ``image_index`` refers to."""
        return [
            {"image_id": image_id, "category_id": PEDESTRIAN_ID, "bbox": box, "score": score}
            for image_id, box, score in zip(
                image_ids[self.image_index].tolist(), self.boxes_xywh.tolist(), self.scores.tolist(), strict=True
            )
        ]


def no_detections() -> DetectedBoxes:
    """An empty set of detections."""
    return DetectedBoxes(image_index=np.zeros(0, dtype=np.int64), boxes_xywh=np.zeros((0, 4)), scores=np.zeros(0))


def parse_detections(raw: object, source: str, truth: GroundTruth | None) -> DetectedBoxes:
    """Detections from a COCO results list, in its order.

    Args:
        raw: the parsed JSON.
        source: the file of the detections; for messages.
        truth: the ground truth. None if it is invalid: images and categories are then not checked, and the result must
            not be used.

    Raises:
        AnnotationError: naming every kind of mistake and its records.
    """
    if not isinstance(raw, list):
        hint = "were annotations and detections swapped?" if isinstance(raw, dict) else "name a COCO results file"
        raise AnnotationError([f"detections must be a list of records, but are {kind_of(raw)}; {hint}"], source)
    records = Records(raw, "detections", [], named_by=("image_id",))
    ids = records.column("image_id", is_integer, "an integer", _REMEDY)
    if truth is None:
        records.column("category_id", is_integer, "an integer", _REMEDY)
    else:
        known = set(truth.image_ids.tolist())
        requirement = 'the "id" of an image of the ground truth'
        records.require_known_image(ids, known, requirement, "evaluate detections of the same images, or remove these")
        allowed = truth.pedestrian_ids
        requirement = f"{' or '.join(map(str, allowed))} (pedestrian), the only category that is evaluated"
        records.column("category_id", lambda v: is_integer(v) and v in allowed, requirement, "remove the detection")
    boxes = records.column("bbox", is_box, BOX_REQUIREMENT, _REMEDY)
    scores = records.column("score", is_finite, "a finite number", _REMEDY)
    if records.problems:
        raise AnnotationError(records.problems, source)
    known_ids = np.empty(0, dtype=np.int64) if truth is None else truth.image_ids
    return DetectedBoxes(
        image_index=np.searchsorted(known_ids, np.array(ids, dtype=np.int64)),
        boxes_xywh=np.array(boxes, dtype=np.float64).reshape(-1, 4),
        scores=np.array(scores, dtype=np.float64),
    )
