"""COCO average precision, by pycocotools."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from hkd.coco.categories import PEDESTRIAN_ID
from hkd.coco.detections import DetectedBoxes
from hkd.coco.ground_truth import GroundTruth


@dataclass(frozen=True)
class AveragePrecision:
    """Fractions in [0, 1], over all ground truth that is not ignored."""

    ap: float
    """Mean over IoU 0.50:0.05:0.95."""
    ap50: float
    """At IoU 0.50."""


def average_precision(ground_truth: GroundTruth, detections: DetectedBoxes) -> AveragePrecision | None:
    """COCO AP with at most 100 detections per image and people of any size.

    Ignored ground truth goes in as COCO's ``iscrowd``: detections on it are neither true nor false positives.
    Heights and visibilities are not used.

    Returns:
        None where no ground truth counts; 0 where some does and there is no detection.
    """
    if ground_truth.ignore.all():
        return None
    if len(detections.scores) == 0:
        return AveragePrecision(ap=0.0, ap50=0.0)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(_coco_ground_truth(ground_truth), _coco_detections(detections), iouType="bbox")
        evaluation.params.imgIds = list(range(len(ground_truth.image_ids)))
        # Only the reported numbers: the other sizes and numbers of detections would take twelve times as long.
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0.0, float("inf")]], ["all"]
        evaluation.params.maxDets = [100]
        evaluation.evaluate()
        evaluation.accumulate()
    # (thresholds, recalls, categories, areas, maximal numbers)
    precision = evaluation.eval["precision"]
    assert precision.min() >= 0, "pycocotools found no ground truth"
    return AveragePrecision(ap=float(np.mean(precision)), ap50=float(np.mean(precision[0])))


def _coco_ground_truth(ground_truth: GroundTruth) -> COCO:
    annotations = [
        {"image_id": image, "bbox": box, "area": box[2] * box[3], "iscrowd": int(ignore)}
        for image, box, ignore in zip(
            ground_truth.image_index.tolist(), ground_truth.boxes_xywh.tolist(), ground_truth.ignore, strict=True
        )
    ]
    return _coco(annotations)


def _coco_detections(detections: DetectedBoxes) -> COCO:
    annotations = [
        {"image_id": image, "bbox": box, "area": box[2] * box[3], "score": score}
        for image, box, score in zip(
            detections.image_index.tolist(), detections.boxes_xywh.tolist(), detections.scores.tolist(), strict=True
        )
    ]
    return _coco(annotations)


def _coco(annotations: list[dict[str, object]]) -> COCO:
    """A data set in memory. Ids count from 1, because pycocotools reads a match with id 0 as no match."""
    data_set = COCO()
    data_set.dataset = {
        "images": [],  # params.imgIds has their ids
        "categories": [{"id": PEDESTRIAN_ID}],
        "annotations": [
            annotation | {"id": i, "category_id": PEDESTRIAN_ID} for i, annotation in enumerate(annotations, start=1)
        ],
    }
    data_set.createIndex()
    return data_set
