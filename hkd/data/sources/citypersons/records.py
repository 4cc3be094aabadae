"""COCO records of CityPersons' images and boxes, the same for each of its annotation formats."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

IMAGE_WIDTH, IMAGE_HEIGHT = 2048, 1024
"""Size of every image of Cityscapes, pixels."""
IMAGE_ENDING: Final = "_leftImg8bit.png"

PEDESTRIAN: Final = 1
GROUP: Final = 5
LABELS: Final = {0: "ignore region", 2: "rider", 3: "sitting person", 4: "other person", GROUP: "people group"}
"""Names of the classes as in ``val_gt.json``; a pedestrian has no label."""
LARGEST_ROWS = 500_000
"""Boxes of one split, to bound memory; CityPersons has about 28,000."""
_RATIO_DIGITS = 12
"""Significant digits of ``vis_ratio``, as in ``val_gt.json``."""


def image_record(image_id: int, file_name: str) -> dict[str, Any]:
    """The record of an image; ``file_name`` is ``SPLIT/CITY/NAME``."""
    return {"id": image_id, "file_name": file_name, "height": IMAGE_HEIGHT, "width": IMAGE_WIDTH}


def box_record(
    image_id: int, class_id: int, box_xywh: Sequence[float], visible_xywh: Sequence[float]
) -> dict[str, Any]:
    """The record of a box: whole numbers as integers, ``vis_ratio`` the visible fraction of the area."""
    box, visible = [[_plain(number) for number in numbers] for numbers in (box_xywh, visible_xywh)]
    area = box[2] * box[3]
    ratio = min(1.0, float(f"{visible[2] * visible[3] / area:.{_RATIO_DIGITS}g}")) if area > 0 else 1.0
    record = {
        "image_id": image_id,
        "bbox": box,
        "vis_bbox": visible,
        "vis_ratio": ratio,
        "height": box[3],
        "ignore": int(class_id != PEDESTRIAN),
        "iscrowd": int(class_id == GROUP),
    }
    return record if class_id == PEDESTRIAN else {**record, "label": LABELS[class_id]}


def _plain(number: float) -> float:
    return int(number) if number == int(number) else number
