"""Data sets in PASCAL VOC's format, written here as the benchmark and labelling tools write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from hkd.coco.annotations import Annotations, read_annotations
from hkd.coco.parsing.errors import AnnotationError
from hkd.data.conversion.summary import ConversionSummary
from hkd.data.sources.voc.convert import convert


def _object(name: str, corners: str, more: str = "") -> str:
    xmin, ymin, xmax, ymax = corners.split()
    # Roboflow writes xmax before ymin.
    box = f"<xmin>{xmin}</xmin><xmax>{xmax}</xmax><ymin>{ymin}</ymin><ymax>{ymax}</ymax>"
    part = "<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part>"
    return f"<object>\n<name>{name}</name>{more}<bndbox>{box}</bndbox>{part}</object>\n"


def _xml(path: Path, *objects: str, file_name: str = "", size: str = "200 100", database: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    width, height = size.split()
    path.write_text(
        f"<annotation>\n<folder>JPEGImages</folder><filename>{file_name or path.stem + '.jpg'}</filename>"
        f"<source><database>{database}</database></source><path>C:\\somewhere\\{path.stem}.jpg</path>"
        f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>\n{''.join(objects)}</annotation>"
    )


def _image(path: Path, **save: Any) -> None:
    """An image of 200 x 100 pixels (width x height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (200, 100)).save(path, **save)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "VOC2007"
    objects = {
        "000001": [_object("person", "11 21 50 100"), _object("dog", "1 1 20 20")],
        "000002": [_object("person", "1 1 200 100", "<difficult>1</difficult><occluded>1</occluded>")],
        "000003": [],
    }
    for name, members in objects.items():
        _xml(root / "Annotations" / f"{name}.xml", *members, database="The VOC2007 Database")
        _image(root / "JPEGImages" / f"{name}.jpg")
    lists = root / "ImageSets/Main"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("000001\n000003\n")
    (lists / "val.txt").write_text("000002\r\n")
    (lists / "trainval.txt").write_text("000001\n000002\n000003\n")
    (lists / "person_train.txt").write_text("000001  1\n000003 -1\n")
    return root


def _problems(root: Path, **options: Any) -> tuple[str, ...]:
    with pytest.raises(AnnotationError) as caught:
        convert(root, root.parent / "out", progress=False, **options)
    assert not (root.parent / "out").exists()
    return tuple(caught.value.problems)


def _only(summary: ConversionSummary) -> Annotations:
    (path,) = summary.paths
    return read_annotations(path)


def test_voc_benchmark_is_read(root: Path, tmp_path: Path) -> None:
    summary = convert(root, tmp_path / "out", progress=False)
    assert [path.name for path in summary.paths] == ["train.json", "validation.json"]
    train, validation = (read_annotations(path) for path in summary.paths)
    assert [image.file_name for image in train.images] == ["JPEGImages/000001.jpg", "JPEGImages/000003.jpg"]
    # Pixels 11 to 50 and 21 to 100, counted from 1: 40 x 80 pixels that start at (10, 20).
    assert train.annotated.boxes_xywh.tolist() == [[10, 20, 40, 80]]
    (difficult,) = validation.coco_records()
    assert (difficult["bbox"], difficult["ignore"], difficult["label"]) == ([0, 0, 200, 100], 1, "difficult")
    assert difficult["occluded"] == 1
    kinds = {note.kind: note.count for note in summary.notes}
    assert kinds["boxes_of_other_categories"] == 1


@pytest.mark.parametrize(
    ("corners", "database", "box"),
    [
        ("11 21 50 100", "The VOC2007 Database", [10, 20, 40, 80]),
        ("11 21 50 100", "", [10, 20, 40, 80]),
        # LabelImg and CVAT write edges from 0, and name no database.
        ("11 21 50 100", "Unknown", [11, 21, 39, 79]),
        ("0 21 50 100", "", [0, 21, 50, 79]),
        ("11.5 21 50 99.25", "", [11.5, 21, 38.5, 78.25]),
        # Roboflow's edges count from 1: 201 is the right edge of an image 200 pixels wide.
        ("11 21 201 101", "roboflow.com", [10, 20, 190, 80]),
    ],
)
def test_corners_are_read_as_the_files_show(tmp_path: Path, corners: str, database: str, box: list[float]) -> None:
    root = tmp_path / "set"
    _xml(root / "a.xml", _object("person", corners), database=database)
    _image(root / "a.jpg")
    summary = convert(root, tmp_path / "out", progress=False)
    assert _only(summary).annotated.boxes_xywh.tolist() == [box]
    assert any("--corners" in note.sentence for note in summary.notes)


@pytest.mark.parametrize(
    ("corners", "box"), [("pixels", [10, 20, 40, 80]), ("edges", [11, 21, 39, 79]), ("edges-from-1", [10, 20, 39, 79])]
)
def test_meaning_of_corners_can_be_chosen(root: Path, tmp_path: Path, corners: Any, box: list[float]) -> None:
    summary = convert(root, tmp_path / "out", corners=corners, chosen_splits=["train"], progress=False)
    assert _only(summary).annotated.boxes_xywh.tolist() == [box]


@pytest.mark.parametrize(
    ("xml", "image", "split"),
    [
        ("a.xml", "a.jpg", "all"),
        ("Annotations/a.xml", "JPEGImages/a.jpg", "all"),
        ("annotations/a.xml", "images/a.PNG", "all"),
        ("labels/a.xml", "photos/a.jpg", "all"),
        ("A.XML", "A.JPG", "all"),
        ("train/a.xml", "train/a.jpg", "train"),
        ("valid/annotations/a.xml", "valid/images/a.jpg", "validation"),
        ("annotations/b.xml", "images/a.jpg", "all"),  # the file states a.jpg
    ],
)
def test_images_are_found_in_each_layout(tmp_path: Path, xml: str, image: str, split: str) -> None:
    root = tmp_path / "set"
    _xml(root / xml, _object("person", "11 21 50 100"), file_name="a.jpg")
    _image(root / image)
    summary = convert(root, tmp_path / "out", progress=False)
    assert summary.paths[0].name == f"{split}.json"
    assert _only(summary).images[0].file_name == image


def test_name_of_the_file_counts_before_the_stated_name(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for name in ("a", "b"):
        _xml(root / f"{name}.xml", _object("person", "11 21 50 100"), file_name="a.jpg")
        _image(root / f"{name}.jpg")
    images = _only(convert(root, tmp_path / "out", progress=False)).images
    assert [image.file_name for image in images] == ["a.jpg", "b.jpg"]


def test_size_of_zero_or_swapped_is_not_used(tmp_path: Path) -> None:
    root = tmp_path / "set"
    _xml(root / "a.xml", _object("person", "11 21 50 100"), size="0 0")
    _xml(root / "b.xml", _object("person", "111 21 150 100"), size="100 200")
    for name in ("a", "b"):
        _image(root / f"{name}.jpg")
    summary = convert(root, tmp_path / "out", progress=False)
    assert [(image.width, image.height) for image in _only(summary).images] == [(200, 100)] * 2
    assert any("wrong way round" in note.sentence for note in summary.notes)


@pytest.mark.parametrize("size", ["1e400 100", "-200 100", "wide 100"])
def test_size_that_is_no_number_is_refused(tmp_path: Path, size: str) -> None:
    _xml(tmp_path / "set/a.xml", size=size)
    _image(tmp_path / "set/a.jpg")
    (problem,) = _problems(tmp_path / "set")
    assert problem.startswith("a.xml: width is ")


def test_wrong_size_is_refused_and_exif_is_named(tmp_path: Path) -> None:
    root = tmp_path / "set"
    exif = Image.Exif()
    exif[0x0112] = 6  # upright, the image is 100 x 200
    _xml(root / "a.xml", _object("person", "11 21 50 100"))
    _image(root / "a.jpg", exif=exif)
    _xml(root / "b.xml", _object("person", "11 21 50 100"), size="400 200")
    _image(root / "b.jpg")
    first, second = _problems(root)
    assert first.startswith("a.xml: ")
    assert "EXIF orientation 6" in first
    assert second.startswith("b.xml: states an image of 400 x 200 pixels")


def test_files_in_no_list_and_images_without_a_file_are_counted(root: Path, tmp_path: Path) -> None:
    _xml(root / "Annotations/000009.xml")
    _image(root / "JPEGImages/000009.jpg")
    _image(root / "JPEGImages/000010.jpg")
    _image(root / "JPEGImages/000011.jpg")
    (root / "Annotations/._000001.xml").write_bytes(b"\0\5\x16\7")
    (root / "ImageSets/Main/val.txt").write_bytes(b'\xef\xbb\xbf"000002"\n000011.jpg\n')
    summary = convert(root, tmp_path / "out", progress=False)
    found = {note.kind: (note.count, note.split) for note in summary.notes}
    assert found["files_not_listed"] == (1, None)
    assert found["images_excluded"] == (2, None)  # 000009 and 000010
    assert found["images_without_labels"] == (1, "validation")
    assert found["files_hidden"] == (1, None)
    assert summary.images == 4


def test_box_of_one_pixel_stays_and_box_without_area_is_dropped(tmp_path: Path) -> None:
    root = tmp_path / "set"
    _xml(root / "a.xml", _object("person", "11 21 11 21"))
    _image(root / "a.jpg")
    assert _only(convert(root, tmp_path / "out", progress=False)).annotated.boxes_xywh.tolist() == [[10, 20, 1, 1]]
    summary = convert(root, tmp_path / "out", corners="edges", progress=False)
    assert summary.boxes == 0
    assert any(note.kind == "boxes_without_area" for note in summary.notes)


def test_classes_can_be_chosen_and_ignored(root: Path, tmp_path: Path) -> None:
    summary = convert(root, tmp_path / "out", person_names=["dog"], ignored_names=["person"], progress=False)
    assert (summary.boxes, summary.ignored_by_label) == (3, {"person": 2})


def test_all_mistakes_are_reported_with_file_and_line(tmp_path: Path) -> None:
    root = tmp_path / "set"
    files = {
        "a": "<annotation>\n<object>\n<bndbox/></object></annotation>",
        "b": f"<annotation>\n{_object('person', '50 21 11 100')}</annotation>",
        "c": f"<annotation>\n{_object('person', '1 nan 11 100')}</annotation>",
        "d": "<annotation>\n<object><name>person</name><robndbox/></object></annotation>",
        "e": '<!DOCTYPE x [<!ENTITY y "z">]><annotation/>',
        "f": "<annotation><object>",
        "g": "<annotations/>",
        "h": f"<annotation>\n{_object('person', '1 1 9 9', '<difficult>maybe</difficult>')}</annotation>",
        "i": f"<annotation>\n{_object('person', '1 1 9 9e99')}</annotation>",
    }
    for name, content in files.items():
        (root / f"{name}.xml").parent.mkdir(exist_ok=True)
        (root / f"{name}.xml").write_text(content)
        _image(root / f"{name}.jpg")
    problems = _problems(root)
    assert [problem.partition(": ")[0] for problem in problems] == [
        "a.xml, line 2",
        "b.xml, line 2",
        "c.xml, line 2",
        "d.xml, line 2",
        "e.xml",
        "f.xml",
        "g.xml",
        "h.xml, line 2",
        "i.xml, line 2",
    ]
    assert "xmin ymin xmax ymax" in problems[1]
    assert "document type" in problems[4]


def test_unclear_files_are_reported(tmp_path: Path) -> None:
    root = tmp_path / "set"
    _xml(root / "a.xml", file_name="other")
    _xml(root / "b.xml", file_name="b")
    _image(root / "b.jpg")
    _image(root / "b.png")
    (root / "c.jpg").write_bytes(b"no image")
    _xml(root / "c.xml")
    first, second, third = _problems(root)
    assert first.startswith("a.xml: found no image of the same name")
    assert second.startswith("b.xml: 2 images may be meant (b.jpg, b.png)")
    assert third.startswith("c.xml: its image 'c.jpg'")


def test_stated_ending_decides_between_images(tmp_path: Path) -> None:
    root = tmp_path / "set"
    _xml(root / "b.xml", file_name="b.png")
    _image(root / "b.jpg")
    _image(root / "b.png")
    assert _only(convert(root, tmp_path / "out", progress=False)).images[0].file_name == "b.png"


def test_wrong_lists_are_reported(root: Path) -> None:
    (root / "ImageSets/Main/train.txt").write_text("000001\n\n000077\n000001\n")
    first, second = _problems(root)
    assert first.startswith("ImageSets/Main/train.txt, line 3: found neither an XML file nor an image of '000077'")
    assert second.startswith("ImageSets/Main/train.txt, line 4: '000001' is listed twice")


def test_folder_above_the_lists_is_reported(root: Path) -> None:
    (problem,) = _problems(root.parent)
    assert "the lists of splits are those of 'VOC2007'" in problem


def test_folder_without_files_is_reported(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    assert _problems(tmp_path / "set") == ("found no XML file; name the folder of the data set",)
