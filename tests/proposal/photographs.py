"""Annotated photographs for tests: grey images with people as dark rectangles."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 128, 96
PERSON = (20, 12, 30, 72)
"""x, y, width and height, pixels: a reasonable person, 2.4 times as high as wide."""


def document(names: Sequence[str], boxes: Sequence[Sequence[float]] = (PERSON,), **changes: Any) -> dict[str, Any]:
    """COCO JSON of images with the same boxes in each."""
    return {
        "images": [
            {"id": number, "file_name": name, "height": HEIGHT, "width": WIDTH} for number, name in enumerate(names, 1)
        ],
        "categories": [{"id": 1, "name": "person"}],
        "annotations": [
            {"id": number * 1000 + place, "image_id": number, "category_id": 1, "bbox": list(box), "iscrowd": 0}
            for number in range(1, len(names) + 1)
            for place, box in enumerate(boxes)
        ],
        **changes,
    }


def write_photographs(folder: Path, names: Sequence[str]) -> None:
    """The image files, with a dark rectangle where :data:`PERSON` is."""
    pixels = np.full((HEIGHT, WIDTH, 3), 200, dtype=np.uint8)
    x, y, width, height = PERSON
    pixels[y : y + height, x : x + width] = 40
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)


def write_json(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path
