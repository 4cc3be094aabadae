"""``hkd data`` on broken annotations in JSON: COCO, CrowdHuman, EuroCity, CityPersons, Caltech's new annotations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from hkd.coco.annotations import read_annotations
from hkd.coco.parsing.errors import AnnotationError
from tests.fuzz.breaking import broken_json, broken_text
from tests.fuzz.plain_readers import (
    plain_caltech_json,
    plain_citypersons_json,
    plain_coco,
    plain_crowdhuman,
    plain_eurocity,
    plain_json,
    plain_kaist_json,
    plain_official_citypersons,
)
from tests.fuzz.running import REFUSED, Outcome, Tally, check_conversion, fuzz

pytestmark = pytest.mark.thorough

RECORD = (
    r"line \d|(images|annotations|categories|children|gtboxes)\[\d|image |category|must be a|twice|is missing|"
    'not valid JSON|duplicate ID|ID |"images" must list at least|image_root|none of|the lists "images"|is repeated'
)
COCO: dict[str, Any] = {
    "images": [
        {"id": 4, "file_name": "a.png", "height": 120, "width": 200},
        {"id": 7, "file_name": "b.png", "height": 120, "width": 200},
    ],
    "categories": [{"id": 1, "name": "person"}, {"id": 3, "name": "car"}],
    "annotations": [
        {"id": 10, "image_id": 4, "category_id": 1, "bbox": [10, 20, 30, 60], "iscrowd": 0, "area": 1800},
        {"id": 11, "image_id": 4, "category_id": 3, "bbox": [90, 20, 40, 50], "iscrowd": 0},
        {"id": 12, "image_id": 7, "category_id": 1, "bbox": [150.5, 10, 80, 100.25], "iscrowd": 1},
    ],
}
PEDESTRIANS: dict[str, Any] = {
    "images": [
        {"id": 1, "im_name": "lindau_000000_000019_leftImg8bit.png", "height": 1024, "width": 2048},
        {"id": 2, "im_name": "lindau_000001_000019_leftImg8bit.png", "height": 1024, "width": 2048},
    ],
    "categories": [{"id": 1, "name": "pedestrian"}],
    "annotations": [
        {
            "id": 1,
            "image_id": 1,
            "category_id": 1,
            "iscrowd": 0,
            "ignore": 0,
            "bbox": [100, 200, 41, 100],
            "vis_bbox": [100, 200, 41, 50],
            "vis_ratio": 0.5,
            "height": 100,
        },
        {"id": 2, "image_id": 2, "category_id": 1, "iscrowd": 1, "ignore": 1, "bbox": [900, 300, 200, 100]},
        {"id": 3, "image_id": 2, "category_id": 1, "bbox": [2000, 300, 90, 200], "label": "rider", "ignore": 1},
    ],
}
OFFICIAL: dict[str, Any] = {
    "imgHeight": 1024,
    "imgWidth": 2048,
    "objects": [
        {"instanceId": 24000, "bbox": [947, 406, 17, 40], "bboxVis": [950, 407, 14, 39], "label": "pedestrian"},
        {"instanceId": -1, "bbox": [1157, 375, 48, 40], "bboxVis": [1157, 375, 48, 40], "label": "ignore"},
        {"instanceId": -1, "bbox": [57, 375, 48, 40], "bboxVis": [57, 375, 48, 40], "label": "person group"},
    ],
}
NEW_CALTECH: dict[str, Any] = {
    "images": [
        {"id": 1, "file_name": "set06_V000_I00029.jpg", "height": 480, "width": 640},
        {"id": 2, "file_name": "set06_V000_I00059.jpg", "height": 480, "width": 640},
    ],
    "categories": [{"id": 1, "name": "pedestrain"}],
    "annotations": [
        {
            "id": 1,
            "image_id": 1,
            "category_id": 1,
            "iscrowd": 0,
            "ignore": False,
            "bbox": [10, 20, 30, 70],
            "width": 640,
            "height": 480,
            "area": 2100,
        },
        {"id": 2, "image_id": 2, "category_id": 1, "iscrowd": 0, "ignore": True, "bbox": [10, 20, 30.5, 70]},
    ],
}
FRAME: dict[str, Any] = {
    "identity": "frame",
    "imagewidth": 200,
    "imageheight": 120,
    "tags": [],
    "children": [
        {"identity": "pedestrian", "x0": 20, "y0": 10, "x1": 50, "y1": 70, "tags": ["occluded>40"], "children": []},
        {
            "identity": "rider",
            "x0": 80,
            "y0": 10,
            "x1": 120,
            "y1": 90,
            "tags": [],
            "children": [{"identity": "bicycle", "x0": 80, "y0": 50, "x1": 120, "y1": 90, "tags": [], "children": []}],
        },
        {"identity": "pedestrian", "x0": 150, "y0": 10, "x1": 180, "y1": 80, "tags": ["reflection"], "children": []},
    ],
}
KAIST: dict[str, Any] = {
    "images": [
        {"id": 0, "im_name": "set06/V000/I00019", "height": 512, "width": 640},
        {"id": 1, "im_name": "set07/V001/I00039", "height": 512, "width": 640},
    ],
    "annotations": [
        {"id": 0, "image_id": 0, "category_id": 1, "bbox": [476, 224, 18, 60], "occlusion": 1, "ignore": 0},
        {"id": 1, "image_id": 1, "category_id": 3, "bbox": [76, 224, 18, 60], "occlusion": 2, "ignore": 1},
    ],
    "categories": [{"id": 1, "name": "person"}, {"id": 3, "name": "people"}],
}
PERSON: dict[str, Any] = {
    "fbox": [10, 20, 40, 90],
    "vbox": [10, 20, 40, 45],
    "hbox": [22, 22, 15, 18],
    "tag": "person",
    "extra": {"box_id": 0, "occ": 1, "ignore": 0},
}
CROWD = [
    {"ID": "273271,c9db", "gtboxes": [PERSON, {**PERSON, "tag": "mask", "extra": {"ignore": 1}}]},
    {"ID": "273278,1a2b", "gtboxes": [{**PERSON, "fbox": [-30, 20, 50, 95], "vbox": [0, 20, 20, 95], "extra": {}}]},
]


def _pictures(folder: Path, *names: str) -> None:
    """Images of 200 x 120 pixels (width x height)."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (200, 120)).save(folder / name)


def _some_of_each(tally: Tally) -> None:
    assert tally.refused > len(tally.contents) // 4
    assert tally.read >= 3


def test_mutated_coco_folder(tmp_path: Path) -> None:
    root = tmp_path / "coco"
    _pictures(root / "val", "a.png", "b.png")
    file = root / "annotations" / "instances_val.json"
    file.parent.mkdir()
    file.write_text(json.dumps(COCO))

    def check(content: bytes) -> Outcome:
        record = rf"{RECORD}|\d of its \d images|none of its \d images"
        return check_conversion(root, file, content, ("coco",), plain_coco, record)

    _some_of_each(fuzz(broken_json(COCO), check, 90))


def test_mutated_val_gt_json(tmp_path: Path) -> None:
    root = tmp_path / "citypersons"
    root.mkdir()
    file = root / "val_gt.json"
    file.write_text(json.dumps(PEDESTRIANS))

    def check(content: bytes) -> Outcome:
        command = ("citypersons", "--annotations-only")
        return check_conversion(root, file, content, command, plain_citypersons_json, RECORD)

    _some_of_each(fuzz(broken_json(PEDESTRIANS), check, 90))


def test_mutated_official_citypersons(tmp_path: Path) -> None:
    root = tmp_path / "cityscapes"
    file = root / "gtBboxCityPersons" / "val" / "lindau" / "lindau_000000_000019_gtBboxCityPersons.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(OFFICIAL))

    def check(content: bytes) -> Outcome:
        command = ("citypersons", "--annotations-only")
        record = f"{RECORD}|objects|imgWidth"
        return check_conversion(root, file, content, command, plain_official_citypersons, record)

    _some_of_each(fuzz(broken_json(OFFICIAL), check, 90))


def test_mutated_annotations(tmp_path: Path) -> None:
    """The reader of trainings, without a command: rejected by our own error, or every number as written."""
    file = tmp_path / "train.json"

    def check(content: bytes) -> Outcome:
        file.write_bytes(content)
        try:
            read = read_annotations(file, check_images=False)
        except AnnotationError as error:
            return Outcome(REFUSED, "", str(error))
        said = plain_json(content)
        records = read.coco_records()
        assert [record["bbox"] for record in records] == [one["bbox"] for one in said["annotations"]]
        assert [record["image_id"] for record in records] == [one["image_id"] for one in said["annotations"]]
        assert [image.image_id for image in read.images] == [image["id"] for image in said["images"]]
        return Outcome(0, "", "")

    def check_refusal(content: bytes) -> Outcome:
        outcome = check(content)
        assert outcome.code == 0 or outcome.err.startswith(f"{file}: ")
        return outcome

    _some_of_each(fuzz(broken_json(PEDESTRIANS), check_refusal, 90))


def test_mutated_new_caltech_json(tmp_path: Path) -> None:
    root = tmp_path / "caltech"
    root.mkdir()
    file = root / "new_annotations_test.json"
    file.write_text(json.dumps(NEW_CALTECH))

    def check(content: bytes) -> Outcome:
        command = ("caltech", "--annotations-only", "--annotations", "new")
        return check_conversion(root, file, content, command, plain_caltech_json, RECORD)

    _some_of_each(fuzz(broken_json(NEW_CALTECH), check, 70))


def test_mutated_kaist_json(tmp_path: Path) -> None:
    root = tmp_path / "kaist"
    root.mkdir()
    file = root / "kaist_annotations_test20.json"
    file.write_text(json.dumps(KAIST))

    def check(content: bytes) -> Outcome:
        record = f"{RECORD}|the lists|none of the .* annotated frames"
        return check_conversion(
            root, file, content, ("kaist", "--annotations-only"), plain_kaist_json, record, named="kaist"
        )

    _some_of_each(fuzz(broken_json(KAIST), check, 90))


def test_mutated_eurocity_labels(tmp_path: Path) -> None:
    root = tmp_path / "eurocity"
    _pictures(root / "day" / "img" / "train" / "ulm", "ulm_00001.png")
    file = root / "day" / "labels" / "train" / "ulm" / "ulm_00001.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(FRAME))

    def check(content: bytes) -> Outcome:
        return check_conversion(root, file, content, ("eurocity",), plain_eurocity, f"{RECORD}|imagewidth")

    _some_of_each(fuzz(broken_json(FRAME), check, 90))


@pytest.mark.parametrize("is_file_broken", [True, False])
def test_mutated_crowdhuman_lines(tmp_path: Path, is_file_broken: bool) -> None:
    """Broken as a file of lines, or the first line as JSON."""
    root = tmp_path / "crowdhuman"
    _pictures(root / "Images", *(f"{record['ID']}.jpg" for record in CROWD))
    file = root / "annotation_val.odgt"
    lines = [json.dumps(record) for record in CROWD]
    file.write_text("\n".join(lines))

    def check(content: bytes) -> Outcome:
        broken = content if is_file_broken else content.replace(b"\n", b" ") + b"\n" + lines[1].encode()
        return check_conversion(root, file, broken, ("crowdhuman", "--skip-missing"), plain_crowdhuman, RECORD)

    _some_of_each(fuzz(broken_text(file.read_bytes()) if is_file_broken else broken_json(CROWD[0]), check, 60))
