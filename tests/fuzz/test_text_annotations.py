"""``hkd data`` on broken text: Penn-Fudan, INRIA, YOLO with data.yaml, VOC, CVAT, MOT, Caltech's new annotations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.fuzz.breaking import broken_text
from tests.fuzz.plain_labelling_readers import plain_cvat, plain_mot, plain_voc, plain_yolo_labels, plain_yolo_places
from tests.fuzz.plain_readers import (
    Found,
    plain_bbgt,
    plain_inria,
    plain_kaist_text,
    plain_kaist_xml,
    plain_pennfudan,
)
from tests.fuzz.running import Outcome, Tally, check_conversion, fuzz

pytestmark = pytest.mark.thorough

PEOPLE = """\
# Compatible with PASCAL Annotation Version 1.00
Image filename : "PennFudanPed/PNGImages/{name}.png"
Image size (X x Y x C) : 200 x 120 x 3
Objects with ground truth : 2 {{ "PASpersonWalking" "PASpersonStanding" }}
# Details for pedestrian 1 ("PASpersonWalking")
Bounding box for object 1 "PASpersonWalking" (Xmin, Ymin) - (Xmax, Ymax) : (11, 21) - (50, 100)

Bounding box for object 2 "PASpersonStanding" (Xmin, Ymin) - (Xmax, Ymax) : (131, 6) - (180, 110)
"""
UPRIGHT = """\
# PASCAL Annotation Version 1.00

Image filename : "Train/pos/{name}.png"
Image size (X x Y x C) : 200 x 120 x 3
Database : "The INRIA Rhône-Alpes Annotated Person Database"
Objects with ground truth : 2 {{ "PASperson" "PASperson" }}

# Top left pixel co-ordinates : (0, 0)

# Details for object 1 ("PASperson")
Bounding box for object 1 "PASperson" (Xmin, Ymin) - (Xmax, Ymax) : (10, 20) - (49, 99)

# Details for object 2 ("PASperson")
Bounding box for object 2 "PASperson" (Xmin, Ymin) - (Xmax, Ymax) : (-3, 5) - (179, 109)
"""
LABELS = "0 0.5 0.4 0.3 0.6\n1 0.3 0.7 0.4 0.2\n0 0.125 0.25 0.125 0.25\n0 0.1 0.2 0.3 0.25 0.2 0.5\n"
CONFIG = """\
path: street
train: images/train
val: val.txt
names: {0: person, 1: bicycle}
"""
OBJECTS = """\
% bbGt version=3
person 10 20 30 60 0 0 0 0 0 0 0
person 110 20 30.5 60 1 110 20 30.5 30 0 0
people 210 20 90 60 0 0 0 0 0 1 0
"""
VOC = """\
<?xml version="1.0"?>
<annotation>
 <filename>a.jpg</filename>
 <size><width>200</width><height>120</height><depth>3</depth></size>
 <object><name>person</name><difficult>0</difficult>
  <bndbox><xmin>11</xmin><ymin>21</ymin><xmax>50</xmax><ymax>100</ymax></bndbox></object>
 <object><name>car</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>20</xmax><ymax>30</ymax></bndbox></object>
 <object><name>person</name><difficult>1</difficult>
  <bndbox><xmin>101.5</xmin><ymin>6</ymin><xmax>180</xmax><ymax>110</ymax></bndbox></object>
</annotation>
"""
CVAT = """\
<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version>
 <image id="0" name="a.png" width="200" height="120">
  <box label="person" occluded="0" xtl="10.50" ytl="20.00" xbr="50.00" ybr="100.00" z_order="0"></box>
  <box label="car" occluded="0" xtl="1" ytl="1" xbr="20" ybr="30"/>
  <polygon label="ignore" points="100.0,10.0;150.0,10.0;150.0,90.0"/>
 </image>
 <image id="1" name="b.png" width="200" height="120">
 </image>
</annotations>
"""
TRACKS = """\
1,1,11,21,40,60,1,1,0.75
1,2,101,21,40,60,0,1,0.5
2,1,12,21,40,60,1,1,1
2,3,1,1,50,50,1,7,1
2,4,61,1,50,50,1,3,1
3,5,151.5,51,20,40,1,12,0.25
"""


FRAME = """\
<annotation><size><width>640</width><height>512</height></size>
<object><name>person</name><bndbox><x>476</x><y>224</y><w>18</w><h>60</h></bndbox>
<difficult>0</difficult><occlusion>1</occlusion></object>
<object><name>people</name><bndbox><xmin>76</xmin><ymin>24</ymin><xmax>176</xmax><ymax>84</ymax></bndbox>
<difficult>0</difficult><occlusion>0</occlusion></object>
</annotation>
"""
LEVELS = """\
% bbGt version=3
person 10 20 30 60 2 0 0 0 0 0 0
person? 110 20 30 60 1 0 0 0 0 0 0
"""


def _picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (200, 120)).save(path)


def _some_of_each(tally: Tally) -> None:
    assert tally.refused > len(tally.contents) // 4
    assert tally.read >= 3


def test_mutated_pennfudan_annotations(tmp_path: Path) -> None:
    root = tmp_path / "pennfudan"
    (root / "Annotation").mkdir(parents=True)
    for name in ("Ped1", "Ped2"):
        _picture(root / "PNGImages" / f"{name}.png")
        (root / "Annotation" / f"{name}.txt").write_text(PEOPLE.format(name=name))
    file = root / "Annotation" / "Ped1.txt"

    def check(content: bytes) -> Outcome:
        return check_conversion(
            *(root, file, content, ("pennfudan", "--train-images", "1"), with_other, r"line \d|has \d+ lines|image \d")
        )

    def with_other(content: bytes) -> Found:
        images, boxes = plain_pennfudan(content)
        other_images, other_boxes = plain_pennfudan(PEOPLE.format(name="Ped2").encode())
        return [*images, *other_images], [*boxes, *other_boxes]

    _some_of_each(fuzz(broken_text(file.read_bytes()), check, 100))


def test_mutated_inria_annotations(tmp_path: Path) -> None:
    root = tmp_path / "INRIAPerson"
    (root / "Train" / "annotations").mkdir(parents=True)
    for name in ("person_280", "person_281"):
        _picture(root / "Train" / "pos" / f"{name}.png")
        file = root / "Train" / "annotations" / f"{name}.txt"
        file.write_text(UPRIGHT.format(name=name), encoding="latin-1")
    file = root / "Train" / "annotations" / "person_280.txt"

    def check(content: bytes) -> Outcome:
        record = r"line \d|has \d+ lines|image \d|--skip-missing|co-ordinates"
        return check_conversion(root, file, content, ("inria",), with_other, record, "person_28")

    def with_other(content: bytes) -> Found:
        images, boxes = plain_inria(content)
        other_images, other_boxes = plain_inria(UPRIGHT.format(name="person_281").encode("latin-1"))
        return [*images, *other_images], [*boxes, *other_boxes]

    _some_of_each(fuzz(broken_text(file.read_bytes()), check, 100))


def _street(tmp_path: Path) -> Path:
    root = tmp_path / "street"
    for name in ("train/a", "val/b"):
        _picture(root / "images" / f"{name}.jpg")
        (root / "labels" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "labels" / f"{name}.txt").write_text(LABELS)
    (root / "val.txt").write_text("./images/val/b.jpg\n")
    (root / "data.yaml").write_text(CONFIG)
    return root


def test_mutated_yolo_labels(tmp_path: Path) -> None:
    root = _street(tmp_path)
    file = root / "labels" / "train" / "a.txt"

    def check(content: bytes) -> Outcome:
        outcome = check_conversion(root, file, content, ("yolo",), plain_yolo_labels(LABELS.encode()), r"line \d")
        lines = [line for line in content.split(b"\n") if line.strip()]
        assert outcome.code != 0 or len(set(lines)) == len(lines) or "dropped" in outcome.out
        return outcome

    _some_of_each(fuzz(broken_text(LABELS.encode()), check, 100))


def test_mutated_yolo_data_yaml(tmp_path: Path) -> None:
    """A lost class or split is an error, or is absent from the result."""
    root = _street(tmp_path)
    file = root / "data.yaml"

    def check(content: bytes) -> Outcome:
        return check_conversion(root, file, content, ("yolo",), plain_yolo_places(LABELS.encode()), "", ".yaml")

    _some_of_each(fuzz(broken_text(CONFIG.encode()), check, 90))


def test_mutated_yolo_image_list(tmp_path: Path) -> None:
    root = _street(tmp_path)
    file = root / "val.txt"

    def check(content: bytes) -> Outcome:
        expected = plain_yolo_labels(LABELS.encode())
        return check_conversion(
            root,
            file,
            content,
            ("yolo", "--split", "train", "--split", "validation"),
            lambda _: expected(LABELS.encode()),
            r"line \d|holds no image|data.yaml",
        )

    tally = fuzz(broken_text(file.read_bytes()), check, 30)
    assert tally.refused > len(tally.contents) // 2


def test_mutated_new_caltech_text(tmp_path: Path) -> None:
    root = tmp_path / "caltech"
    root.mkdir()
    file = root / "set06_V000_I00029.txt"
    file.write_text(OBJECTS)

    def check(content: bytes) -> Outcome:
        command = ("caltech", "--annotations-only", "--annotations", "new")
        return check_conversion(root, file, content, command, plain_bbgt, r"line \d|UTF-8")

    _some_of_each(fuzz(broken_text(OBJECTS.encode()), check, 100))


@pytest.mark.parametrize(
    ("name", "valid", "expected"),
    [
        ("set06/V000/I00019.xml", FRAME, plain_kaist_xml),
        ("set06_V000_I00019.txt", LEVELS, plain_kaist_text),
    ],
)
def test_mutated_kaist_frames(tmp_path: Path, name: str, valid: str, expected: Any) -> None:
    root = tmp_path / "kaist"
    file = root / name
    file.parent.mkdir(parents=True)
    file.write_text(valid)

    def check(content: bytes) -> Outcome:
        # A text that does not start with '%' is no annotation, so that none is found.
        record = r"line \d|UTF-8|its (size|root) is|encoding|found no annotations"
        return check_conversion(root, file, content, ("kaist", "--annotations-only"), expected, record, "kaist")

    _some_of_each(fuzz(broken_text(valid.encode()), check, 100))


def test_mutated_voc_xml(tmp_path: Path) -> None:
    root = tmp_path / "voc"
    _picture(root / "a.jpg")
    file = root / "a.xml"
    file.write_text(VOC)

    def check(content: bytes) -> Outcome:
        command = ("voc", "--corners", "pixels", "--person", "person")
        return check_conversion(
            root, file, content, command, plain_voc, r"line \d|XML|encoding|<\w+>|image|classes|width|height"
        )

    _some_of_each(fuzz(broken_text(VOC.encode()), check, 100))


def test_mutated_cvat_xml(tmp_path: Path) -> None:
    root = tmp_path / "cvat"
    for name in ("a.png", "b.png"):
        _picture(root / "images" / name)
    file = root / "annotations.xml"
    file.write_text(CVAT)

    def check(content: bytes) -> Outcome:
        record = r"line \d|<image>|encoding|classes|were not found|image \d|ends of their paths|--skip-missing"
        return check_conversion(root, file, content, ("cvat", "--person", "person"), plain_cvat, record)

    _some_of_each(fuzz(broken_text(CVAT.encode()), check, 100))


def test_mutated_mot_text(tmp_path: Path) -> None:
    root = tmp_path / "mot"
    for number in (1, 2, 3):
        _picture(root / "MOT17-02" / "img1" / f"{number:06d}.jpg")
    file = root / "MOT17-02" / "gt" / "gt.txt"
    file.parent.mkdir()
    file.write_text(TRACKS)

    def check(content: bytes) -> Outcome:
        return check_conversion(root, file, content, ("mot",), plain_mot, r"line \d|UTF-8")

    _some_of_each(fuzz(broken_text(TRACKS.encode()), check, 100))
