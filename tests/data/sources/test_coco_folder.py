"""Folders in COCO's layout, written here after its documentation; the real files were not available."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from hkd.coco.annotations import read_annotations
from hkd.coco.parsing.errors import AnnotationError
from hkd.data.sources.coco_folder import convert


def _document() -> dict[str, Any]:
    return {
        "info": {"year": 2017},
        "licenses": [{"id": 1, "name": "any"}],
        "images": [
            {"id": 139, "file_name": "000000000139.jpg", "height": 60, "width": 80, "license": 1, "coco_url": ""},
            {"id": 42, "file_name": "000000000042.jpg", "height": 60, "width": 80},
        ],
        "categories": [
            {"id": 1, "name": "person", "supercategory": "person"},
            {"id": 44, "name": "bottle", "supercategory": "kitchen"},
            {"id": 3, "name": "car", "supercategory": "vehicle"},
        ],
        "annotations": [
            {
                "id": 900,
                "image_id": 139,
                "category_id": 1,
                "bbox": [10.5, 5, 20, 40.25],
                "area": 500.0,
                "iscrowd": 0,
                "segmentation": [[10.5, 5, 30, 5, 30, 45]],
            },
            {
                "id": 901,
                "image_id": 139,
                "category_id": 1,
                "bbox": [0, 0, 80, 30],
                "iscrowd": 1,
                "segmentation": {"counts": [1], "size": [60, 80]},
            },
            {"id": 902, "image_id": 42, "category_id": 44, "bbox": [1, 1, 5, 5], "iscrowd": 0},
            {"id": 903, "image_id": 42, "category_id": 44, "bbox": [2, 1, 5, 5], "iscrowd": 0},
            {"id": 904, "image_id": 42, "category_id": 3, "bbox": [2, 1, 5, 5], "iscrowd": 0},
        ],
    }


def _write(root: Path, document: object, file: str = "annotations/instances_val2017.json") -> Path:
    path = root / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))
    return path


def _write_images(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("000000000139.jpg", "000000000042.jpg"):
        Image.new("RGB", (80, 60)).save(folder / name)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "coco"
    _write(root, _document())
    _write_images(root / "val2017")
    return root


def test_people_are_kept_with_their_image_ids(root: Path, tmp_path: Path) -> None:
    summary = convert(root, tmp_path / "out", progress=False)
    assert [path.name for path in summary.paths] == ["val2017.json"]
    assert (summary.images, summary.boxes, summary.ignored) == (2, 2, 1)
    assert summary.ignored_by_label == {"crowd": 1}
    assert summary.changes == ("val2017: dropped 3 boxes of other categories: 2 bottle, 1 car",)
    read = read_annotations(summary.paths[0])
    # Images without people stay, with the ids that detections in COCO's format name.
    assert [(image.image_id, image.file_name) for image in read.images] == [
        (139, "val2017/000000000139.jpg"),
        (42, "val2017/000000000042.jpg"),
    ]
    person, crowd = read.coco_records()
    assert (person["bbox"], person["height"], person["ignore"]) == ([10.5, 5, 20, 40.25], 40.25, 0)
    assert (crowd["ignore"], crowd["iscrowd"], crowd["label"]) == (1, 1, "crowd")
    written = json.loads(summary.paths[0].read_text())["annotations"]
    assert [record["ignore"] for record in written] == [0, 1]  # for other programs, too


@pytest.mark.parametrize("folder", ["images/val2017", "images", "."])
def test_images_are_found_in_each_layout(tmp_path: Path, folder: str) -> None:
    root = tmp_path / "coco"
    _write(root, _document())
    _write_images(root / folder)
    summary = convert(root, tmp_path / "out", progress=False)
    assert len(read_annotations(summary.paths[0]).images) == 2


def test_instances_files_are_preferred(root: Path, tmp_path: Path) -> None:
    _write(root, {"annotations": [{"caption": "a street"}]}, "annotations/captions_val2017.json")
    assert len(convert(root, tmp_path / "out", progress=False).paths) == 1


def test_annotation_files_with_other_names_are_read(tmp_path: Path) -> None:
    root = tmp_path / "own"
    _write(root, _document(), "annotations/street.json")
    _write_images(root / "street")
    assert convert(root, tmp_path / "out", progress=False).paths == (tmp_path / "out" / "street.json",)


def test_input_file_is_not_overwritten(tmp_path: Path) -> None:
    path = _write(tmp_path, _document(), "annotations/street.json")
    before = path.read_bytes()
    _write_images(tmp_path / "street")
    with pytest.raises(AnnotationError, match=r"annotations/street.json would be overwritten by the conversion"):
        convert(tmp_path, tmp_path / "annotations", progress=False)
    assert path.read_bytes() == before


def test_exported_layout_has_annotations_beside_images(tmp_path: Path) -> None:
    root = tmp_path / "export"
    for part in ("train", "valid"):
        _write(root, _document(), f"{part}/_annotations.coco.json")
        _write_images(root / part)
    summary = convert(root, tmp_path / "out", progress=False)
    assert [path.name for path in summary.paths] == ["train.json", "valid.json"]
    assert read_annotations(summary.paths[1]).images[0].file_name == "valid/000000000139.jpg"


def test_person_names_select_categories(root: Path, tmp_path: Path) -> None:
    summary = convert(root, tmp_path / "out", person_names=("Bottle", "car"), progress=False)
    assert summary.boxes == 3
    assert summary.changes == ("val2017: dropped 2 boxes of other categories: 2 person",)


def test_pedestrian_fields_are_kept(root: Path, tmp_path: Path) -> None:
    document = _document()
    fields = {"vis_bbox": [10, 5, 10, 10], "vis_ratio": 0.25, "height": 41, "ignore": True, "label": "rider"}
    document["annotations"][0] |= fields | {"occluded": True}
    _write(root, document)
    (record, _) = read_annotations(convert(root, tmp_path / "out", progress=False).paths[0]).coco_records()
    assert {key: record[key] for key in fields} == fields | {"ignore": 1}
    assert record["occluded"] == 1


def test_height_beside_a_width_is_not_written(root: Path, tmp_path: Path) -> None:
    document = _document()
    document["annotations"][0] |= {"width": 80, "height": 60}  # the image's
    document["annotations"][0]["image_id"] = float(document["annotations"][0]["image_id"])
    box_height = document["annotations"][0]["bbox"][3]
    _write(root, document)
    summary = convert(root, tmp_path / "out", progress=False)
    assert read_annotations(summary.paths[0]).heights[0] == box_height
    assert any("state a width beside their height" in sentence for sentence in summary.changes)


@pytest.mark.parametrize(
    "fields",
    [{"height": 0}, {"vis_ratio": float("nan")}, {"vis_bbox": [10, 5, -1, 0]}],
    ids=lambda fields: next(iter(fields)),
)
def test_box_without_area_is_dropped_whatever_its_fields(root: Path, tmp_path: Path, fields: dict[str, Any]) -> None:
    # Writers that derive these fields from the box derive zeros, or divide by them.
    document = _document()
    document["annotations"].append({"id": 905, "image_id": 42, "category_id": 1, "bbox": [10, 5, 3, 0], **fields})
    _write(root, document)
    summary = convert(root, tmp_path / "out", progress=False)
    assert summary.boxes == 2
    assert any("dropped 1 of 3 boxes, without area" in sentence for sentence in summary.changes)


def test_visibility_of_a_visible_box_is_written(root: Path, tmp_path: Path) -> None:
    document = _document()
    document["annotations"][0]["vis_bbox"] = [10, 5, 10, 10]
    _write(root, document)
    path = convert(root, tmp_path / "out", progress=False).paths[0]
    # 10 x 10 of 20 x 40.25 pixels, for other programs too; evaluation reads the same.
    assert json.loads(path.read_text())["annotations"][0]["vis_ratio"] == pytest.approx(100 / 805)
    assert read_annotations(path).visibilities[0] == pytest.approx(100 / 805)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (
            {"image_id": 7},
            'the "id" of one of the "images", but annotations[0] (id 900, image_id 7) has 7',
        ),
        ({"image_id": [7]}, '"image_id" must be an integer, but annotations[0] (id 900, image_id [7]) has [7]'),
        ({"category_id": 5}, '"categories", but annotations[0] (id 900, image_id 139) has 5'),
        ({"category_id": {}}, '"categories", but annotations[0] (id 900, image_id 139) has {}'),
        # Of the file's own third record, though it is the second of a person.
        ({"vis_ratio": 7}, '"vis_ratio" must be a number from 0 to 1, but annotations[0] (id 900, image_id 139) has 7'),
        (
            {"bbox": [1, 2, 3]},
            "from -1e9 to 1e9), but annotations[0] (id 900, image_id 139) has [1, 2, 3]",
        ),
        ({"bbox": [1, float("nan"), 3, 4]}, "(id 900, image_id 139) has [1, NaN, 3, 4]"),
    ],
)
def test_malformed_annotation_is_reported(root: Path, tmp_path: Path, change: dict[str, Any], problem: str) -> None:
    document = _document()
    document["annotations"][0] |= change
    _write(root, document)
    with pytest.raises(AnnotationError) as caught:
        convert(root, tmp_path / "out", progress=False)
    (sentence,) = caught.value.problems
    assert sentence.startswith("annotations/instances_val2017.json: ")
    assert problem in sentence
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"images": {}}, "must be an object with the lists 'images', 'annotations' and 'categories'"),
        ({"annotations": [3]}, "each record must be an object in braces, but annotations[0] has 3"),
        (
            {"categories": [{"id": "one", "name": "person"}], "annotations": []},
            'an integer, but categories[0] has "one"',
        ),
        (
            {"categories": [{"id": 1, "name": "person"}, {"id": 1, "name": "car"}], "annotations": []},
            '"id" must be different in each record, but categories[1] has 1',
        ),
        (
            {"categories": [{"id": 1, "name": "walker"}], "annotations": []},
            "no category is named person or pedestrian; there are: walker. Name those of people (--person)",
        ),
        (
            {"images": [{"id": 1, "file_name": "../a.jpg", "height": 60, "width": 80}], "annotations": []},
            "relative to the image root",
        ),
        (
            {"images": [{"id": 1, "file_name": "a.jpg", "height": 60, "width": 80}], "annotations": []},
            "its first image 'a.jpg' is in none of val2017, images/val2017, images and",
        ),
        (
            {"images": [{"id": 1, "file_name": "a" * 300, "height": 60, "width": 80}], "annotations": []},
            "is in none of val2017",
        ),
    ],
)
def test_malformed_document_is_reported(root: Path, tmp_path: Path, change: dict[str, Any], problem: str) -> None:
    _write(root, _document() | change)
    with pytest.raises(AnnotationError) as caught:
        convert(root, tmp_path / "out", progress=False)
    assert any(problem in sentence for sentence in caught.value.problems)


def test_truncated_and_missing_files_are_reported(root: Path, tmp_path: Path) -> None:
    path = root / "annotations/instances_val2017.json"
    path.write_text(path.read_text()[:50])
    with pytest.raises(
        AnnotationError, match=r"annotations/instances_val2017.json: line 1, column \d+: not valid JSON"
    ):
        convert(root, tmp_path / "out", progress=False)
    with pytest.raises(AnnotationError, match=r"found neither annotations/\*.json nor SPLIT/_annotations.coco.json"):
        convert(tmp_path / "nowhere", tmp_path / "out", progress=False)
