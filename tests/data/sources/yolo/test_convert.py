"""Folders in YOLO's layout, written here after docs.ultralytics.com/datasets/detect."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from hkd.coco.annotations import read_annotations
from hkd.data.sources.yolo.convert import convert
from tests.data.sources.yolo.street import CONFIG, configure, problem_of, write_image


def test_fractions_become_pixels(root: Path, tmp_path: Path) -> None:
    summary = convert(root, tmp_path / "out", progress=False)
    assert [path.name for path in summary.paths] == ["train.json", "validation.json"]
    assert (summary.images, summary.boxes, summary.ignored) == (3, 2, 0)
    assert [(note.kind, note.count, note.split) for note in summary.notes] == [
        ("images_without_labels", 1, "train"),
        ("boxes_of_other_categories", 1, "train"),
    ]
    assert "1 bicycle" in summary.notes[1].sentence
    train, validation = (read_annotations(path) for path in summary.paths)
    assert [(image.file_name, image.width, image.height) for image in train.images] == [
        ("images/train/a.jpg", 200, 100),
        ("images/train/night/b.png", 200, 100),
    ]
    # Of 200 x 100 pixels: x = (0.5 - 0.3 / 2) * 200, y = (0.4 - 0.6 / 2) * 100, 0.3 * 200 wide, 0.6 * 100 high.
    assert train.boxes_of(0)[0].tolist() == pytest.approx([70, 10, 60, 60])
    assert validation.boxes_of(0)[0].tolist() == pytest.approx([0, 0, 100, 100])


def test_person_names_select_classes(root: Path, tmp_path: Path) -> None:
    configure(root, names=["walker", "Child", "car"])
    sentence = problem_of(root)
    assert sentence.startswith("data.yaml: ")
    assert all(fact in sentence for fact in ("walker", "Child", "car", "--person"))
    assert convert(root, tmp_path / "out", person_names=("walker", "child"), progress=False).boxes == 3


def test_path_may_be_subfolder(tmp_path: Path) -> None:
    root = tmp_path / "street"
    write_image(root / "coco8/images/train/a.jpg", "0 0.5 0.5 0.1 0.1")
    (root / "street.yaml").write_text(yaml.safe_dump(CONFIG | {"val": None}))
    (path,) = convert(root, tmp_path / "out", progress=False).paths
    assert read_annotations(path).images[0].file_name == "coco8/images/train/a.jpg"


def test_only_last_images_in_path_is_replaced(tmp_path: Path) -> None:
    root = tmp_path / "street"
    image = root / "images/day/images/a.jpg"
    write_image(image, None)
    (root / "images/day/labels").mkdir()
    (root / "images/day/labels/a.txt").write_text("0 0.5 0.5 0.1 0.1")
    configure(root, train="images/day/images", val=None)
    assert convert(root, tmp_path / "out", progress=False).boxes == 1


def test_duplicate_lines_and_empty_boxes_are_dropped(root: Path, tmp_path: Path) -> None:
    (root / "labels/val/c.txt").write_text("0 0.5 0.5 0.1 0.1\n0 0.50 0.5 0.1 0.1\n0 0.5 0.5 0 0.1\n")
    summary = convert(root, tmp_path / "out", progress=False)
    assert len(read_annotations(summary.paths[1]).coco_records()) == 1
    found = {note.kind: note.count for note in summary.notes if note.split == "validation"}
    assert found == {"duplicate_boxes": 1, "boxes_without_area": 1}


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"person 0.5 0.4 0.3 0.6", "found 'person 0.5 0.4 0.3 0.6'; expected five numbers"),
        (b"3 0.5 0.4 0.3 0.6", "class 3 is not among the names in data.yaml"),
        (b"\xff\xfe", "expected five numbers"),
    ],
)
def test_malformed_line_is_reported(root: Path, line: bytes, problem: str) -> None:
    (root / "labels/train/a.txt").write_bytes(b"0 0.5 0.4 0.3 0.6\n" + line)
    sentence = problem_of(root)
    assert sentence.startswith("labels/train/a.txt, line 2: ")
    assert problem in sentence


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf0 0.5 0.4 0.3 0.6\r\n\r\n",
        "0 0.5 0.4 0.3 0.6\r\n".encode("utf-16"),
        b"0\t0.5\t0.4 0.3   0.6  \n\n\n",
    ],
)
def test_encodings_and_blanks_of_label_files_do_not_matter(root: Path, tmp_path: Path, content: bytes) -> None:
    (root / "labels/train/a.txt").write_bytes(content)
    train = read_annotations(convert(root, tmp_path / "out", progress=False).paths[0])
    assert train.boxes_of(0)[0].tolist() == pytest.approx([70, 10, 60, 60])


def test_numbers_slightly_beyond_the_edge_are_clipped_and_counted(root: Path, tmp_path: Path) -> None:
    (root / "labels/train/a.txt").write_text("0 0.5 0.4 1.00148 0.6\n0 -0.002 0.5 0.2 0.4\n")
    summary = convert(root, tmp_path / "out", progress=False)
    train = read_annotations(summary.paths[0])
    # 200 x 100 pixels: width 1; then centre 0, of which the left half is outside.
    assert train.annotated.boxes_xywh.tolist() == [
        pytest.approx([0, 10, 200, 60]),
        pytest.approx([-20, 30, 40, 40]),
    ]
    (note,) = [note for note in summary.notes if note.kind == "boxes_clipped" and "1 %" in note.sentence]
    assert (note.count, note.examples[0]) == (2, "labels/train/a.txt, line 1")


def test_polygons_are_read_as_their_bounding_boxes(root: Path, tmp_path: Path) -> None:
    (root / "labels/train/a.txt").write_text("0 0.5 0.5 0.25 0.5\n0 0.1 0.1 0.3 0.1 0.3 0.6 0.15 0.6\n")
    summary = convert(root, tmp_path / "out", progress=False)
    boxes = read_annotations(summary.paths[0]).annotated.boxes_xywh.tolist()
    # x from 0.1 to 0.3 of 200, y from 0.1 to 0.6 of 100.
    assert boxes == [pytest.approx([75, 25, 50, 50]), pytest.approx([20, 10, 40, 50])]
    (note,) = [note for note in summary.notes if note.kind == "boxes_from_polygons"]
    assert (note.count, note.examples) == (1, ("labels/train/a.txt, line 2",))


def test_key_points_need_the_stated_shape(root: Path, tmp_path: Path) -> None:
    (root / "labels/train/a.txt").write_text("0 0.5 0.4 0.3 0.6 0.1 0.2 2 0.3 0.4 2\n")  # 11 numbers: a polygon of 5
    configure(root, kpt_shape=[2, 3])
    train = read_annotations(convert(root, tmp_path / "out", progress=False).paths[0])
    assert train.boxes_of(0)[0].tolist() == pytest.approx([70, 10, 60, 60])


def test_labels_beside_images_are_read_and_counted(tmp_path: Path) -> None:
    root = tmp_path / "labelimg"
    write_image(root / "a.JPG", None)
    (root / "a.txt").write_text("1 0.5 0.5 0.1 0.2\n")
    (root / "classes.txt").write_text("car\nperson\n")
    summary = convert(root, tmp_path / "out", progress=False)
    (path,) = summary.paths
    assert path.name == "all.json"
    # 0.1 of 200 and 0.2 of 100 pixels around (100, 50).
    assert read_annotations(path).boxes_of(0)[0].tolist() == pytest.approx([90, 40, 20, 20])


def test_classes_named_as_ignored_become_ignore_regions(root: Path, tmp_path: Path) -> None:
    configure(root, names=["person", "DontCare", "car"])
    (root / "labels/val/c.txt").write_text("2 0.5 0.5 0.1 0.1\n")
    summary = convert(root, tmp_path / "out", ignored_names=["Car"], progress=False)
    # One of DontCare in the training image, one of car in the validation image.
    assert (summary.boxes, summary.ignored_by_label) == (3, {"DontCare": 1, "car": 1})


def test_person_beside_pedestrian_is_asked_about(root: Path, tmp_path: Path) -> None:
    configure(root, names=["person", "pedestrian", "car"])
    sentence = problem_of(root)
    assert "--person" in sentence
    assert '"person" (2) and "pedestrian" (1)' in sentence
    assert convert(root, tmp_path / "o", person_names=["person", "pedestrian"], progress=False).boxes == 3


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"names": None}, "data.yaml: names must be a list of class names"),
        ({"names": {"first": "person"}}, 'data.yaml: names has the key "first"; it must be the number of a class'),
        ({"names": ["person", 2]}, "data.yaml: names[1] is 2, which YAML reads as no text"),
        ({"names": "person", "nc": 2}, 'data.yaml: names is the text "person", but nc is 2'),
        ({"names": "gone.names"}, 'data.yaml: names is the file "gone.names", which is not in the data set'),
        ({"kpt_shape": "17"}, "data.yaml: kpt_shape is"),
        ({"train": None, "val": None}, "data.yaml: names neither train nor val nor test"),
        ({"train": "images/nowhere"}, 'data.yaml: train is "images/nowhere"; it must name a folder or a .txt in the'),
        ({"train": "/etc"}, 'data.yaml: train is "/etc"; it must name a folder or a .txt in the'),
        ({"train": "../../secret"}, 'train is "../../secret"; it must name'),
        ({"path": "../secret", "train": "a"}, 'train is "a"; it must name'),
        ({"train": {"a": 1}}, 'train is {"a": 1}; it must name'),
        ({"train": ["images/train", 5]}, "train is 5; it must name"),
        ({"train": "here.txt"}, "here.txt: 1 of 1 lines name no image in the data set's folder (first: line 1, '.')"),
        ({"train": "empty.txt"}, 'data.yaml: train ("empty.txt") holds no image'),
        (
            {"train": "list.txt"},
            "list.txt: 1 of 2 lines name no image in the data set's folder (first: line 2, '../sec",
        ),
    ],
)
def test_malformed_config_is_reported(root: Path, changes: dict[str, Any], problem: str) -> None:
    write_image(root.parent / "secret/a.jpg", None)  # what must not be reached from the data set
    (root / "here.txt").write_text(".\n")
    (root / "empty.txt").write_text("")
    (root / "list.txt").write_text("images/train/a.jpg\n../secret/a.jpg\n")
    configure(root, **changes)
    assert problem in problem_of(root)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("names: [person", "data.yaml: line 1, column 15: not valid YAML"),
        ("- person", "data.yaml: must be a mapping"),
        ("", "data.yaml: must be a mapping"),
        ("!!python/object/apply:os.system [ls]", "data.yaml: line 1, column 1: not valid YAML"),
        ("names: {0: person, 1: !!bool maybe}", "data.yaml: not valid YAML: a value does not match its tag"),
        ("names: {0: car, 0: person}", 'data.yaml: line 1: duplicate key "0", first given in line 1'),
        ("names: {0: car, 1: bus, +00: person}", 'data.yaml: line 1: duplicate key "0", first given in line 1'),
        ("train: !!int ''", "data.yaml: not valid YAML"),
        ("train: !!timestamp foo", "data.yaml: line 1, column 8: not valid YAML"),
        ("a: &a [x, x, x]\n" + "b: &b [" + "*a, " * 20_000 + "]", "data.yaml: holds more than 50000 values"),
        ("train: " + "x" * (1 << 20), "data.yaml: cannot be read (it is larger than 1 MiB"),
        ("\x00", "data.yaml: not valid YAML"),
    ],
)
def test_invalid_config_is_reported(root: Path, content: str, problem: str) -> None:
    (root / "data.yaml").write_text(content)
    assert problem_of(root).startswith(problem)


def test_long_values_are_truncated(root: Path) -> None:
    configure(root, train=[["images/train"] * 50_000])
    assert len(problem_of(root)) < 300


def test_missing_config_is_reported(tmp_path: Path) -> None:
    (tmp_path / "street").mkdir()
    assert problem_of(tmp_path / "street").startswith("found no data.yaml, other .yaml, obj.data, classes.txt or")


def test_boxes_refer_to_upright_images(root: Path, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: a quarter turn, so that the picture is 100 pixels wide and 200 high
    write_image(root / "images/val/c.jpg", "0 0.25 0.5 0.5 1", exif=exif)
    summary = convert(root, tmp_path / "out", progress=False)
    document = json.loads((tmp_path / "out/validation.json").read_text())
    (image,) = [image for image in document["images"] if image["file_name"] == "images/val/c.jpg"]
    assert (image["width"], image["height"]) == (100, 200)
    # x: (0.25 - 0.5 / 2) * 100, y: (0.5 - 1 / 2) * 200.
    (box,) = [record["bbox"] for record in document["annotations"] if record["image_id"] == image["id"]]
    assert box == [0, 0, 50, 200]
    assert [(note.kind, note.count) for note in summary.notes if note.kind == "images_turned_upright"] == [
        ("images_turned_upright", 1)
    ]


@pytest.mark.parametrize("name", [".ipynb_checkpoints/a-checkpoint.jpg", "._a.jpg", "@eaDir/a.jpg", "__MACOSX/a.jpg"])
def test_hidden_files_are_left_out_and_counted(name: str, root: Path, tmp_path: Path) -> None:
    before = convert(root, tmp_path / "before", progress=False)
    path = root / "images/train" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"no image")
    after = convert(root, tmp_path / "after", progress=False)
    assert after.images == before.images
    (note,) = set(after.notes) - set(before.notes)
    assert (note.kind, note.count, note.split) == ("files_hidden", 1, "train")
    assert note.examples == (f"images/train/{name}",)


def test_unusable_images_are_reported(root: Path) -> None:
    (root / "images/val/c.jpg").write_bytes(b"no image")
    assert "does not open as an image" in problem_of(root)
