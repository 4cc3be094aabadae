"""Sequences in MOT Challenge's format, written here as the challenge and CVAT write them; the real ones were not
available."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from hkd.coco.annotations import read_annotations
from hkd.coco.parsing.errors import AnnotationError
from hkd.data.sources.mot.convert import convert

_ROWS = """\
1,1,11,21,40,60,1,1,0.75
1,2,101,21,40,60,0,1,0.5
2,1,12,21,40,60,1,1,1
2,3,1,1,50,50,1,7,1
2,4,61,1,50,50,1,3,1
3,5,151,51,20,40,1,12,0.25
"""


def _sequence(
    folder: Path, rows: str = _ROWS, frames: int = 3, name: str = "{:06d}.jpg", first: int = 1, info: str | None = ""
) -> None:
    """A sequence of frames of 200 x 100 pixels."""
    (folder / "gt").mkdir(parents=True)
    (folder / "img1").mkdir()
    (folder / "gt" / "gt.txt").write_text(rows)
    for number in range(first, first + frames):
        Image.new("L", (200, 100)).save(folder / "img1" / name.format(number))
    if info is not None:
        size = "imWidth=200\nimHeight=100\nimExt=.jpg"
        (folder / "seqinfo.ini").write_text(
            info or f"[Sequence]\nname={folder.name}\nimDir=img1\nframeRate=30\nseqLength={frames}\n{size}\n"
        )


def _problems(root: Path, **options: Any) -> list[str]:
    with pytest.raises(AnnotationError) as caught:
        convert(root, root.parent / "out", progress=False, **options)
    assert not (root.parent / "out").exists()
    return list(caught.value.problems)


def test_classes_and_flags_follow_the_evaluation_of_the_challenge(tmp_path: Path) -> None:
    root = tmp_path / "MOT17"
    _sequence(root / "train/MOT17-02-DPM")
    summary = convert(root, tmp_path / "out", progress=False)
    (path,) = summary.paths
    assert path.name == "train.json"
    read = read_annotations(path)
    assert read.images[0].file_name == "train/MOT17-02-DPM/img1/000001.jpg"
    records = read.coco_records()
    # Pixels count from 1, so that left and top are 1 less.
    assert [record["bbox"] for record in records] == [
        [10, 20, 40, 60],
        [100, 20, 40, 60],
        [11, 20, 40, 60],
        [0, 0, 50, 50],
        [150, 50, 20, 40],
    ]
    assert [(record["ignore"], record.get("label"), record["vis_ratio"]) for record in records] == [
        (0, None, 0.75),
        (1, "not considered", 0.5),
        (0, None, 1),
        (1, "static person", 1),
        (1, "reflection", 0.25),
    ]
    assert [(note.kind, note.count) for note in summary.notes] == [("boxes_of_other_categories", 1)]


def test_vehicles_without_motor_are_ignored_in_mot20_alone(tmp_path: Path) -> None:
    rows = "1,1,11,21,40,60,1,6,1\n"
    for name, ignored in (("MOT17-02", 0), ("MOT20-02", 1)):
        _sequence(tmp_path / name / name, rows, frames=1)
        assert convert(tmp_path / name, tmp_path / f"{name}-out", progress=False).ignored == ignored


def test_sequences_are_for_training_or_validation(tmp_path: Path) -> None:
    root = tmp_path / "mot"
    for name in ("A", "B", "C"):
        _sequence(root / name)
    for wanted, expected in (((), "C"), (("B",), "B")):
        summary = convert(root, tmp_path / f"out{expected}", validation_sequences=wanted, progress=False)
        train, validation = (read_annotations(path).images for path in summary.paths)
        assert {image.file_name[0] for image in validation} == {expected}
        assert {image.file_name[0] for image in train} == set("ABC") - {expected}
    (problem,) = _problems(root, validation_sequences=["D"])
    assert "there is no sequence D (--validation); there are: A, B, C" in problem
    (problem,) = _problems(root, validation_sequences=["A", "B", "C"])
    assert "all sequences are for validation" in problem


def test_each_sequence_of_mot17_is_read_once(tmp_path: Path) -> None:
    root = tmp_path / "MOT17"
    for detector in ("DPM", "FRCNN", "SDP"):
        _sequence(root / f"MOT17-02-{detector}")
    summary = convert(root, tmp_path / "out", progress=False)
    assert summary.images == 3
    (note,) = [note for note in summary.notes if note.kind == "sequences_repeated"]
    assert (note.count, note.examples) == (2, ("MOT17-02-FRCNN", "MOT17-02-SDP"))


def test_one_frame_in_many_is_used(tmp_path: Path) -> None:
    root = tmp_path / "mot"
    _sequence(root / "A")
    summary = convert(root, tmp_path / "out", every=2, progress=False)
    # The first and the third.
    assert [image.file_name[-10:] for image in read_annotations(summary.paths[0]).images] == [
        "000001.jpg",
        "000003.jpg",
    ]
    assert summary.boxes == 3
    (note,) = [note for note in summary.notes if note.kind == "images_excluded"]
    assert note.count == 1


def test_ten_columns_are_those_of_mot15(tmp_path: Path) -> None:
    _sequence(tmp_path / "mot/A", "1,1,11,21,40,60,1,-1,-1,-1\n2,1,11,21,40,60,0,4.6,-8.1,0\n", info=None)
    records = read_annotations(convert(tmp_path / "mot", tmp_path / "out", progress=False).paths[0]).coco_records()
    assert [(record["bbox"], record["ignore"]) for record in records] == [([10, 20, 40, 60], 0), ([10, 20, 40, 60], 1)]


def test_export_of_cvat_names_classes_and_counts_from_zero(tmp_path: Path) -> None:
    root = tmp_path / "export"
    rows = "1,1,0.0,20.5,40.0,60.0,1,2,1.0\n1,-1,100.0,20.0,40.0,60.0,1,1,1.0\n1,-1,50.0,20.0,9.0,9.0,1,-1,1.0\n"
    _sequence(root, rows, name="frame_{:06d}.PNG", first=0, info=None)
    (root / "gt/labels.txt").write_text("car\nperson")
    summary = convert(root, tmp_path / "out", progress=False)
    read = read_annotations(summary.paths[0])
    # Class 2 is the second label, and frame 1 is frame_000000.PNG.
    assert read.annotated.boxes_xywh.tolist() == [[0, 20.5, 40, 60]]
    assert read.images[0].file_name == "img1/frame_000000.PNG"
    assert {note.kind: note.count for note in summary.notes} == {"boxes_of_other_categories": 2}


def test_other_classes_can_be_chosen(tmp_path: Path) -> None:
    _sequence(tmp_path / "mot/A")
    summary = convert(
        *(tmp_path / "mot", tmp_path / "out"),
        person_names=["Static Person", "pedestrian"],
        ignored_names=["car"],
        progress=False,
    )
    assert summary.ignored_by_label == {"not considered": 1, "car": 1, "reflection": 1}


@pytest.mark.parametrize(
    ("line", "fact"),
    [
        ("1,1,11,21,40", "expected the numbers frame"),
        ("1,1,11,21,40,x,1,1,1", "expected the numbers frame"),
        ("1,1,11,21,40,inf,1,1,1", "expected the numbers frame"),
        ("1 1 11 21 40 60 1 1 1", "expected the numbers frame"),
        ("1.5,1,11,21,40,60,1,1,1", "must be integers"),
        ("1,1,11,21,40,60,0.83,1,1", "detections with scores"),
        ("1,1,11,21,40,60,1,14,1", "class (column 8) must be from 1 to 13"),
        ("1,1,11,21,40,60,1,1,1.5", "visibility (column 9)"),
    ],
)
def test_malformed_line_is_reported(tmp_path: Path, line: str, fact: str) -> None:
    _sequence(tmp_path / "mot/A", f"\ufeff2,1,1,1,9,9,1,1,1\n\n{line}\n")
    (problem,) = _problems(tmp_path / "mot")
    assert problem.startswith("A/gt/gt.txt, line 3: ")
    assert fact in problem


def test_lines_without_a_frame_are_reported_together(tmp_path: Path) -> None:
    _sequence(tmp_path / "mot/A", "1,1,1,1,9,9,1,1,1\n7,1,1,1,9,9,1,1,1\n8,1,1,1,9,9,1,1,1\n8,2,1,1,9,9,1,1,1\n")
    (problem,) = _problems(tmp_path / "mot")
    assert "boxes in 2 frames that do not exist (first: frame 7, line 2)" in problem


def test_identity_twice_in_a_frame_is_reported(tmp_path: Path) -> None:
    _sequence(tmp_path / "mot/A", "1,4,1,1,9,9,1,1,1\n1,4,5,1,9,9,1,1,1\n")
    (problem,) = _problems(tmp_path / "mot")
    assert problem.startswith("A/gt/gt.txt, line 2: identity 4 is twice in frame 1, first in line 1")


def test_size_of_another_image_is_reported(tmp_path: Path) -> None:
    _sequence(tmp_path / "mot/A", info="[Sequence]\nimWidth=1920\nimHeight=1080\n")
    (problem,) = _problems(tmp_path / "mot")
    assert "A/seqinfo.ini: states frames of 1920 x 1080 pixels" in problem


@pytest.mark.parametrize("info", ["no ini", "[Sequence]\nimWidth=%(a)s\n", "[Other]\n", "[Sequence]\nimDir=../..\n"])
def test_other_information_on_a_sequence_does_not_matter_or_is_reported(tmp_path: Path, info: str) -> None:
    _sequence(tmp_path / "mot/A", info=info)
    if info == "no ini":
        (problem,) = _problems(tmp_path / "mot")
        assert problem.startswith("A/seqinfo.ini: ")
    else:
        assert convert(tmp_path / "mot", tmp_path / "out", progress=False).images == 3


@pytest.mark.parametrize(
    ("name", "fact"),
    [
        ("frame.jpg", "frame.jpg has no number at its end"),
        ("a_{:06d}.jpg", "unknown which frame of gt.txt each is"),
    ],
)
def test_frames_without_clear_numbers_are_reported(tmp_path: Path, name: str, fact: str) -> None:
    _sequence(tmp_path / "mot/A", name=name, first=5)
    (problem,) = _problems(tmp_path / "mot")
    assert fact in problem


def test_missing_parts_are_reported(tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    assert _problems(tmp_path / "nothing") == ["found no SEQUENCE/gt/gt.txt; name the folder of the sequences"]
    _sequence(tmp_path / "mot/A", frames=0)
    (problem,) = _problems(tmp_path / "mot")
    assert problem == "A/img1: found no frames; extract the images of the sequence there"
