"""Folders of detections with a text file for each frame."""

from __future__ import annotations

from pathlib import Path

import pytest

from hkd.coco.parsing.errors import AnnotationError
from hkd.evaluation.formats.detection_files import read_detections
from tests.evaluation.formats.test_detection_files import NAMES, listed, problems_of, truth_of, write_folder


@pytest.mark.parametrize("pattern", ["set06/V000/I{:05}.txt", "set06_V000_I{:05}.txt"])
def test_files_of_frames_are_named_as_images(pattern: str, tmp_path: Path) -> None:
    names = {4: "set06_V000_I00059.jpg", 2: "somewhere/set06_V000_I00029.jpg"}
    files = {
        pattern.format(29): "1,2,3,4,0.5\n5 6 7 8 -1\n",
        pattern.format(59): "",
        pattern.format(89): "nan",  # not in the ground truth
    }
    boxes = read_detections(write_folder(tmp_path, files), truth_of(names))
    # Frame 29, counted from 0 in the names of images and of these files.
    assert listed(boxes) == [(0, [1, 2, 3, 4], 0.5), (0, [5, 6, 7, 8], -1)]
    assert [(note.kind, note.count) for note in boxes.notes] == [("detections_of_other_images", 1)]


def test_labelled_lines_of_kaist_have_corners(tmp_path: Path) -> None:
    names = {1: "set06_V000_I00019.jpg"}
    folder = write_folder(tmp_path, {"set06_V000_I00019.txt": "person 10.5 20 50.5 120 0.9\n"})
    assert listed(read_detections(folder, truth_of(names))) == [(0, [10.5, 20, 40, 100], 0.9)]
    # The last two are width and height: the corner would be left of the first.
    write_folder(tmp_path, {"set06_V000_I00019.txt": "person 10 20 50 120 0.9\nperson 500 20 41 120 0.9\n"})
    (problem,) = problems_of(tmp_path, truth_of(names))
    assert all(fact in problem for fact in ("I00019.txt", "corners", "line 2 has [500.0, 20.0, 41.0, 120.0]"))


def test_images_without_file_are_counted(tmp_path: Path) -> None:
    files = {"set06/V000/I00029.txt": "1,2,3,4,0.5\n", "set07/V011.txt": ""}
    (note,) = read_detections(write_folder(tmp_path, files), truth_of(NAMES)).notes
    assert (note.kind, note.count) == ("files_missing", 1)


def test_file_of_video_is_preferred(tmp_path: Path) -> None:
    files = {"set06/V000.txt": "30,1,2,3,4,0.5\n", "set06/V000/I00029.txt": "nan", "set07/V011.txt": ""}
    boxes = read_detections(write_folder(tmp_path, files), truth_of(NAMES))
    assert listed(boxes) == [(0, [1, 2, 3, 4], 0.5)]
    assert "1 files of frames are not read" in str(boxes.notes[0])


def test_faults_of_files_of_frames_are_reported(tmp_path: Path) -> None:
    files = {"set06/V000/I00029.txt": "30,1,2,3,4,0.5\n", "set07/V011/I00029.txt": "1,2,3,-4,5\n"}
    first, second = problems_of(write_folder(tmp_path, files), truth_of(NAMES))
    assert "I00029.txt: each line must have 5 numbers, x,y,w,h,score, but line 1 has" in first
    assert "h must be pixels from 0" in second
    folder = write_folder(tmp_path / "twice", {"set06/V000/I00029.txt": "", "set06_V000_I00029.txt": ""})
    with pytest.raises(AnnotationError, match="each frame must have one file"):
        read_detections(folder, truth_of(NAMES))
    missing = write_folder(tmp_path / "missing", {"set06/V000/I00029.txt": ""})
    assert "there is no set07/V011.txt" in problems_of(missing, truth_of(NAMES))[0]
