"""Folders in COCO's layout, written here after its documentation; the real files were not available."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from hkd.coco.annotations import read_annotations
from hkd.coco.parsing.errors import AnnotationError
from hkd.data.sources.coco_folder.convert import convert


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
    (note,) = summary.notes
    assert (note.kind, note.count, note.split) == ("boxes_of_other_categories", 3, "val2017")
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
    assert [(note.kind, note.count) for note in summary.notes] == [("boxes_of_other_categories", 2)]


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
    assert [note.count for note in summary.notes if note.kind == "boxes_without_area"] == [1]


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
        ({"category_id": 5}, 'but annotations[0] (id 900, image_id 139) has 5; correct the "category_id"'),
        ({"category_id": {}}, '"category_id" must be an integer, but annotations[0] (id 900, image_id 139) has {}'),
        # Of the file's own third record, though it is the second of a person.
        ({"vis_ratio": 7}, '"vis_ratio" must be a number from 0 to 1, but annotations[0] (id 900, image_id 139) has 7'),
        (
            {"bbox": [1, 2, 3]},
            "but annotations[0] (id 900, image_id 139) has [1, 2, 3]",
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


def _problems(root: Path, **options: Any) -> list[str]:
    with pytest.raises(AnnotationError) as caught:
        convert(root, root.parent / "refused", progress=False, **options)
    assert not (root.parent / "refused").exists()
    return list(caught.value.problems)


def test_split_without_images_is_left_out_and_named(root: Path, tmp_path: Path) -> None:
    _write(root, _document(), "annotations/instances_train2017.json")
    summary = convert(root, tmp_path / "out", progress=False)
    assert [path.name for path in summary.paths] == ["val2017.json"]
    (note,) = [note for note in summary.notes if note.kind == "splits_missing"]
    assert all(fact in note.sentence for fact in ("train2017", "2 images", "'images/train2017'", "000000000139.jpg"))
    # A chosen split is not left out.
    (problem,) = _problems(root, chosen_splits=["train2017"])
    assert "none of its 2 images was found" in problem
    (problem,) = _problems(root, chosen_splits=["test"])
    assert "there is no split test (--split); there are: train2017, val2017" in problem


@pytest.mark.parametrize("missing", ["000000000139.jpg", "000000000042.jpg"])
def test_missing_images_are_counted_and_can_be_left_out(root: Path, tmp_path: Path, missing: str) -> None:
    (root / "val2017" / missing).unlink()
    (problem,) = _problems(root)
    assert problem.startswith("annotations/instances_val2017.json: 1 of its 2 images are not where the others are")
    assert missing in problem
    assert "--skip-missing" in problem
    summary = convert(root, tmp_path / "out", skip_missing=True, progress=False)
    read = read_annotations(summary.paths[0])
    # Two boxes of people are in image 139, none in 42.
    expected = {"000000000139.jpg": ([42], 0), "000000000042.jpg": ([139], 2)}[missing]
    assert ([image.image_id for image in read.images], len(read.coco_records())) == expected
    (note,) = [note for note in summary.notes if note.kind == "images_missing"]
    assert (note.count, note.examples) == (1, (missing,))


def test_export_of_label_studio_is_read(tmp_path: Path) -> None:
    root = tmp_path / "export"
    image = {"width": 80, "height": 60, "id": 0, "file_name": "..\\..\\media\\upload\\4\\cb0618f6-a.jpg"}
    box = {"id": 0, "image_id": 0, "category_id": 0, "segmentation": [], "bbox": [10.5, 10, 20, 40], "ignore": 0}
    _write(root, {"images": [image], "categories": [{"id": 0, "name": "Person"}], "annotations": [box]}, "result.json")
    (root / "images").mkdir()
    Image.new("RGB", (80, 60)).save(root / "images/cb0618f6-a.jpg")
    summary = convert(root, tmp_path / "out", progress=False)
    read = read_annotations(summary.paths[0])
    assert summary.paths[0].name == "all.json"
    assert read.images[0].file_name == "images/cb0618f6-a.jpg"
    assert read.annotated.boxes_xywh.tolist() == [[10.5, 10, 20, 40]]
    (note,) = [note for note in summary.notes if note.kind == "images_found_elsewhere"]
    assert note.count == 1


def test_export_of_roboflow_has_an_unused_root(tmp_path: Path) -> None:
    root = tmp_path / "export"
    document = _document()
    document["categories"] = [
        {"id": 0, "name": "pedestrian", "supercategory": "none"},
        {"id": 1, "name": "person", "supercategory": "pedestrian"},
    ]
    document["annotations"] = [{"id": 0, "image_id": 42, "category_id": 1, "bbox": [10, 10, 20, 40]}]
    _write(root, document, "train/_annotations.coco.json")
    _write_images(root / "train")
    summary = convert(root, tmp_path / "out", validation_images=1, progress=False)
    assert [path.name for path in summary.paths] == ["train.json", "validation.json"]
    assert (summary.images, summary.boxes, summary.ignored) == (2, 1, 0)


def test_other_ids_than_integers_are_read(root: Path, tmp_path: Path) -> None:
    document = _document()
    for row in document["annotations"]:
        row["image_id"], row["category_id"] = float(row["image_id"]), str(row["category_id"])
    _write(root, document)
    summary = convert(root, tmp_path / "out", progress=False)
    assert (summary.boxes, summary.ignored) == (2, 1)


def test_categories_named_as_ignored_are_ignore_regions(root: Path, tmp_path: Path) -> None:
    document = _document()
    document["categories"][1]["name"] = "ignore region"
    _write(root, document)
    summary = convert(root, tmp_path / "out", ignored_names=["car"], progress=False)
    # Two of the category 44, one car, and the crowd.
    assert dict(summary.ignored_by_label) == {"ignore region": 2, "car": 1, "crowd": 1}


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
            'no category is named pedestrian or person; there is "walker". Name those of people (--person)',
        ),
        (
            {"images": [{"id": 1, "file_name": "../a.jpg", "height": 60, "width": 80}], "annotations": []},
            "none of its 1 images was found (first: '../a.jpg')",
        ),
        (
            {"images": [{"id": 1, "file_name": 7, "height": 60, "width": 80}], "annotations": []},
            '"file_name" must be text',
        ),
        (
            {"images": [{"id": 1, "file_name": "a.jpg", "height": 60, "width": 80}], "annotations": []},
            "none of its 1 images was found (first: 'a.jpg'); put the images into one of 'val2017'",
        ),
        (
            {"images": [{"id": 1, "file_name": "a" * 300, "height": 60, "width": 80}], "annotations": []},
            "none of its 1 images was found",
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
    (tmp_path / "empty").mkdir()
    with pytest.raises(AnnotationError, match=r"found no annotations/\*.json, SPLIT/_annotations.coco.json or other"):
        convert(tmp_path / "empty", tmp_path / "out", progress=False)


def test_hidden_files_are_left_out_and_counted(root: Path, tmp_path: Path) -> None:
    _write(root, {}, "annotations/._instances_val2017.json")
    _write(root, {}, ".ipynb_checkpoints/labels.json")
    summary = convert(root, tmp_path / "out", progress=False)
    (note,) = [note for note in summary.notes if note.kind == "files_hidden"]
    assert note.examples == (".ipynb_checkpoints/labels.json", "annotations/._instances_val2017.json")


def test_json_files_of_other_formats_are_left_out_and_counted(tmp_path: Path) -> None:
    root = tmp_path / "set"
    _write(root, _document(), "train.json")
    _write(root, [{"image_id": 139, "score": 0.5}], "results.json")
    _write(root, {"classes": []}, "meta.json")
    _write_images(root / "images")
    summary = convert(root, tmp_path / "out", progress=False)
    assert [path.name for path in summary.paths] == ["train.json"]
    (note,) = [note for note in summary.notes if note.kind == "files_without_annotations"]
    assert note.examples == ("meta.json", "results.json")
    (problem,) = _problems(root, chosen_splits=["meta"])
    assert problem.startswith("meta.json: must be an object with the lists")
