from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hkd.coco.detections import DetectedBoxes
from hkd.coco.ground_truth import GroundTruth, parse_ground_truth, read_ground_truth
from hkd.coco.parsing.errors import AnnotationError
from hkd.evaluation.formats.detection_files import read_detections
from tests.evaluation.coco_files import Json, detection

# Ids in another order than frames; frame 29, counted from 0, is the text's frame 30.
NAMES = {4: "set06_V000_I00059.jpg", 2: "somewhere/set06_V000_I00029.jpg", 9: "set07_V011_I00029.png"}
NUMBERED = {1: "b.jpg", 0: "a.jpg", 2: "c.jpg"}
LINE = "30,1,2,3,4,0.5\n"


def truth_of(names: dict[int, str]) -> GroundTruth:
    images: list[Json] = [{"id": i, "file_name": name} for i, name in names.items()]
    return parse_ground_truth({"images": images, "annotations": []}, "val.json")


def write_folder(folder: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder


def listed(boxes: DetectedBoxes) -> list[tuple[int, list[float], float]]:
    return list(zip(boxes.image_index.tolist(), boxes.boxes_xywh.tolist(), boxes.scores.tolist(), strict=True))


def problems_of(path: Path, truth: GroundTruth | None) -> tuple[str, ...]:
    with pytest.raises(AnnotationError) as caught:
        read_detections(path, truth)
    problems = caught.value.located_problems
    assert all(problem.startswith(str(path)) for problem in problems)
    return problems


def test_caltech_text_folder_matches_images_by_name(tmp_path: Path) -> None:
    # Commas or blanks, frames in any order, blank lines; frame 31 and set10 are not in the ground truth.
    files = {
        "set06/V000.txt": "60,1,2,3,4,-7\n\n30 5 6 7 8 1e-1\r\n31,1,1,1,1,1\n30,\t9,  9,9,9,.5",
        "set07/V011.txt": "",
        "set10/V000.txt": "1,nan,2,3,4,5\n",
        "readme.md": "not read",
    }
    boxes = read_detections(write_folder(tmp_path, files), truth_of(NAMES))
    # Ids 2, 4, 9 are images 0, 1, 2.
    assert listed(boxes) == [(1, [1, 2, 3, 4], -7), (0, [5, 6, 7, 8], 0.1), (0, [9, 9, 9, 9], 0.5)]
    assert tuple(map(str, boxes.notes)) == (
        f"{tmp_path}: 1 of 4 detections are on frames that the ground truth does not have and are left out.",
        f"{tmp_path}: 1 of 3 videos are not in the ground truth.",
    )


def test_missing_file_of_video_is_reported(tmp_path: Path) -> None:
    (problem,) = problems_of(write_folder(tmp_path, {"set06/V000.txt": LINE}), truth_of(NAMES))
    assert "there is no set07/V011.txt; where nothing was detected in a video, make an empty file" in problem
    (problem,) = problems_of(write_folder(tmp_path / "empty", {"notes.txt": ""}), truth_of(NAMES))
    assert "must hold a text file for each video, such as set06/V000.txt, or for each frame" in problem


def test_detections_without_matching_frame_are_rejected(tmp_path: Path) -> None:
    # Counted from 0, as the images are: one too low in every file.
    files = {"set06/V000.txt": "29,1,2,3,4,0.5\n59,1,2,3,4,0.5\n", "set07/V011.txt": ""}
    (problem,) = problems_of(write_folder(tmp_path, files), truth_of(NAMES))
    assert "none of 2 detections is on a frame of the ground truth, such as frame 30;" in problem
    assert "counted from 1 in files of videos, perhaps these count from 0" in problem
    # Nothing found at all is a detector that finds no one.
    boxes = read_detections(write_folder(tmp_path, {"set06/V000.txt": ""}), truth_of(NAMES))
    assert (listed(boxes), boxes.notes) == ([], ())


def test_text_folder_requires_images_named_by_frame(tmp_path: Path) -> None:
    write_folder(tmp_path, {"set06/V000.txt": LINE})
    (problem,) = problems_of(tmp_path, truth_of({1: "set06_V000_I00029.jpg", 2: "street.jpg"}))
    assert "but the ground truth has 'street'; give detections as COCO results" in problem
    (problem,) = problems_of(tmp_path, parse_ground_truth({"images": [{"id": 1}], "annotations": []}, "val.json"))
    assert "the ground truth has one without a name" in problem
    (problem,) = problems_of(tmp_path, truth_of({1: "a/set06_V000_I00029.jpg", 2: "b/set06_V000_I00029.jpg"}))
    assert "must have each frame once, but repeats 'set06_V000_I00029'" in problem


def test_text_file_numbers_images_by_ascending_id(tmp_path: Path) -> None:
    path = tmp_path / "found.txt"
    path.write_text("3,1,2,3,4,0.5\n1,5,6,7,8,9\n")
    assert listed(read_detections(path, truth_of(NUMBERED))) == [(2, [1, 2, 3, 4], 0.5), (0, [5, 6, 7, 8], 9)]
    path.write_text("")
    assert listed(read_detections(path, truth_of(NUMBERED))) == []
    path.write_text("4,1,2,3,4,0.5\n0,1,2,3,4,0.5\n")
    (problem,) = problems_of(path, truth_of(NUMBERED))
    assert "image must be an integer from 1 to 3, the number of images of the ground truth" in problem
    assert "line 1 has 4, line 2 has 0;" in problem


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("1,2,3,4,5", "must have 6 numbers, image,x,y,w,h,score, but line 2 has '1,2,3,4,5'"),
        ("1,2,3,4,5,6,7", "6 numbers"),
        ("1,2,3,4,5,high", "6 numbers"),
        ("image,x,y,w,h,score", "6 numbers"),
        ("1,,2,3,4,5", "6 numbers"),
        ("1,1_0,2,3,4,5", "6 numbers"),
        ("1.5,1,2,3,4,5", "image must be an integer from 1 to 3, the number of images of the ground truth, but line 2"),
        ("nan,1,2,3,4,5", "line 2 has nan"),
        ("1e300,1,2,3,4,5", "image must be an integer"),
        ("inf,1,2,3,4,5", "image must be an integer"),
        ("9" * 400 + ",1,2,3,4,5", "image must be an integer"),
        ("1e999,1,2,3,4,5", "image must be an integer"),
        ("1,inf,2,3,4,5", "x must be pixels from -1e9 to 1e9, but line 2 has inf"),
        ("1,2,nan,3,4,5", "y must be pixels"),
        ("1,1,2,-1,4,5", "w must be pixels from 0 to 1e9, but line 2 has -1"),
        ("1,1,2,3,-4,5", "h must be pixels from 0"),
        ("1,1,2,3,1e10,5", "h must be pixels from 0"),
        ("1,1,2,3,4,nan", "score must be a finite number"),
        ("1,1,2,3,4,-inf", "score must be a finite number, but line 2 has -inf"),
        ("1,1,2,3,4,1e999", "score must be a finite number"),
    ],
)
def test_invalid_lines_are_reported(line: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "found.txt"
    path.write_text(f"1,1,2,3,4,5\n{line}\n")
    (problem,) = problems_of(path, truth_of(NUMBERED))
    assert words in problem
    # The same in a folder, where the number is a frame's.
    folder = tmp_path / "folder"
    names = {1: "set06_V000_I00000.jpg"}
    (problem,) = problems_of(write_folder(folder, {"set06/V000.txt": path.read_text()}), truth_of(names))
    assert problem.startswith(str(folder / "set06" / "V000.txt"))
    assert "line 2 has" in problem


def test_all_mistakes_of_a_folder_are_reported_together(tmp_path: Path) -> None:
    files = {"set06/V000.txt": "30,1,2,3\n" * 7 + "30,1,2,-1,4,nan\n", "set07/V011.txt": "x\n"}
    first, second, third, fourth = problems_of(write_folder(tmp_path, files), truth_of(NAMES))
    assert "line 1 has '30,1,2,3', " in first
    assert "line 5 has '30,1,2,3', and 2 more; correct" in first
    assert "w must be pixels from 0 to 1e9, but line 8 has -1" in second
    assert "score" in third
    assert "V011.txt: each line must have 6 numbers, frame,x,y,w,h,score, but line 1 has 'x'" in fourth
    # Where the ground truth is wrong itself, the files are checked all the same.
    assert len(problems_of(tmp_path, None)) == 4


def test_files_that_are_not_text_are_reported(tmp_path: Path) -> None:
    path = tmp_path / "found.txt"
    path.write_bytes(b"1,2,3,4,5,6\n\xff\xfe")
    (problem,) = problems_of(path, truth_of(NAMES))
    assert "is not text (byte 12)" in problem
    assert "cannot be read (No such file or directory)" in problems_of(tmp_path / "absent.txt", truth_of(NAMES))[0]


def test_any_other_file_is_read_as_coco_results(tmp_path: Path) -> None:
    path = tmp_path / "found"
    path.write_text(json.dumps([detection(9, [1, 2, 3, 4], 0.5)]))
    assert listed(read_detections(path, truth_of(NAMES))) == [(2, [1, 2, 3, 4], 0.5)]


def test_heights_are_scaled_about_centre(tmp_path: Path) -> None:
    path = tmp_path / "found.txt"
    path.write_text("1,10,100,50,128,0.5\n")
    # 128 px become 100: 14 px less above and below.
    boxes = read_detections(path, truth_of(NUMBERED), height_scale=100 / 128)
    assert boxes.boxes_xywh.tolist() == [[10, 114, 50, 100]]
    for scale in (0.0, -1.0, 101.0, np.inf, np.nan):
        with pytest.raises(AnnotationError, match=f"scaled by a number from 0.01 to 100.0, but are by {scale};"):
            read_detections(path, truth_of(NUMBERED), height_scale=scale)


def test_ground_truth_is_read_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "val.json"
    path.write_text(json.dumps({"images": [{"id": 3, "im_name": "munster_1_leftImg8bit.png"}], "annotations": []}))
    assert read_ground_truth(path).image_names == ("munster_1_leftImg8bit",)
    path.write_text("{}")
    with pytest.raises(AnnotationError, match="must be an object with the lists"):
        read_ground_truth(path)


TEXT = "1,10,20,30,40,0.5\n2 11 21 31 41 -1e3\n\n3,12,22,32,42,7\n"
JUNK = st.binary(max_size=4) | st.sampled_from(
    [b"nan", b"-inf", b"1e999", b",", b"\n", b"-", b"0", b"\xef\xbb\xbf", b"\x00", b"1_0", "\u0661".encode()]
)


@settings(max_examples=300)
@given(junk=JUNK, start=st.integers(0, len(TEXT)), length=st.integers(0, 12))
def test_junk_in_text_file_is_reported_or_read(
    junk: bytes, start: int, length: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = TEXT.encode()
    path = tmp_path_factory.getbasetemp() / "junk.txt"
    path.write_bytes(content[:start] + junk + content[start + length :])
    boxes, problems = None, []
    try:
        boxes = read_detections(path, truth_of(NAMES))
    except AnnotationError as error:
        problems = [*error.located_problems]
    assert all(problem.startswith(f"{path}: ") for problem in problems)
    assert (boxes is None) == bool(problems)
    if boxes is not None:
        assert ((boxes.image_index >= 0) & (boxes.image_index < 3)).all()
        assert np.isfinite(boxes.scores).all()
        assert np.isfinite(boxes.boxes_xywh).all()
        assert (boxes.boxes_xywh[:, 2:] > 0).all()
        # A line for each detection, or for one without an area.
        lines = path.read_text("utf-8-sig").replace(",", " ").split("\n")
        num_empty = sum(note.count for note in boxes.notes)
        assert len(boxes.scores) + num_empty == len([line for line in lines if line.strip()])


def test_doubtful_detections_are_noted(tmp_path: Path) -> None:
    images: list[Json] = [{"id": 1, "width": 640, "height": 480}]
    truth = parse_ground_truth({"images": images, "annotations": []}, "val.json")
    corners = {"image_id": 1, "category_id": 1, "bbox": [500, 200, 540, 300], "score": 0.5}
    (tmp_path / "found.json").write_text(json.dumps([corners, corners]))
    boxes = read_detections(tmp_path / "found.json", truth)
    assert len(boxes.scores) == 2
    # Both centres are at x = 500 + 540 / 2 = 770 of 640; the second repeats the first.
    assert [(note.kind, note.count) for note in boxes.notes] == [
        ("detections_in_other_units", 2),
        ("detections_repeated", 1),
    ]
