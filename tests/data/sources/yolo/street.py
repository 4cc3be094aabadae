"""A small folder in YOLO's layout, written after docs.ultralytics.com/datasets/detect."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from hkd.coco.parsing.errors import AnnotationError
from hkd.data.sources.yolo.convert import convert

CONFIG = {
    "path": "coco8",
    "train": "images/train",
    "val": "images/val",
    "test": None,
    "names": {0: "person", 1: "bicycle", 2: "car"},
}


def write_image(path: Path, labels: str | None, **save: Any) -> None:
    """An image of 200 x 100 pixels (width x height) and, where it has one, its label file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (200, 100)).save(path, **save)
    if labels is not None:
        label = Path(str(path).replace("/images/", "/labels/")).with_suffix(".txt")
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text(labels)


def configure(root: Path, **changes: Any) -> None:
    (root / "data.yaml").write_text(yaml.safe_dump(CONFIG | changes))


def problem_of(root: Path) -> str:
    with pytest.raises(AnnotationError) as caught:
        convert(root, root.parent / "out", progress=False)
    (sentence,) = caught.value.problems
    assert not (root.parent / "out").exists()
    return sentence
