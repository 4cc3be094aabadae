"""The Penn-Fudan converter."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hkd.coco.annotations import read_annotations
from hkd.coco.parsing.errors import AnnotationError
from hkd.data.sources.pennfudan import convert

_TEXT = """# Compatible with PASCAL Annotation Version 1.00
Image filename : "PennFudanPed/PNGImages/{name}.png"
Image size (X x Y x C) : 40 x 30 x 3
Database : "The Penn-Fudan-Pedestrian Database"
Objects with ground truth : 2 {{ "PASpersonWalking" "PASpersonStanding" }}
# Details for pedestrian 1 ("PASpersonWalking")
Original label for object 1 "PASpersonWalking" : "PennFudanPed"
Bounding box for object 1 "PASpersonWalking" (Xmin, Ymin) - (Xmax, Ymax) : (1, 1) - (10, 20)

Bounding box for object 2 "PASpersonStanding" (Xmin, Ymin) - (Xmax, Ymax) : (31, 6) - (40, 30)
"""


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Three images of 40 x 30 pixels (width x height) with two people each."""
    root = tmp_path / "pennfudan"
    (root / "Annotation").mkdir(parents=True)
    (root / "PNGImages").mkdir()
    for number in range(3):
        name = f"Ped{number}"
        (root / "Annotation" / f"{name}.txt").write_text(_TEXT.format(name=name))
        Image.new("RGB", (40, 30)).save(root / "PNGImages" / f"{name}.png")
    return root


def test_corners_become_boxes(database: Path, tmp_path: Path) -> None:
    summary = convert(database, tmp_path / "out", train_images=2, progress=False)
    assert summary.paths == (tmp_path / "out" / "train.json", tmp_path / "out" / "validation.json")
    assert (summary.images, summary.boxes, summary.ignored, summary.changes) == (3, 6, 0, ())
    assert str(summary).splitlines()[0] == "3 images, 6 boxes, 0 of them ignored"
    train, validation = (read_annotations(path) for path in summary.paths)
    assert len(train.images) == 2
    assert len(validation.images) == 1
    # Columns 1..10 and rows 1..20, counted from 1, are all of [0, 10) x [0, 20); columns 31..40 reach the edge at 40.
    assert train.boxes_of(1).tolist() == [[0, 0, 10, 20], [30, 5, 10, 25]]
    assert train.heights.tolist() == [20, 25, 20, 25]
    assert train.visibilities.tolist() == [1] * 4
    assert not train.ignore.any()


def test_split_is_determined_by_seed_and_complete(database: Path, tmp_path: Path) -> None:
    def split(seed: int) -> tuple[frozenset[int], frozenset[int]]:
        summary = convert(database, tmp_path / "out", seed=seed, train_images=2, progress=False)
        train, validation = (read_annotations(path).images for path in summary.paths)
        return frozenset(i.image_id for i in train), frozenset(i.image_id for i in validation)

    splits = [split(seed) for seed in range(8)]
    assert splits == [split(seed) for seed in range(8)]
    assert all(train | validation == {1, 2, 3} and not train & validation for train, validation in splits)
    assert len(set(splits)) > 1


def test_image_root_is_relative(database: Path, tmp_path: Path) -> None:
    convert(database, tmp_path / "out", train_images=2, progress=False)
    (tmp_path / "moved").mkdir()
    database.rename(tmp_path / "moved" / "pennfudan")
    (tmp_path / "out").rename(tmp_path / "moved" / "out")
    assert len(read_annotations(tmp_path / "moved" / "out" / "train.json").images) == 2


def test_crlf_and_latin1_are_read(database: Path, tmp_path: Path) -> None:
    path = database / "Annotation" / "Ped0.txt"
    path.write_bytes(b"# caf\xe9\r\n" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert convert(database, tmp_path / "out", train_images=2, progress=False).boxes == 6


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (
            "(1, 1) - (10, 20)",
            "(1, 1) - (10, )",
            r"Annotation/Ped1.txt, line 8: found 'Bounding box .*'; expected as in",
        ),
        ("(1, 1) - (10, 20)", "(nan, 1) - (10, 20)", r"Ped1.txt, line 8: found 'Bounding box .*'; expected as in"),
        (
            "(1, 1) - (10, 20)",
            "(1, 1) - (-10, 20)",
            r"line 8: box \(1, 1\) - \(-10, 20\) is empty or outside the 40 x 30",
        ),
        (
            "(1, 1) - (10, 20)",
            "(-9, 1) - (0, 20)",
            r"line 8: box \(-9, 1\) - \(0, 20\) is empty or outside the 40 x 30",
        ),
        (
            "(1, 1) - (10, 20)",
            "(11, 1) - (10, 20)",
            r"line 8: box \(11, 1\) - \(10, 20\) is empty or outside the 40 x 30",
        ),
        (
            "(1, 1) - (10, 20)",
            "(41, 1) - (50, 20)",
            r"line 8: box \(41, 1\) - \(50, 20\) is empty or outside the 40 x 30",
        ),
        ("40 x 30 x 3", "40 x thirty", r"line 3: found 'Image size .*'; expected as in: Image size \(X x Y x C\)"),
        ("40 x 30", "40 x 0", r"Ped1.txt, line 3: an image of 40 x 0 pixels; each must be at least 1"),
        ("40 x 30", "40 x " + "9" * 5000, r"Ped1.txt, line 3: found 'Image size .{99,120}; expected as in"),
        ("truth : 2", "truth : 1" + "0" * 9, r"Ped1.txt, line 5: found 'Objects .*; expected as in"),
        ("Image size", "Size", r"Ped1.txt has 0 lines 'Image size'; expected one"),
        ("truth : 2", "truth : 3", r"line 5: 3 objects announced, 2 boxes found; perhaps the file is truncated"),
        ("PNGImages/Ped1.png", "PNGImages/..", r"\"file_name\" must be relative to the image root, .* \"..\""),
        ("40 x 30", "41 x 30", r"Ped1.png' is 40 x 30 pixels \(width x height\), but annotated as 41 x 30"),
    ],
)
def test_malformed_file_is_reported(database: Path, tmp_path: Path, old: str, new: str, problem: str) -> None:
    path = database / "Annotation" / "Ped1.txt"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(AnnotationError) as caught:
        convert(database, tmp_path / "out", train_images=2, progress=False)
    (sentence,) = caught.value.problems
    assert re.search(problem, sentence)
    assert not (tmp_path / "out").exists()


def test_problems_of_all_files_are_reported_together(database: Path, tmp_path: Path) -> None:
    for path in (database / "Annotation").iterdir():
        path.write_text("")
    with pytest.raises(AnnotationError) as caught:
        convert(database, tmp_path / "out", progress=False)
    assert len(caught.value.problems) == 9  # three needed lines in each of three files


def test_missing_files_are_reported(database: Path, tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=r"found no Annotation/\*.txt"):
        convert(tmp_path / "nowhere", tmp_path / "out", progress=False)
    with pytest.raises(AnnotationError, match="train_images is 3; .*from 1 to 2"):
        convert(database, tmp_path / "out", train_images=3, progress=False)
    (database / "PNGImages" / "Ped2.png").unlink()
    with pytest.raises(AnnotationError, match=r"Ped2.png': there is no such file"):
        convert(database, tmp_path / "out", train_images=2, progress=False)


def test_real_database_is_converted(shared_data: Path, tmp_path: Path) -> None:
    root = shared_data / "pennfudan"
    if not root.is_dir():
        pytest.skip(f"no Penn-Fudan database at {root}")
    summary = convert(root, tmp_path, progress=False)
    # Its readme: 170 images, 345 people labelled first, 78 added later.
    assert (summary.images, summary.boxes, summary.ignored, summary.changes) == (170, 423, 0, ())
    train, validation = (read_annotations(path) for path in summary.paths)
    assert (len(train.images), len(validation.images)) == (120, 50)
    # The first file's first person, as written there: (160, 182) - (302, 431).
    first = next(part for part in (train, validation) if part.images[0].file_name == "FudanPed00001.png")
    assert first.boxes_of(0)[0].tolist() == [159, 181, 143, 250]
    # The median of Ymax - Ymin is 286; both rows belong to the box.
    assert np.median(np.concatenate([train.heights, validation.heights])) == 286 + 1


def test_hidden_files_are_left_out_and_archive_folder_is_found(database: Path, tmp_path: Path) -> None:
    (database / "Annotation" / "._Ped0.txt").write_bytes(b"\0\5\x16\7")
    database.rename(tmp_path / "PennFudanPed")
    summary = convert(tmp_path, tmp_path / "out", train_images=2, progress=False)
    (note,) = summary.notes
    assert (summary.images, note.kind, note.count) == (3, "files_hidden", 1)
