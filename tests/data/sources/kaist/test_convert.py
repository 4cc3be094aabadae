"""The KAIST converter, on files as its releases and the scripts for them have them; not the real ones."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from hkd.coco.annotations import read_annotations
from hkd.coco.parsing.errors import AnnotationError
from hkd.data.sources.kaist.convert import convert
from hkd.data.sources.kaist.files import Modality
from hkd.evaluation.evaluator import evaluate_files

_HEAD = "% bbGt version=3\n"
_PERSON = "person 409 220 18 60 0 0 0 0 0 0 0\n"


def _write_text(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_HEAD + "".join(lines))
    return path


def _write_xml(path: Path, objects: Sequence[str] = (), size: str = "640 512") -> Path:
    width, height = size.split()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f"<annotation><size><width>{width}</width><height>{height}</height><depth>4</depth></size>\n"
        + "\n".join(f"<object>{one}</object>" for one in objects)
        + "\n</annotation>\n"
    )
    return path


def _box(name: str, corners: str = "<x>476</x><y>224</y><w>18</w><h>60</h>", occlusion: str = "0") -> str:
    return f"<name>{name}</name><bndbox>{corners}</bndbox><difficult>0</difficult><occlusion>{occlusion}</occlusion>"


def _write_image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (640, 512)).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The published layout: frames 0 to 3 of set00/V000 and frames 18 and 19 of set06/V000 in both modalities."""
    root = tmp_path / "kaist-cvpr15"
    objects = [_box("person"), _box("person", occlusion="1"), _box("person", occlusion="2"), _box("people")]
    for name in (*(f"set00/V000/I{frame:05d}" for frame in range(4)), "set06/V000/I00018", "set06/V000/I00019"):
        _write_xml(root / "annotations-xml-new" / f"{name}.xml", objects)
        folder, _, frame = name.rpartition("/")
        for modality in ("visible", "lwir"):
            _write_image(root / "images" / folder / modality / f"{frame}.jpg")
    return root


def test_benchmark_frames_of_published_layout_are_converted(root: Path, tmp_path: Path) -> None:
    summary = convert(root, tmp_path / "out", progress=False)
    assert [path.name for path in summary.paths] == ["train.json", "test.json"]
    # Frames 1 and 3 for training, and frame 19 for testing; four boxes each, one of them of people.
    assert (summary.images, summary.boxes, dict(summary.ignored_by_label)) == (3, 12, {"people": 3})
    train, test = map(read_annotations, summary.paths)
    assert [(image.image_id, image.file_name, image.width, image.height) for image in train.images] == [
        (1, "images/set00/V000/visible/I00001.jpg", 640, 512),
        (2, "images/set00/V000/visible/I00003.jpg", 640, 512),
    ]
    assert [image.file_name for image in test.images] == ["images/set06/V000/visible/I00019.jpg"]
    assert [
        (one["bbox"], one["vis_ratio"], one["occluded"], one["ignore"], one["label"]) for one in test.coco_records()
    ] == [
        ([476, 224, 18, 60], 1, 0, 0, "person"),
        ([476, 224, 18, 60], 0.75, 1, 0, "person"),
        ([476, 224, 18, 60], 0.25, 1, 0, "person"),
        ([476, 224, 18, 60], 1, 0, 1, "people"),
    ]
    (note,) = summary.notes
    assert (note.kind, note.count) == ("images_excluded", 3)


def test_infrared_images_are_chosen(root: Path, tmp_path: Path) -> None:
    summary = convert(root, tmp_path / "out", modality="lwir", progress=False)
    assert read_annotations(summary.paths[1]).images[0].file_name == "images/set06/V000/lwir/I00019.jpg"


@pytest.mark.parametrize("label", ["people", "person?", "cyclist", "person?a", "ignore"])
def test_other_labels_are_ignored(tmp_path: Path, label: str) -> None:
    _write_text(tmp_path / "kaist" / "set06_V000_I00019.txt", f"{label} 409 220 18 60 2 0 0 0 0 0 0\n", _PERSON)
    summary = convert(tmp_path / "kaist", tmp_path / "out", annotations_only=True, progress=False)
    assert (summary.boxes, dict(summary.ignored_by_label)) == (2, {label: 1})


def test_corners_of_the_data_sets_own_script_are_read(tmp_path: Path) -> None:
    corners = "<xmin>476.0</xmin><ymin>224.0</ymin><xmax>494.0</xmax><ymax>284.0</ymax>"
    _write_xml(tmp_path / "kaist" / "set06" / "V000" / "I00019.xml", [_box("Person", corners)])
    summary = convert(tmp_path / "kaist", tmp_path / "out", annotations_only=True, progress=False)
    (record,) = read_annotations(summary.paths[0], check_images=False).coco_records()
    # xmax is x + width there: 494 - 476.
    assert (record["bbox"], record["label"], record["ignore"]) == ([476, 224, 18, 60], "person", 0)


def test_paired_annotations_are_those_of_the_modality(tmp_path: Path) -> None:
    root = tmp_path / "paired"
    places: tuple[tuple[Modality, int], ...] = (("visible", 409), ("lwir", 411))
    for modality, x in places:
        text = f"person {x} 220 18 60 1 0 0 0 0 0 0\n"
        _write_text(root / "annotations_paired" / "set00" / "V000" / modality / "I00001.txt", text)
        summary = convert(root, tmp_path / modality, modality=modality, annotations_only=True, progress=False)
        (record,) = read_annotations(summary.paths[0], check_images=False).coco_records()
        assert (record["bbox"], record["vis_ratio"]) == ([x, 220, 18, 60], 0.75)


def test_disjoint_annotation_folders_are_read_together(tmp_path: Path) -> None:
    root = tmp_path / "kaist"
    _write_text(root / "sanitized_annotations" / "set00_V000_I00001.txt", _PERSON)
    _write_text(root / "improved" / "annotations_KAIST_test_set" / "set06_V000_I00019.txt", _PERSON)
    for name in ("visible/set00_V000_I00001", "set06_V000_I00019_visible"):
        _write_image(root / f"{name}.png")
    summary = convert(root, tmp_path / "out", progress=False)
    assert [read_annotations(path).images[0].file_name for path in summary.paths] == [
        "visible/set00_V000_I00001.png",
        "set06_V000_I00019_visible.png",
    ]


@pytest.mark.parametrize(
    "chosen", ["annotations-xml-15", "releases/annotations-xml-15", "releases/annotations-xml-15/"]
)
def test_several_annotations_of_a_frame_need_a_choice(root: Path, tmp_path: Path, chosen: str) -> None:
    _write_xml(root / "releases" / "annotations-xml-15" / "set06" / "V000" / "I00019.xml", [_box("person")])
    with pytest.raises(AnnotationError) as caught:
        convert(root, tmp_path / "out", progress=False)
    (problem,) = caught.value.problems
    assert "'annotations-xml-new' (6 frames), 'releases/annotations-xml-15' (1 frames)" in problem
    assert "--annotations" in problem
    summary = convert(root, tmp_path / "out", annotation_folders=[chosen], progress=False)
    assert (summary.images, summary.boxes) == (1, 1)
    with pytest.raises(AnnotationError, match="'none' names 0 annotation folders; found: 'annotations-xml-n"):
        convert(root, tmp_path / "out", annotation_folders=["none"], progress=False)


def test_labels_of_yolo_are_no_annotations(root: Path, tmp_path: Path) -> None:
    labels = root / "labels" / "set00" / "V000" / "visible" / "I00001.txt"
    labels.parent.mkdir(parents=True)
    labels.write_text("0 0.5 0.5 0.1 0.2\n")
    assert convert(root, tmp_path / "out", progress=False).images == 3


def test_lists_choose_frames(root: Path, tmp_path: Path) -> None:
    lists = tmp_path / "imageSets"
    lists.mkdir()
    (lists / "train.txt").write_bytes(b"\xef\xbb\xbfset00/V000/I00002\r\nset00\\V000\\visible\\I00000.jpg\r\n")
    (lists / "test.txt").write_text("\nset06_V000_I00018\nset06_V000_I00038\n")
    summary = convert(
        root, tmp_path / "out", train_list=lists / "train.txt", test_list=lists / "test.txt", progress=False
    )
    assert [image.file_name[-10:] for path in summary.paths for image in read_annotations(path).images] == [
        *("I00000.jpg", "I00002.jpg", "I00018.jpg")
    ]
    assert [(note.kind, note.count, note.split) for note in summary.notes] == [
        ("images_without_labels", 1, "test"),
        ("images_excluded", 3, None),
    ]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"set00/V000/I00001\nset00/V000\n", 'train.txt: line 2: found "set00/V000"; it must be a frame'),
        (b"set00/V000/I00001\nset00_V000_I00001\n", "line 2: the frame is in line 1 already"),
        (b"\n", "it names no frame"),
        (b"\xff\xfe\x00", "it is not UTF-8 text"),
    ],
)
def test_malformed_list_is_reported(root: Path, tmp_path: Path, content: bytes, problem: str) -> None:
    (tmp_path / "train.txt").write_bytes(content)
    with pytest.raises(AnnotationError, match=problem):
        convert(root, tmp_path / "out", train_list=tmp_path / "train.txt", progress=False)


def test_missing_images_are_left_out_and_ids_remain(root: Path, tmp_path: Path) -> None:
    (root / "images/set00/V000/visible/I00001.jpg").unlink()
    shutil.rmtree(root / "images" / "set06")
    with pytest.raises(AnnotationError, match=r"train: 1 of its 2 .*I00001.*--skip-missing"):
        convert(root, tmp_path / "out", progress=False)
    summary = convert(root, tmp_path / "out", skip_missing=True, progress=False)
    assert [image.image_id for image in read_annotations(summary.paths[0]).images] == [2]
    assert [(note.kind, note.split) for note in summary.notes if note.split] == [
        ("images_missing", "train"),
        ("splits_missing", "test"),
    ]
    shutil.rmtree(root / "images" / "set00" / "V000" / "visible")
    with pytest.raises(AnnotationError, match="none of the 3 annotated images is in"):
        convert(root, tmp_path / "other", progress=False)


def test_hidden_files_are_left_out(root: Path, tmp_path: Path) -> None:
    folder = root / "annotations-xml-new" / "set06" / "V000"
    (folder / "._I00019.xml").write_bytes(b"\0\5\x16\7")
    shutil.copytree(folder, folder.parent / ".ipynb_checkpoints" / "set06" / "V000")
    summary = convert(root, tmp_path / "out", progress=False)
    assert summary.images == 3
    assert [(note.kind, note.count) for note in summary.notes] == [("files_hidden", 4), ("images_excluded", 3)]


def test_other_folders_are_reported(root: Path, tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=r"found no annotations: setNN/VNNN/INNNNN.xml or .txt"):
        convert(root / "images", tmp_path / "out", progress=False)
    _write_text(tmp_path / "kaist" / "set00_V000_I00002.txt", _PERSON)
    with pytest.raises(AnnotationError, match=r"none of the 1 annotated frames is one in 2 of sets 00 to 05"):
        convert(tmp_path / "kaist", tmp_path / "out", annotations_only=True, progress=False)


def test_frame_annotated_twice_in_a_folder_is_reported(tmp_path: Path) -> None:
    _write_text(tmp_path / "kaist" / "set06_V000_I00019.txt", _PERSON)
    _write_text(tmp_path / "kaist" / "set06_V000_I00019.jpg.txt", _PERSON)
    with pytest.raises(AnnotationError, match=r"are the same frame; keep one"):
        convert(tmp_path / "kaist", tmp_path / "out", annotations_only=True, progress=False)


@pytest.mark.parametrize(
    ("objects", "problem"),
    [
        (["<bndbox/>"], r"I00019.xml, line 2: the object has no <name>"),
        ([_box("person"), _box("person", occlusion="3")], r"line 3: occlusion is 3; it must be 0 .none., 1 .partial"),
        ([_box("person", occlusion="x")], 'line 2: occlusion is "x"; it must be a whole number'),
        ([_box("person", "<x>4</x><y>5</y><w>6</w>")], "line 2: bndbox is x .4., y .5., w .6., h null; it must be x"),
        ([_box("person", "<x>4</x><y>5</y><w>6</w><h>nan</h>")], "h .nan.; it must be x"),
        ([_box("person", "")], "bndbox is xmin null"),
    ],
)
def test_malformed_object_is_reported(tmp_path: Path, objects: list[str], problem: str) -> None:
    _write_xml(tmp_path / "kaist" / "set06" / "V000" / "I00019.xml", objects)
    with pytest.raises(AnnotationError, match=problem) as caught:
        convert(tmp_path / "kaist", tmp_path / "out", annotations_only=True, progress=False)
    assert len(caught.value.problems) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("<annotation>", "not valid XML"),
        ("<html></html>", "its root is <html>; it must be <annotation>"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><annotation>&b;</annotation>', "has a document type"),
        (
            "<annotation><size><width>640</width><height>480</height></size></annotation>",
            "its size is .640. x .480.; KAIST's frames are 640 x 512",
        ),
    ],
)
def test_malformed_xml_is_reported(tmp_path: Path, content: str, problem: str) -> None:
    _write_xml(tmp_path / "kaist" / "set06" / "V000" / "I00019.xml").write_text(content)
    with pytest.raises(AnnotationError, match=problem):
        convert(tmp_path / "kaist", tmp_path / "out", annotations_only=True, progress=False)


def test_malformed_text_is_reported(tmp_path: Path) -> None:
    _write_text(tmp_path / "kaist" / "set06_V000_I00019.txt", "person 409 220 18 60 3 0 0 0 0 0 0\n")
    with pytest.raises(AnnotationError, match="I00019.txt, line 2: occluded is 3 and ignore 0; allowed: 0 to 2"):
        convert(tmp_path / "kaist", tmp_path / "out", annotations_only=True, progress=False)


def test_results_file_of_the_benchmark_is_evaluated(tmp_path: Path) -> None:
    # Of the first frame four persons could count in "reasonable": the second is heavily occluded, the third 54 pixels
    # high, the fourth reaches below row 507. The cyclist is ignored. Frame 2 has one person.
    _write_text(
        tmp_path / "kaist" / "set06_V000_I00019.txt",
        *("person 100 100 30 80 1 0 0 0 0 0 0\n", "person 200 100 30 80 2 0 0 0 0 0 0\n"),
        *("person 300 100 30 54 0 0 0 0 0 0 0\n", "person 400 440 30 68 0 0 0 0 0 0 0\n"),
        "cyclist 500 100 30 80 0 0 0 0 0 0 0\n",
    )
    _write_text(tmp_path / "kaist" / "set06_V000_I00039.txt", "person 100 100 30 80 0 0 0 0 0 0 0\n")
    convert(tmp_path / "kaist", tmp_path / "out", annotations_only=True, progress=False)
    # det-test-all.txt: number of the image, x, y, width, height, score. All boxes of the first frame are found; so is
    # the cyclist. In the second a false positive has the highest score of all, and the person is missed.
    (tmp_path / "det-test-all.txt").write_text(
        "1,100,100,30,80,0.9\n1,200,100,30,80,0.8\n1,300,100,30,54,0.7\n1,400,440,30,68,0.6\n1,500,100,30,80,0.5\n"
        "2,300,300,30,80,0.99\n"
    )
    result = evaluate_files(tmp_path / "out" / "test.json", tmp_path / "det-test-all.txt", "kaist")
    reasonable = result.subsets[0]
    assert reasonable.num_ground_truth == 2
    # The false positive is at 1/2 FPPI: miss rate 1 at the seven points below, then 1/2 at 0.5623 and 1.
    assert reasonable.log_average_miss_rate == pytest.approx(0.5 ** (2 / 9))


def _benchmark_json() -> dict[str, Any]:
    """As kaist_annotations_test20.json has it, with two frames."""
    common = {"image_id": 0, "category_id": 1, "bbox": [476, 224, 18, 60], "height": 60, "occlusion": 0, "ignore": 0}
    return {
        "info": {"dataset": "KAIST Multispectral Pedestrian Benchmark"},
        "info_improved": {},
        "images": [
            {"id": 0, "im_name": "set06/V000/I00019", "height": 512, "width": 640},
            {"id": 1, "im_name": "set06/V000/I00039", "height": 512, "width": 640},
        ],
        "annotations": [
            {**common, "id": 0},
            {**common, "id": 1, "occlusion": 1},
            {**common, "id": 2, "occlusion": 2, "ignore": 1},
            {**common, "id": 3, "image_id": 1, "category_id": 2},
        ],
        "categories": [{"id": 0, "name": "__ignore__"}, {"id": 1, "name": "person"}, {"id": 2, "name": "cyclist"}],
    }


def test_json_of_the_benchmark_is_read_with_its_ids(root: Path, tmp_path: Path) -> None:
    (root / "kaist_annotations_test20.json").write_text(json.dumps(_benchmark_json()))
    chosen = ["kaist_annotations_test20.json"]
    with pytest.raises(AnnotationError, match=r"'kaist_annotations_test20.json' .2 frames.; choose with --annotations"):
        convert(root, tmp_path / "out", progress=False)
    summary = convert(root, tmp_path / "out", annotation_folders=chosen, annotations_only=True, progress=False)
    read = read_annotations(summary.paths[0], check_images=False)
    assert [(image.image_id, image.file_name) for image in read.images] == [
        (0, "images/set06/V000/visible/I00019.jpg"),
        (1, "images/set06/V000/visible/I00039.jpg"),
    ]
    assert [(one["image_id"], one["vis_ratio"], one["ignore"], one["label"]) for one in read.coco_records()] == [
        (0, 1, 0, "person"),
        (0, 0.75, 0, "person"),
        (0, 0.25, 1, "person"),
        (1, 1, 1, "cyclist"),
    ]
    # The first frame's image is there, the second's is not.
    (kept,) = read_annotations(
        convert(root, tmp_path / "out", annotation_folders=chosen, skip_missing=True, progress=False).paths[0]
    ).images
    assert kept.image_id == 0


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"images": None}, 'with the lists "images", "annotations" and "categories"'),
        ({"images": [{"id": 0, "im_name": "a.jpg"}]}, '"im_name" must be the name of a frame, .* has "a.jpg"'),
        (
            {"images": [{"id": i, "im_name": "set06/V000/I00019"} for i in range(2)]},
            r'of one image, but images\[1\] .* has "set06/V000/I00019"',
        ),
        ({"annotations": [{"image_id": 7, "category_id": 1, "bbox": [1, 2, 3, 4], "occlusion": 0}]}, '"image_id" must'),
        ({"annotations": [{"image_id": 0, "category_id": 9, "bbox": [1, 2, 3, 4], "occlusion": 0}]}, '"category_id" m'),
        ({"annotations": [{"image_id": 0, "category_id": 1, "bbox": [1, 2, 3], "occlusion": 0}]}, '"bbox" must be'),
        ({"annotations": [{"image_id": 0, "category_id": 1, "bbox": [1, 2, 3, 4]}]}, '"occlusion" must be 0 .none.'),
    ],
)
def test_malformed_json_of_the_benchmark_is_reported(tmp_path: Path, changes: dict[str, Any], problem: str) -> None:
    (tmp_path / "kaist_annotations.json").write_text(json.dumps({**_benchmark_json(), **changes}))
    with pytest.raises(AnnotationError, match=problem) as caught:
        convert(tmp_path, tmp_path / "out", annotations_only=True, progress=False)
    assert all("kaist_annotations.json: " in sentence for sentence in caught.value.problems)
