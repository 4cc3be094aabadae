"""Annotations of CityPersons and Caltech, as they are distributed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hkd.coco.annotations import Annotations, read_annotations


@pytest.fixture(scope="module")
def citypersons(shared_data: Path) -> tuple[Annotations, dict[str, Any]]:
    path = shared_data / "citypersons" / "val_gt.json"
    if not path.is_file():
        pytest.skip(f"no CityPersons ground truth at {path}")
    return read_annotations(path, check_images=False), json.loads(path.read_text())


def test_citypersons_ground_truth_of_evaluation_server_is_read(citypersons: tuple[Annotations, dict[str, Any]]) -> None:
    annotations, document = citypersons
    assert len(annotations.images) == 500
    assert annotations.boxes_xywh.shape == (5795, 4)
    records = [{**record, "id": number} for number, record in enumerate(annotations.coco_records(), 1)]
    assert records == document["annotations"]
    assert annotations.ignore.tolist() == [bool(record["ignore"]) for record in document["annotations"]]


def test_citypersons_boxes_beyond_the_image_are_clipped(citypersons: tuple[Annotations, dict[str, Any]]) -> None:
    annotations, document = citypersons
    boxes = np.array([record["bbox"] for record in document["annotations"]])
    # All its images are 2048 x 1024.
    beyond = (boxes[:, :2] < 0).any(axis=1) | (boxes[:, :2] + boxes[:, 2:] > [2048, 1024]).any(axis=1)
    assert annotations.notes[0].sentence.startswith(f"clipped {beyond.sum()} of 5795 boxes")
    high = annotations.boxes_xywh[:, :2] + annotations.boxes_xywh[:, 2:]
    assert annotations.boxes_xywh[:, :2].min() == 0
    assert high.max(axis=0).tolist() == [2048, 1023]


def test_improved_caltech_annotations_are_read(shared_data: Path) -> None:
    path = shared_data / "caltech" / "new_annotations_test.json"
    if not path.is_file():
        pytest.skip(f"no improved Caltech annotations at {path}")
    document = json.loads(path.read_text())
    annotations = read_annotations(path, check_images=False)
    # Its only category is called "pedestrain", and its flags are true and false.
    assert len(annotations.images) == 4024
    assert annotations.ignore.tolist() == [record["iscrowd"] for record in document["annotations"]]
