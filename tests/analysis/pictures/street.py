"""A validation set of twenty small images, and detections on it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from analysis.pictures.validation_images import ValidationImages
from hkd.coco.annotations import read_annotations
from hkd.coco.detections import DetectedBoxes
from hkd.coco.ground_truth import GroundTruth
from hkd.evaluation.formats.stored_detections import StoredDetections, stored_detections
from hkd.evaluation.preparation import prepare_ground_truth
from hkd.evaluation.protocols import CITYPERSONS

Found = Sequence[tuple[str | tuple[int, float], float]]
"""A person's name, or image and left edge; and a score."""
NUM_IMAGES = 20
PEOPLE = {"A": (1, 10.0), "B": (1, 100.0), "C": (2, 10.0), "D": (4, 10.0), "ignored": (4, 100.0)}
"""Image and left edge: 30 x 80 pixels, at the top of their images of 160 x 120."""


def write_images(folder: Path) -> Path:
    """The annotation file, with images beside it that have a comment; ids are 20 .. 1."""
    random = np.random.default_rng(0)
    for image_id in range(1, NUM_IMAGES + 1):
        pixels = random.integers(0, 255, (15, 20, 3), dtype=np.uint8)
        picture = Image.fromarray(pixels).resize((160, 120))
        picture.save(folder / f"{image_id:02}.jpg", comment=b"taken at 52.5 N 13.4 E")
    document = {
        "images": [
            {"id": image_id, "file_name": f"{image_id:02}.jpg", "width": 160, "height": 120}
            for image_id in range(NUM_IMAGES, 0, -1)
        ],
        "annotations": [
            {"id": index, "image_id": image, "category_id": 1, "bbox": box(left), "ignore": int(name == "ignored")}
            for index, (name, (image, left)) in enumerate(PEOPLE.items())
        ],
        "categories": [{"id": 1, "name": "pedestrian"}],
    }
    path = folder / "validation.json"
    path.write_text(json.dumps(document))
    return path


def box(left: float) -> list[float]:
    return [left, 0.0, 30.0, 80.0]


def images_of(path: Path) -> ValidationImages:
    annotations = read_annotations(path, check_images=False)
    return ValidationImages(annotations, prepare_ground_truth(annotations.ground_truth(), CITYPERSONS), CITYPERSONS)


def detected(truth: GroundTruth, found: Found) -> StoredDetections:
    """As evaluation stores them."""
    places: list[Any] = [PEOPLE[what] if isinstance(what, str) else what for what, _ in found]
    boxes = DetectedBoxes(
        image_index=np.array([image - 1 for image, _ in places], dtype=np.int64),
        boxes_xywh=np.array([box(left) for _, left in places]).reshape(-1, 4),
        scores=np.array([score for _, score in found]),
    )
    return stored_detections(truth, boxes, CITYPERSONS)


STUDENT: Found = [("A", 0.9), ("D", 0.8), ((3, 0.0), 0.7), ((3, 100.0), 0.6), ((5, 0.0), 0.5), ("C", 0.4)]
"""Of 20 images, two false positives are 0.1 per image: the third, and what is below it, are not shown."""
TEACHER: Found = [("A", 0.9), ("B", 0.8), ("C", 0.7), ((1, 50.0), 0.6), ("ignored", 0.5)]
