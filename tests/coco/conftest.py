from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from hkd.coco.annotations import read_annotations
from hkd.coco.parsing.errors import AnnotationError


def document_of_two_images() -> dict[str, Any]:
    return {
        "info": {"image_root": "pictures"},
        "images": [
            {"id": 7, "file_name": "a.png", "height": 40, "width": 60},
            {"id": 3, "file_name": "sub/b.png", "height": 30, "width": 20},
        ],
        "categories": [{"id": 1, "name": "pedestrian"}, {"id": 2, "name": "rider"}],
        "annotations": [
            {"id": 0, "image_id": 3, "category_id": 1, "bbox": [1, 2, 10, 20], "vis_bbox": [1, 2, 10, 5]},
            {
                "id": 5,
                "image_id": 7,
                "category_id": 1,
                "bbox": [0, 0, 5, 10],
                "vis_ratio": 0.75,
                "height": 12,
                "ignore": 1,
            },
        ],
    }


@pytest.fixture
def write(tmp_path: Path) -> Callable[[object], Path]:
    """Write a document and two images that fit :func:`document_of_two_images`; return its path."""
    (tmp_path / "pictures" / "sub").mkdir(parents=True)
    Image.new("RGB", (60, 40)).save(tmp_path / "pictures" / "a.png")
    Image.new("RGB", (20, 30)).save(tmp_path / "pictures" / "sub" / "b.png")

    def write_document(document: object) -> Path:
        path = tmp_path / "annotations.json"
        path.write_text(json.dumps(document), encoding="utf-8")
        return path

    return write_document


def reading_error(path: Path) -> AnnotationError:
    with pytest.raises(AnnotationError) as caught:
        read_annotations(path)
    assert str(caught.value).startswith(f"{path}: ")
    return caught.value
