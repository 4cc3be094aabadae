"""Exports in CVAT's own format, written here after its documentation; real exports were not available."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from hkd.coco.annotations import read_annotations
from hkd.coco.parsing.errors import AnnotationError
from hkd.data.sources.cvat import convert

_META = "<meta><task><labels><label><name>person</name></label><label><name>car</name></label></labels></task></meta>"
_BOX = '<box label="person" source="manual" occluded="1" xtl="10.5" ytl="20.00" xbr="50" ybr="100" z_order="0"></box>'


def _write(root: Path, *images: str, files: tuple[str, ...] = ("images/a.jpg",)) -> Path:
    root.mkdir(exist_ok=True)
    content = "\n".join(images)
    (root / "annotations.xml").write_text(
        f'<?xml version="1.0"?>\n<annotations>\n<version>1.1</version>{_META}\n{content}\n</annotations>'
    )
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (200, 120)).save(root / name)
    return root


def _image(*shapes: str, name: str = "a.jpg", more: str = "") -> str:
    content = "\n".join(shapes)
    return f'<image id="0" name="{name}" width="200" height="120" {more}>\n{content}\n</image>'


def _problems(root: Path, **options: Any) -> list[str]:
    with pytest.raises(AnnotationError) as caught:
        convert(root, root.parent / "out", progress=False, **options)
    return list(caught.value.problems)


def test_boxes_are_read(tmp_path: Path) -> None:
    attribute = '<attribute name="age">child</attribute>'
    root = _write(
        tmp_path / "export", _image(_BOX.replace("></box>", f">{attribute}</box>"), _BOX.replace("person", "car"))
    )
    summary = convert(root, tmp_path / "out", progress=False)
    read = read_annotations(summary.paths[0])
    assert (summary.paths[0].name, read.images[0].file_name) == ("all.json", "images/a.jpg")
    (record,) = read.coco_records()
    # From 10.5 to 50 and from 20 to 100; edges count from 0.
    assert (record["bbox"], record["occluded"]) == ([10.5, 20, 39.5, 80], 1)
    assert [(note.kind, note.count) for note in summary.notes] == [("boxes_of_other_categories", 1)]


@pytest.mark.parametrize(
    ("shape", "box"),
    [
        ('<polygon label="person" points="10.00,20.00;60,25;30,90"/>', [10, 20, 50, 70]),
        ('<mask label="person" rle="1, 2" left="10" top="20" width="30" height="40"/>', [10, 20, 30, 40]),
        ('<ellipse label="person" cx="50" cy="60" rx="20" ry="40"/>', [30, 20, 40, 80]),
        ('<ellipse label="person" cx="100" cy="60" rx="20" ry="40" rotation="90"/>', [60, 40, 80, 40]),
        # A quarter turn of 40 x 80 around (50, 60); half of a right angle makes a square of the diagonal's projection.
        ('<box label="person" xtl="30" ytl="20" xbr="70" ybr="100" rotation="90"/>', [10, 40, 80, 40]),
        (
            '<box label="person" xtl="80" ytl="40" xbr="120" ybr="80" rotation="45"/>',
            [100 - 20 * math.sqrt(2), 60 - 20 * math.sqrt(2), 40 * math.sqrt(2), 40 * math.sqrt(2)],
        ),
    ],
)
def test_other_shapes_are_read_as_their_bounding_boxes(tmp_path: Path, shape: str, box: list[float]) -> None:
    summary = convert(_write(tmp_path / "export", _image(shape)), tmp_path / "out", progress=False)
    assert read_annotations(summary.paths[0]).annotated.boxes_xywh.tolist() == [pytest.approx(box)]
    assert [(note.kind, note.count) for note in summary.notes] == [("boxes_from_polygons", 1)]


def test_shapes_without_a_box_are_left_out_and_counted(tmp_path: Path) -> None:
    shapes = ['<points label="person" points="1,2"/>', '<polyline label="person" points="1,2;3,4"/>', _BOX]
    summary = convert(_write(tmp_path / "export", _image(*shapes)), tmp_path / "out", progress=False)
    assert summary.boxes == 1
    assert [(note.kind, note.count) for note in summary.notes] == [("boxes_of_other_shapes", 2)]


def test_subsets_of_a_project_are_splits(tmp_path: Path) -> None:
    images = [_image(_BOX, more='subset="train"'), _image(_BOX, name="b.jpg", more='subset="Validation"')]
    root = _write(tmp_path / "export", *images, files=("images/train/a.jpg", "images/b.jpg"))
    summary = convert(root, tmp_path / "out", progress=False)
    assert [path.name for path in summary.paths] == ["train.json", "validation.json"]
    assert convert(root, tmp_path / "out2", chosen_splits=["validation"], progress=False).images == 1


def test_missing_images_are_counted_and_can_be_left_out(tmp_path: Path) -> None:
    root = _write(tmp_path / "export", _image(_BOX), _image(_BOX, name="gone.jpg"))
    (problem,) = _problems(root)
    assert all(fact in problem for fact in ("all: 1 of its 2 images", "'gone.jpg'"))
    assert "--skip-missing" in problem
    summary = convert(root, tmp_path / "out", skip_missing=True, progress=False)
    assert (summary.images, summary.boxes) == (1, 1)


def test_all_mistakes_are_reported_with_their_lines(tmp_path: Path) -> None:
    shapes = [
        '<box label="person" xtl="50" ytl="20" xbr="10" ybr="100"/>',
        '<box label="" xtl="10" ytl="20" xbr="50" ybr="100"/>',
        '<box label="person" xtl="10" ytl="nan" xbr="50" ybr="100"/>',
        '<polygon label="person" points="10;20"/>',
        '<heart label="person"/>',
    ]
    root = _write(tmp_path / "export", _image(*shapes), '<image id="1" name="b.jpg" width="200"/>')
    # The image starts in line 4, its first shape in line 5.
    assert [problem.partition(":")[0] for problem in _problems(root)] == [
        f"annotations.xml, line {line}" for line in (5, 6, 7, 8, 9, 11)
    ]


@pytest.mark.parametrize(
    ("content", "fact"),
    [
        ('<annotations><track id="0"/></annotations>', "MOT 1.1"),
        ("<annotations/>", "has no <image>"),
        ("<annotation><image/></annotation>", "has no <image> in <annotations>"),
        ("<annotations>", "not valid XML"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><annotations/>', "document type"),
    ],
)
def test_other_files_are_reported(tmp_path: Path, content: str, fact: str) -> None:
    (tmp_path / "annotations.xml").write_text(content)
    (problem,) = _problems(tmp_path)
    assert problem.startswith("annotations.xml: ")
    assert fact in problem


def test_missing_file_is_reported(tmp_path: Path) -> None:
    assert _problems(tmp_path) == [
        "found no annotations.xml; name the folder of the export, which holds it and the images"
    ]
