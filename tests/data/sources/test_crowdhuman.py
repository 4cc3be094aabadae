"""The CrowdHuman converter, on files that follow crowdhuman.org/download.html; the real files were not available."""

from __future__ import annotations

import gzip
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import ExifTags, Image

from hkd.bounded_files import read_bounded
from hkd.coco.annotations import read_annotations
from hkd.coco.parsing.errors import AnnotationError
from hkd.data.sources import crowdhuman
from hkd.data.sources.crowdhuman import convert


def _person(**changes: Any) -> dict[str, Any]:
    """A box as the documentation's format has it; the upper half of the body is seen."""
    return {
        "fbox": [10, 20, 40, 100],
        "tag": "person",
        "hbox": [22, 22, 15, 18],
        "extra": {"box_id": 0, "occ": 1},
        "vbox": [10, 20, 40, 50],
        "head_attr": {"ignore": 0, "occ": 0, "unsure": 0},
        **changes,
    }


_TRAIN: list[dict[str, Any]] = [
    {
        "ID": "273271,c9db000d5146c15",
        "gtboxes": [
            _person(),
            _person(fbox=[-30, 20, 50, 120], vbox=[0, 20, 20, 120], extra={"box_id": 1, "occ": 0}),
            _person(tag="mask", extra={"box_id": 2, "ignore": 1}, head_attr={}),
            _person(extra={"box_id": 3, "occ": 1, "ignore": 1}),
            _person(extra={}),
        ],
    },
    {"ID": "273278,1a2b", "gtboxes": []},
]
_VALIDATION: list[dict[str, Any]] = [{"ID": "282555,5d", "gtboxes": [_person()]}]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    root = tmp_path / "CrowdHuman"
    (root / "Images").mkdir(parents=True)
    for file, records in (("annotation_train.odgt", _TRAIN), ("annotation_val.odgt", _VALIDATION)):
        (root / file).write_text("".join(f"{json.dumps(record)}\n" for record in records))
        for record in records:
            Image.new("RGB", (200, 150)).save(root / "Images" / f"{record['ID']}.jpg")
    return root


def _convert_one(database: Path, box: Any) -> list[dict[str, Any]]:
    """The records of a training set of one box."""
    (database / "annotation_train.odgt").write_text(json.dumps({"ID": "273278,1a2b", "gtboxes": [box]}))
    summary = convert(database, database.parent / "out", progress=False)
    records: list[dict[str, Any]] = json.loads(summary.paths[0].read_text())["annotations"]
    return records


def test_boxes_and_images_are_read(database: Path, tmp_path: Path) -> None:
    summary = convert(database, tmp_path / "out", progress=False)
    assert [path.name for path in summary.paths] == ["train.json", "validation.json"]
    assert (summary.images, summary.boxes, summary.ignored) == (3, 6, 2)
    assert summary.ignored_by_label == {"mask": 1, "ignore": 1}
    (clipped,) = summary.changes
    assert clipped.startswith("train: clipped 1 of 5 boxes that reach outside their image, by up to 30 pixels")
    train = read_annotations(summary.paths[0])  # every image is at the path in the file
    assert [(image.file_name, image.width, image.height) for image in train.images] == [
        ("Images/273271,c9db000d5146c15.jpg", 200, 150),
        ("Images/273278,1a2b.jpg", 200, 150),
    ]
    assert [record["bbox"] for record in train.coco_records()] == [[10, 20, 40, 100], [-30, 20, 50, 120]] + [
        [10, 20, 40, 100]
    ] * 3
    # 40 x 50 of 40 x 100; 20 x 120 of 50 x 120.
    assert train.visibilities.tolist() == [0.5, 0.4, 0.5, 0.5, 0.5]
    assert train.coco_records()[1]["vis_bbox"] == [0, 20, 20, 120]
    assert train.heights.tolist() == [100, 120, 100, 100, 100]
    assert train.ignore.tolist() == [False, False, True, True, False]
    assert [record.get("label") for record in train.coco_records()] == [None, None, "mask", "ignore", None]
    assert [record.get("occluded") for record in train.coco_records()] == [1, 0, None, 1, None]
    assert json.loads(summary.paths[0].read_text())["annotations"][0]["head_bbox"] == [22, 22, 15, 18]


def test_one_odgt_file_suffices(database: Path, tmp_path: Path) -> None:
    (database / "annotation_train.odgt").unlink()
    summary = convert(database, tmp_path / "out", progress=False)
    assert [path.name for path in summary.paths] == ["validation.json"]


def test_missing_final_newline_and_crlf_are_accepted(database: Path, tmp_path: Path) -> None:
    path = database / "annotation_train.odgt"
    path.write_bytes(path.read_bytes().rstrip().replace(b"\n", b"\r\n"))
    assert convert(database, tmp_path / "out", progress=False).boxes == 6


@pytest.mark.parametrize(
    ("box", "change"),
    [
        ([10, 20, 0, 100], "train: dropped 1 of 1 boxes, without area (first: image 'Images/273278,1a2b.jpg'"),
        ([200, 20, 40, 100], "train: dropped 1 of 1 boxes, completely outside their image (first: image 'Images/2"),
    ],
)
def test_invisible_boxes_are_dropped(database: Path, tmp_path: Path, box: list[int], change: str) -> None:
    (database / "annotation_val.odgt").unlink()
    (database / "annotation_train.odgt").write_text(json.dumps({"ID": "273278,1a2b", "gtboxes": [_person(fbox=box)]}))
    summary = convert(database, tmp_path / "out", progress=False)
    assert summary.boxes == 0
    assert summary.changes[0].startswith(change)


def test_visible_box_of_negative_size_becomes_empty(database: Path) -> None:
    (record,) = _convert_one(database, _person(vbox=[10, 20, -1, 50]))
    assert (record["vis_bbox"], record["vis_ratio"]) == ([10, 20, 0, 50], 0)
    summary = convert(database, database.parent / "out", progress=False)
    (change,) = summary.changes
    assert change.startswith("train: treated 1 visible boxes of negative size as empty (first: annotation_train.odgt,")
    assert change.endswith("line 1, gtboxes[0], vbox [10.0, 20.0, -1.0, 50.0])")


def test_file_without_lines_is_reported(database: Path, tmp_path: Path) -> None:
    (database / "annotation_val.odgt").write_text("\n")
    with pytest.raises(AnnotationError, match="annotation_val.odgt: holds no image; each line must be an object of"):
        convert(database, tmp_path / "out", progress=False)


def test_compressed_file_is_reported_once(database: Path, tmp_path: Path) -> None:
    path = database / "annotation_val.odgt"
    path.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(AnnotationError, match="annotation_val.odgt: is a compressed archive; extract it") as caught:
        convert(database, tmp_path / "out", progress=False)
    assert len(caught.value.problems) == 1


def test_mask_is_ignored(database: Path) -> None:
    (record,) = _convert_one(database, _person(tag="mask", extra={"ignore": 0}))
    assert (record["ignore"], record["label"]) == (1, "mask")


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"ID": "a", "gtboxes": [', r"^annotation_train.odgt, line 2: column 25: not valid JSON .*; it ends before"),
        ("\xff", r"line 2: .*not valid JSON"),
        ("[" * 100_000, r"line 2: not valid JSON \(RecursionError"),
        ("[]", r'line 2: must be an object with a text "ID" and a list "gtboxes"'),
        ('{"ID": 5, "gtboxes": []}', r'must be an object with a text "ID"'),
        ('{"ID": "a"}', r'and a list "gtboxes"'),
        ('{"ID": "../a", "gtboxes": []}', r'ID "../a" must be the name of an image'),
        ('{"ID": "", "gtboxes": []}', r'ID "" must be the name of an image'),
        ('{"ID": "273271,c9db000d5146c15", "gtboxes": []}', r"duplicate ID '273271,c9db000d5146c15', first in line 1"),
        ('{"ID": "C:/a", "gtboxes": []}', r'ID "C:/a" must be the name of an image'),
        ('{"ID": "a\\u0000", "gtboxes": []}', r"must be the name of an image"),
    ],
)
def test_malformed_line_is_reported(database: Path, tmp_path: Path, line: str, problem: str) -> None:
    path = database / "annotation_train.odgt"
    first = path.read_bytes().split(b"\n")[0]
    path.write_bytes(first + b"\n" + line.encode("latin-1") + b"\n")
    with pytest.raises(AnnotationError) as caught:
        convert(database, tmp_path / "out", progress=False)
    (sentence,) = caught.value.problems
    assert re.search(problem, sentence)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("box", "problem"),
    [
        (3, "gtboxes[0] is a int; it must be an object"),
        (_person(fbox=[1, 2, 3]), "gtboxes[0]: fbox is [1, 2, 3]; it must be four finite numbers"),
        (_person(fbox=[1, 2, 3, float("nan")]), "fbox is [1, 2, 3, NaN]; it must be four finite numbers"),
        (_person(vbox=None), "vbox is null; it must be four finite numbers"),
        (_person(hbox="head"), 'hbox is "head"; it must be four finite numbers'),
        (_person(tag=None), "tag is null; it must be a text"),
        (_person(extra=[]), "extra is []; it must be an object"),
        (_person(extra={"ignore": 2}), "extra.ignore is 2; it must be 0 or 1"),
        (_person(extra={"occ": "yes"}), 'extra.occ is "yes"; it must be 0 or 1'),
    ],
)
def test_malformed_box_is_reported(database: Path, box: Any, problem: str) -> None:
    with pytest.raises(AnnotationError) as caught:
        _convert_one(database, box)
    (sentence,) = caught.value.problems
    assert sentence.startswith("annotation_train.odgt, line 1, gtboxes[0]")
    assert problem in sentence


def test_all_problems_are_reported_together(database: Path, tmp_path: Path) -> None:
    for file in ("annotation_train.odgt", "annotation_val.odgt"):
        (database / file).write_text('{"ID": "a"}\n{"ID": "none", "gtboxes": [{}]}\n')
    with pytest.raises(AnnotationError) as caught:
        convert(database, tmp_path / "out", progress=False)
    assert len(caught.value.problems) == 4  # in each file: no gtboxes; a box without a tag


def test_missing_files_are_reported(database: Path, tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=r"found none of annotation_train.odgt, annotation_val.odgt"):
        convert(tmp_path / "nowhere", tmp_path / "out", progress=False)
    shutil.rmtree(database / "Images")
    with pytest.raises(AnnotationError) as caught:
        convert(database, tmp_path / "out", progress=False)
    (problem,) = caught.value.problems
    assert "none of the annotated images (first: '273271,c9db000d5146c15.jpg')" in problem


@pytest.mark.parametrize(
    ("train", "validation"),
    [("CrowdHuman_train01/Images", "CrowdHuman_val/Images"), ("train", "val"), ("images/train", "images/val")],
)
def test_images_of_archives_in_several_folders_are_found(
    database: Path, tmp_path: Path, train: str, validation: str
) -> None:
    for records, folder in ((_TRAIN, train), (_VALIDATION, validation)):
        (database / folder).mkdir(parents=True)
        for record in records:
            name = f"{record['ID']}.jpg"
            (database / "Images" / name).rename(database / folder / name)
    (database / train / "._273278,1a2b.jpg").write_bytes(b"\0\5\x16\7")
    (database / "annotations").mkdir()
    (database / "annotation_val.odgt").rename(database / "annotations" / "annotation_val.odgt")
    summary = convert(database, tmp_path / "out", progress=False)
    assert [image.file_name for path in summary.paths for image in read_annotations(path).images] == [
        f"{train}/273271,c9db000d5146c15.jpg",
        f"{train}/273278,1a2b.jpg",
        f"{validation}/282555,5d.jpg",
    ]
    assert [(note.kind, note.count) for note in summary.notes if note.kind == "files_hidden"] == [("files_hidden", 1)]


@pytest.mark.parametrize("image_id", ["Images/282555,5d", "Images\\282555,5d.jpg", "282555,5d.JPG", "./282555,5d"])
def test_ids_may_have_folders_and_endings(database: Path, tmp_path: Path, image_id: str) -> None:
    (database / "annotation_val.odgt").write_text(json.dumps({"ID": image_id, "gtboxes": [_person()]}))
    summary = convert(database, tmp_path / "out", progress=False)
    assert read_annotations(summary.paths[1]).images[0].file_name == "Images/282555,5d.jpg"


def test_two_images_of_a_name_are_reported(database: Path, tmp_path: Path) -> None:
    for folder in ("train01", "train02"):
        (database / folder).mkdir()
        shutil.copy(database / "Images" / "273278,1a2b.jpg", database / folder)
    (database / "Images" / "273278,1a2b.jpg").unlink()
    with pytest.raises(AnnotationError, match=r"odgt, line 2: there are several images: 'train01/.*', 'train02/"):
        convert(database, tmp_path / "out", progress=False)


def test_missing_images_and_splits_are_left_out_and_counted(database: Path, tmp_path: Path) -> None:
    (database / "Images" / "273271,c9db000d5146c15.jpg").unlink()
    (database / "Images" / "282555,5d.jpg").unlink()
    with pytest.raises(AnnotationError, match=r"train.odgt: 1 of its 2 .*273271,c9db000d5146c15.*--skip-missing"):
        convert(database, tmp_path / "out", progress=False)
    summary = convert(database, tmp_path / "out", skip_missing=True, progress=False)
    assert [path.name for path in summary.paths] == ["train.json"]
    # The second line's image keeps its id.
    assert [(image.image_id, image.file_name) for image in read_annotations(summary.paths[0]).images] == [
        (2, "Images/273278,1a2b.jpg")
    ]
    assert [(note.kind, note.count, note.split) for note in summary.notes] == [
        ("images_missing", 1, "train"),
        ("splits_missing", 1, "validation"),
    ]


def test_byte_order_mark_and_orientation_0_are_accepted(database: Path, tmp_path: Path) -> None:
    path = database / "annotation_val.odgt"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 0
    Image.new("RGB", (200, 150)).save(database / "Images" / "282555,5d.jpg", exif=exif)
    (image,) = read_annotations(convert(database, tmp_path / "out", progress=False).paths[1]).images
    assert (image.width, image.height) == (200, 150)


def test_absent_head_and_flags_as_json_writes_them_are_accepted(database: Path) -> None:
    (record,) = _convert_one(database, _person(hbox=None, extra={"ignore": True, "occ": 1.0}))
    assert ("head_bbox" in record, record["ignore"], record["occluded"]) == (False, 1, 1)


def test_too_large_file_is_rejected(database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crowdhuman, "read_bounded", lambda path: read_bounded(path, 4))
    with pytest.raises(AnnotationError, match="annotation_val.odgt: cannot be read .it is larger than 4 bytes"):
        convert(database, tmp_path / "out", progress=False)
