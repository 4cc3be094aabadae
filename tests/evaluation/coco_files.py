"""Small ground truths and detection lists in COCO's form, and a protocol for any size."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from hkd.coco.detections import DetectedBoxes, parse_detections
from hkd.coco.ground_truth import GroundTruth, parse_ground_truth
from hkd.evaluation.protocols import CITYPERSONS, Interval, Protocol, Subset

EVERYONE = replace(CITYPERSONS, subsets=(Subset("everyone", Interval(1), Interval(0)),), height_filter_ratio=None)
"""One subset in which all ground truth counts that is not ignored, and all detections are evaluated."""

Json = dict[str, Any]


def person(image_id: int, bbox: list[float], **more: object) -> Json:
    return {"image_id": image_id, "category_id": 1, "bbox": bbox, **more}


def detection(image_id: int, bbox: list[float], score: float) -> Json:
    return {"image_id": image_id, "category_id": 1, "bbox": bbox, "score": score}


def coco(num_images: int, people: list[Json]) -> Json:
    """Ground truth of images 1 .. num_images."""
    return {"images": [{"id": i + 1} for i in range(num_images)], "annotations": people}


def parse(ground_truth: Json, detections: list[Json]) -> tuple[GroundTruth, DetectedBoxes]:
    truth = parse_ground_truth(ground_truth, "ground truth")
    return truth, parse_detections(detections, "detections", truth)


def crowded_scene(seed: int, num_images: int, people: int, detections: int) -> tuple[Json, list[Json]]:
    """People in heaps, detections around them, so that many compete for one; a few scores are equal."""
    random = np.random.default_rng(seed)
    truth: list[Json] = []
    found: list[Json] = []
    for image_id in range(1, num_images + 1):
        corners = random.uniform(0, 60, (people, 2))
        sizes = random.uniform([20, 50], [30, 120], (people, 2))
        for corner, size in zip(corners, sizes, strict=True):
            box = [*corner.tolist(), *size.tolist()]
            visible, ignore = float(random.uniform()), int(random.uniform() < 0.2)
            truth.append(person(image_id, box, vis_ratio=visible, ignore=ignore))
        for i in random.integers(0, people, detections):
            corner = corners[i] + random.normal(0, 5, 2)
            size = sizes[i] * random.uniform(0.8, 1.25, 2)
            found.append(detection(image_id, [*corner.tolist(), *size.tolist()], round(float(random.uniform()), 2)))
    return coco(num_images, truth), found


def tiny_protocol(max_detections_per_image: int | None, height_filter_ratio: float | None) -> Protocol:
    """For boxes a few pixels high: subsets that overlap, by height and by visibility."""
    return replace(
        CITYPERSONS,
        subsets=(
            Subset("reasonable", Interval(3), Interval(0.5)),
            Subset("small", Interval(2, 4), Interval(0.5)),
            Subset("heavy", Interval(2), Interval(0.25, 0.5)),
            Subset("medium", Interval(2, 4, includes_high=False), Interval(0)),
        ),
        fppi_points=(0.25, 0.5, 1.0, 2.0),
        max_detections_per_image=max_detections_per_image,
        height_filter_ratio=height_filter_ratio,
    )
