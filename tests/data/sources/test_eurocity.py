"""The EuroCity Persons converter, on files as its paper and evaluation code have them; not the real ones."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from hkd.coco.annotations import read_annotations
from hkd.coco.parsing.errors import AnnotationError
from hkd.data.sources.eurocity import convert


def _child(identity: Any, *tags: str, **changes: Any) -> dict[str, Any]:
    return {
        "identity": identity,
        "x0": 20,
        "y0": 10,
        "x1": 50,
        "y1": 70,
        "tags": list(tags),
        "orient": -0.15,
        "children": [],
        **changes,
    }


def _write_frame(root: Path, part: str, name: str, children: Any) -> Path:
    """Label file and image of one frame; ``part`` is as in ``day/train``. Returns the label file."""
    time, split = part.split("/")
    image = root / time / "img" / split / f"{name}.png"
    label = root / time / "labels" / split / f"{name}.json"
    for path in (image, label):
        path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (192, 102)).save(image)
    frame = {"identity": "frame", "imagewidth": 192, "imageheight": 102, "tags": [], "children": children}
    label.write_text(json.dumps(frame))
    return label


def _convert(root: Path, children: Any) -> list[dict[str, Any]]:
    """The annotations of one frame with these children."""
    _write_frame(root, "day/train", "amsterdam/amsterdam_00000", children)
    summary = convert(root, root.parent / "out", progress=False)
    return list(read_annotations(summary.paths[0]).coco_records())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "ECP"


def test_every_part_becomes_split(root: Path, tmp_path: Path) -> None:
    for part in ("day/train", "day/val", "night/train", "night/val"):
        for city in ("berlin/berlin_00001", "amsterdam/amsterdam_00007"):
            _write_frame(root, part, city, [_child("pedestrian")])
    summary = convert(tmp_path, tmp_path / "out", progress=False)  # the folder that holds ECP does as well
    assert [path.stem for path in summary.paths] == ["day_train", "day_validation", "night_train", "night_validation"]
    assert (summary.images, summary.boxes, summary.ignored, summary.changes) == (8, 8, 0, ())
    night = read_annotations(summary.paths[3])
    assert [(image.image_id, image.file_name, image.width, image.height) for image in night.images] == [
        (1, "night/img/val/amsterdam/amsterdam_00007.png", 192, 102),
        (2, "night/img/val/berlin/berlin_00001.png", 192, 102),
    ]
    assert night.coco_records()[1]["image_id"] == 2


def test_corners_become_box(root: Path) -> None:
    (record,) = _convert(root, [_child("pedestrian", x0=20.5)])
    # The evaluation code takes y1 - y0 for the height.
    assert (record["bbox"], record["height"]) == ([20.5, 10, 29.5, 60], 60)
    assert (record["ignore"], record["vis_ratio"], record["occluded"]) == (0, 1, 0)
    assert "label" not in record


@pytest.mark.parametrize(
    ("identity", "tag", "label"),
    [
        ("pedestrian", "sitting-lying", "sitting-lying"),
        ("pedestrian", "behind-glass", "behind-glass"),
        ("pedestrian", "depiction", "depiction"),
        ("pedestrian", "reflection", "reflection"),
        ("rider", "unsure_orientation", "rider"),
        ("person-group-far-away", "", "person-group-far-away"),
        ("rider+vehicle-group-far-away", "", "rider+vehicle-group-far-away"),
        ("skater", "", "skater"),  # of no identity that is documented
    ],
)
def test_ignored_identities_and_tags(root: Path, identity: str, tag: str, label: str) -> None:
    (record,) = _convert(root, [_child(identity, tag)])
    assert (record["ignore"], record["label"]) == (1, label)
    assert record["iscrowd"] == ("group" in identity)


@pytest.mark.parametrize("tag", ["unsure_orientation", "skating"])
def test_other_tags_have_no_effect(root: Path, tag: str) -> None:
    (record,) = _convert(root, [_child("pedestrian", tag)])
    assert (record["ignore"], record["vis_ratio"]) == (0, 1)


@pytest.mark.parametrize(
    ("tags", "vis_ratio", "occluded"),
    [
        (["occluded>10"], 0.75, 1),  # 60 to 90 per cent are seen
        (["occluded>40"], 0.4, 1),  # 20 to 60
        (["occluded>80"], 0.1, 1),  # 0 to 20
        (["truncated>40"], 0.4, 0),
        (["occluded>10", "truncated>80"], 0.1, 1),
    ],
)
def test_visibility_is_middle_of_visible_range(root: Path, tags: list[str], vis_ratio: float, occluded: int) -> None:
    (record,) = _convert(root, [_child("pedestrian", *tags)])
    assert (record["vis_ratio"], record["occluded"]) == (vis_ratio, occluded)


def test_vehicles_and_depicted_groups_are_dropped_and_counted(root: Path) -> None:
    rider = _child("rider", children=[_child("bicycle"), _child("co-rider", x0=22)])
    children = [
        rider,
        _child("bicycle"),
        _child("motorbike-group"),
        _child("person-group-far-away", "depiction"),
        _child("pedestrian"),
    ]
    _write_frame(root, "day/train", "amsterdam/amsterdam_00000", children)
    summary = convert(root, root.parent / "out", progress=False)
    assert summary.changes == (
        "dropped 4 objects that are not persons: 2 bicycle, 1 motorbike-group, 1 person-group-far-away (depiction)",
    )
    assert summary.ignored_by_label == {"rider": 1, "co-rider": 1}
    assert summary.boxes == 3


def test_nested_people_are_read(root: Path) -> None:
    inner = _child("rider", children=[_child("pedestrian")])
    assert len(_convert(root, [_child("rider", children=[inner])])) == 3


@pytest.mark.parametrize("identity", [None, "", "absent"])
def test_object_without_identity_is_ignored_and_counted(root: Path, identity: str | None) -> None:
    unnamed = {**_child("pedestrian", x0=30), "identity": identity}
    if identity == "absent":
        del unnamed["identity"]
    _write_frame(root, "day/train", "a/a_0", [_child("pedestrian"), unnamed, _child("skater")])
    summary = convert(root, root.parent / "out", progress=False)
    assert dict(summary.ignored_by_label) == {"unknown": 1, "skater": 1}
    assert [one["bbox"][0] for one in read_annotations(summary.paths[0]).coco_records() if one["ignore"]] == [30, 20]
    (note,) = summary.notes
    assert (note.kind, note.count, len(note.examples)) == ("boxes_of_unknown_classes", 2, 2)
    assert "day/labels/train/a/a_0.json, children[1]" in note.sentence


def test_null_lists_are_empty_and_numbers_may_be_texts(root: Path) -> None:
    label = _write_frame(root, "day/train", "a/a_0", [_child("pedestrian", tags=None, children=None, x0="20.5")])
    frame = {**json.loads(label.read_text()), "imagewidth": "192"}
    label.write_text(json.dumps(frame))
    summary = convert(root, root.parent / "out", progress=False)
    read = read_annotations(summary.paths[0])
    assert (read.images[0].width, read.coco_records()[0]["bbox"]) == (192, [20.5, 10, 29.5, 60])


def test_objects_without_coordinates_are_dropped_and_counted(root: Path) -> None:
    nowhere = dict.fromkeys(("x0", "y0", "x1", "y1"))
    _write_frame(root, "day/train", "a/a_0", [_child("pedestrian", **nowhere), _child("pedestrian")])
    summary = convert(root, root.parent / "out", progress=False)
    (note,) = summary.notes
    assert (summary.boxes, note.kind, note.count) == (1, "boxes_without_area", 1)
    assert "a_0.json, children[0]" in note.sentence


def test_hidden_label_files_are_left_out(root: Path) -> None:
    label = _write_frame(root, "day/train", "a/a_0", [_child("pedestrian")])
    (label.parent / "._a_0.json").write_bytes(b"\0\5\x16\7")
    hidden = label.parent.parent / ".ipynb_checkpoints" / "a_0-checkpoint.json"
    hidden.parent.mkdir()
    hidden.write_text(label.read_text())
    summary = convert(root, root.parent / "out", progress=False)
    (note,) = summary.notes
    assert (summary.images, note.kind, note.count) == (1, "files_hidden", 2)


def test_missing_images_and_parts_are_left_out_and_counted(root: Path) -> None:
    for part in ("day/train", "day/val", "night/train"):
        for name in ("a/a_0", "a/a_1"):
            _write_frame(root, part, name, [_child("pedestrian")])
    (root / "day/img/train/a/a_0.png").unlink()
    for name in ("a_0", "a_1"):
        (root / f"day/img/val/a/{name}.png").unlink()
    shutil.rmtree(root / "night" / "img")
    with pytest.raises(AnnotationError, match=r"day_train: 1 of its 2 .*a_0.png.*--skip-missing"):
        convert(root, root.parent / "out", progress=False)
    summary = convert(root, root.parent / "out", skip_missing=True, progress=False)
    assert [path.name for path in summary.paths] == ["day_train.json"]
    assert [image.image_id for image in read_annotations(summary.paths[0]).images] == [2]
    assert [(note.kind, note.split, note.count) for note in summary.notes] == [
        ("splits_missing", "night_train", 1),
        ("images_missing", "day_train", 1),
        ("splits_missing", "day_validation", 1),
    ]


@pytest.mark.parametrize("right", [20, 10, -5])  # the left side is at 20
def test_boxes_without_area_are_dropped(root: Path, right: int) -> None:
    _write_frame(root, "day/train", "a/a_0", [_child("pedestrian", x1=right), _child("pedestrian")])
    summary = convert(root, root.parent / "out", progress=False)
    assert summary.boxes == 1
    assert summary.changes[0].startswith("day_train: dropped 1 of 2 boxes, without area")


@pytest.mark.parametrize(
    ("children", "problem"),
    [
        ({}, "day/labels/train/a/a_0.json: must be an object with imagewidth, imageheight and a list 'children'"),
        ([3], "a_0.json, children[0]: must be an object with a text 'identity'"),
        ([_child("rider", children=[7])], "a_0.json, children[0], children[0]: must be an object with a text"),
        ([_child(5)], "a_0.json, children[0]: must be an object with a text 'identity'"),
        ([_child("rider", children=4)], "a_0.json, children[0]: children is a int; it must be a list"),
        (
            [_child("pedestrian", tags="occluded>10")],
            "children[0]: must be an object with a text 'identity' and a list",
        ),
        (
            [_child("pedestrian", tags=[{}])],
            "children[0]: must be an object with a text 'identity' and a list of texts",
        ),
        (
            [_child("pedestrian", "occluded>41")],
            'children[0]: found tag "occluded>41"; allowed: occluded>10, occluded>40',
        ),
        ([_child("pedestrian", x0=None)], "children[0]: [x0, y0, x1, y1] is [null, 10, 50, 70]; it must be four"),
        ([_child("pedestrian", y1=float("inf"))], "[x0, y0, x1, y1] is [20, 10, 50, Infinity]; it must be four finite"),
    ],
)
def test_malformed_object_is_reported(root: Path, children: Any, problem: str) -> None:
    _write_frame(root, "day/train", "a/a_0", children)
    with pytest.raises(AnnotationError) as caught:
        convert(root, root.parent / "out", progress=False)
    (sentence,) = caught.value.problems
    assert problem in sentence
    assert not (root.parent / "out").exists()


def test_malformed_files_are_reported_together(root: Path) -> None:
    _write_frame(root, "day/train", "a/a_0", []).write_text('{"children": [')
    _write_frame(root, "day/train", "a/a_1", []).write_text('{"children": [], "imagewidth": 192}')
    with pytest.raises(AnnotationError) as caught:
        convert(root, root.parent / "out", progress=False)
    truncated, no_size = caught.value.problems
    assert truncated.startswith("day/labels/train/a/a_0.json: line 1, column 15: not valid JSON")
    assert no_size.startswith("day/labels/train/a/a_1.json: imagewidth x imageheight is 192 x null; both must be")


def test_image_of_another_size_is_reported(root: Path) -> None:
    _write_frame(root, "day/train", "a/a_2", [])
    Image.new("RGB", (96, 51)).save(root / "day/img/train/a/a_2.png")
    with pytest.raises(AnnotationError) as caught:
        convert(root, root.parent / "out", progress=False)
    (problem,) = caught.value.problems
    assert "day/img/train/a/a_2.png" in problem
    assert "is 96 x 51 pixels" in problem
    assert "annotated as 192 x 102" in problem


def test_missing_files_are_reported(root: Path) -> None:
    with pytest.raises(AnnotationError, match=r"found no \{day,night\}/labels/\{train,val\}; name the folder"):
        convert(root, root.parent / "out", progress=False)
    (root / "night/labels/val").mkdir(parents=True)
    with pytest.raises(AnnotationError, match=r"there is night/labels/val, but no night/img/val; add its images"):
        convert(root, root.parent / "out", progress=False)
    (root / "night/img/val").mkdir(parents=True)
    with pytest.raises(AnnotationError, match=r"there is no night/labels/val/CITY/\*.json"):
        convert(root, root.parent / "out", progress=False)
