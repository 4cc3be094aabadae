"""One text file of detections: columns by name, and MOTChallenge's."""

from __future__ import annotations

from pathlib import Path

import pytest

from hkd.coco.detections import DetectedBoxes
from hkd.coco.ground_truth import GroundTruth, parse_ground_truth
from hkd.coco.parsing.errors import AnnotationError
from hkd.evaluation.formats.detection_files import read_detections

Listed = list[tuple[int, list[float], float]]


def truth_of(*names: str) -> GroundTruth:
    images = [{"id": number, "file_name": name} for number, name in enumerate(names)]
    return parse_ground_truth({"images": images, "annotations": []}, "val.json")


def listed(boxes: DetectedBoxes) -> Listed:
    return list(zip(boxes.image_index.tolist(), boxes.boxes_xywh.tolist(), boxes.scores.tolist(), strict=True))


def read(path: Path, content: str, truth: GroundTruth) -> Listed:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return listed(read_detections(path, truth))


@pytest.mark.parametrize(
    "content",
    [
        "image,x,y,w,h,score\n2,1,2,3,4,0.5\n",
        '"image","x",y,width,height,confidence\n2,1,2,3,4,0.5\n',
        "\ufeffScore,Image,X,Y,W,H\r\n0.5,2,1,2,3,4\r\n",
        "image x y w h score\n2 1 2 3 4 0.5\n",
    ],
)
def test_line_of_names_gives_the_columns(content: str, tmp_path: Path) -> None:
    assert read(tmp_path / "found.csv", content, truth_of("a.jpg", "b.jpg")) == [(1, [1, 2, 3, 4], 0.5)]


@pytest.mark.parametrize(
    "names",
    [
        "image,x1,y1,x2,y2,score",
        "image_id,x,y,w,h,score",
        "image,x,y,w,h",
        "x,y,w,h,score",
        "image,x,y,w,h,score,class",
        "image,x,x,w,h,score",
        "image,frame,x,y,w,h,score",
    ],
)
def test_other_names_are_reported(names: str, tmp_path: Path) -> None:
    path = tmp_path / "found.csv"
    path.write_text(names + "\n" + ",".join("1" * len(names.split(","))) + "\n")
    with pytest.raises(AnnotationError) as caught:
        read_detections(path, truth_of("a.jpg"))
    (problem,) = caught.value.problems
    assert all(fact in problem for fact in ("line 1", "image, x, y, w, h, score", repr(names.partition(",")[0])))


SEQUENCE = ("MOT17-02/img1/000001.jpg", "MOT17-02/img1/000002.jpg")
OTHER = ("MOT17-04/img1/000002.jpg",)
TEN = "2,-1,1,2,3,4,0.5,-1,-1,-1\n1,-1,5,6,7,8,-2.5,-1,-1,-1\n"
SEVEN = "2,-1,1,2,3,4,0.5\n1,-1,5,6,7,8,-2.5\n"


@pytest.mark.parametrize("content", [TEN, SEVEN])
def test_frames_of_motchallenge_are_numbers_of_images(content: str, tmp_path: Path) -> None:
    expected: Listed = [(1, [1, 2, 3, 4], 0.5), (0, [5, 6, 7, 8], -2.5)]
    assert read(tmp_path / "det.txt", content, truth_of(*SEQUENCE)) == expected
    # Of several sequences, the one that the file or its folder is named by.
    truth = truth_of(*SEQUENCE, *OTHER)
    assert read(tmp_path / "MOT17-02.txt", content, truth) == expected
    assert read(tmp_path / "MOT17-02" / "det" / "det.txt", content, truth) == expected


@pytest.mark.parametrize(
    ("content", "names", "facts"),
    [
        (TEN.replace("2,-1", "3,-1", 1), SEQUENCE, ["frame", "line 1 has 3", "000001.jpg"]),
        (TEN, (*SEQUENCE, *OTHER), ["line 1 has 2", "several sequences"]),
        (TEN, ("a.jpg",), ["line 1 has 2", "line 2 has 1"]),
        # Another format of seven columns: image, x1, y1, w, h, score, class.
        ("1,10,20,30,40,0.5,1\n", SEQUENCE, ["6 numbers", "line 1 has"]),
        (TEN.replace("0.5", "nan"), SEQUENCE, ["score", "line 1 has nan"]),
    ],
)
def test_lines_of_motchallenge_that_fit_no_image_are_reported(
    content: str, names: tuple[str, ...], facts: list[str], tmp_path: Path
) -> None:
    with pytest.raises(AnnotationError) as caught:
        read(tmp_path / "det.txt", content, truth_of(*names))
    (problem,) = caught.value.problems
    assert all(fact in problem for fact in facts), problem


def test_kaist_text_numbers_images_from_1(tmp_path: Path) -> None:
    # As the results of KAIST's leaderboard; the ids of its annotations count from 0.
    images = [{"id": i, "file_name": f"set06_V000_I{19 + 20 * i:05}"} for i in range(2)]
    truth = parse_ground_truth({"images": images, "annotations": []}, "val.json")
    content = "1,505.4887,215.8381,17.3688,40.7481,0.65850000\n2,532.0705,225.0063,19.6646,48.2332,0.95810000\n"
    assert read(tmp_path / "result.txt", content, truth) == [
        (0, [505.4887, 215.8381, 17.3688, 40.7481], 0.6585),
        (1, [532.0705, 225.0063, 19.6646, 48.2332], 0.9581),
    ]


def test_lines_without_area_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "found.txt"
    path.write_text("1,1,2,0,4,0.5\n1,1,2,3,4,0.25\n")
    boxes = read_detections(path, truth_of("a.jpg"))
    assert listed(boxes) == [(0, [1, 2, 3, 4], 0.25)]
    assert [(note.kind, note.count) for note in boxes.notes] == [("detections_without_area", 1)]


@pytest.mark.parametrize(("ids", "found"), [((1, 2, 4), "2 is followed by 4"), ((3, 4, 5), "the first is 3")])
def test_numbered_images_need_all_images_of_the_set(ids: tuple[int, ...], found: str, tmp_path: Path) -> None:
    # Images left out by a converter keep the ids of the others: number 3 would be image 4.
    truth = parse_ground_truth({"images": [{"id": id_} for id_ in ids], "annotations": []}, "val.json")
    (tmp_path / "found.txt").write_text("3,1,2,3,4,0.5\n")
    with pytest.raises(AnnotationError) as caught:
        read_detections(tmp_path / "found.txt", truth)
    (problem,) = caught.value.problems
    assert found in problem
    assert "--annotations-only" in problem


@pytest.mark.parametrize("line", ["0 0.1875 0.3125 0.0625 0.2083 0.9", "1 0.1875 0.3125 0.0625 0.2083"])
def test_predictions_of_yolo_are_named(line: str, tmp_path: Path) -> None:
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text(line + "\n")
    for path in (tmp_path / "labels" / "a.txt", tmp_path / "labels"):
        with pytest.raises(AnnotationError) as caught:
            read_detections(path, truth_of("a.jpg"))
        (problem,) = caught.value.problems
        assert "YOLO" in problem
        assert "predictions.json" in problem
