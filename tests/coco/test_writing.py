"""Writing of annotations."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hkd.coco.annotations import read_annotations
from hkd.coco.writing import write_annotations


def test_written_annotations_are_read_back_with_defaults(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "train.json"
    images = [{"id": 1, "file_name": "a.png", "height": 40, "width": 60}]
    write_annotations(
        path,
        images,
        [{"image_id": 1, "bbox": [1, 2, 3, 4]}, {"image_id": 1, "bbox": [1, 2, 3, 4], "ignore": 1, "vis_ratio": 0.5}],
        "pictures",
    )
    annotations = read_annotations(path, check_images=False)
    assert annotations.image_root == tmp_path / "new" / "folder" / "pictures"
    assert [record["id"] for record in json.loads(path.read_text())["annotations"]] == [1, 2]
    assert annotations.heights.tolist() == [4, 4]
    assert annotations.visibilities.tolist() == [1, 0.5]
    assert annotations.ignore.tolist() == [False, True]


def test_failed_write_keeps_previous_file(tmp_path: Path) -> None:
    path = tmp_path / "train.json"
    path.write_text("old")
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_annotations(path, [], [{"image_id": 1, "bbox": [1, 2, 3, float("nan")]}], ".")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_visibility_is_not_written_beside_visible_box(tmp_path: Path) -> None:
    image = {"id": 1, "file_name": "a.png", "height": 40, "width": 60}
    boxes = [
        {"image_id": 1, "bbox": [1, 2, 10, 20], "vis_bbox": [1, 2, 10, 5]},
        {"image_id": 1, "bbox": [1, 2, 10, 20]},
    ]
    write_annotations(tmp_path / "a.json", [image], boxes, ".")
    # 10 x 5 of 10 x 20 pixels; 1 for the box without visibility.
    assert read_annotations(tmp_path / "a.json", check_images=False).visibilities.tolist() == [0.25, 1]
