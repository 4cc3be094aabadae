"""Dumps of CrowdDet: a line of JSON for each image."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hkd.coco.ground_truth import GroundTruth, parse_ground_truth, read_ground_truth
from hkd.coco.parsing.errors import AnnotationError
from hkd.evaluation.formats.detection_files import read_detections


@pytest.fixture
def truth() -> GroundTruth:
    """As `hkd data crowdhuman` writes it: numbered images, named by ID."""
    images = [{"id": 1, "file_name": "Images/273271,c9db.jpg"}, {"id": 2, "file_name": "Images/284193,faa5.jpg"}]
    return parse_ground_truth({"images": images, "annotations": []}, "val.json")


def box(corner: float, score: float, **more: object) -> dict[str, object]:
    return {"box": [corner, 20, 40, 120], "score": score, **more}


def write(folder: Path, *lines: object, name: str = "dump-30.json") -> Path:
    path = folder / name
    path.write_text("".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines))
    return path


@pytest.mark.parametrize("name", ["dump-30.json", "dump.odgt", "dump"])
def test_boxes_are_matched_by_id_to_file_names(name: str, truth: GroundTruth, tmp_path: Path) -> None:
    second = {
        "ID": "284193,faa5",
        "height": 480,
        "width": 640,
        "dtboxes": [box(10, 0.9, tag=1), box(30, 0.2, tag="person")],
    }
    path = write(tmp_path, second, "\n", {"ID": "273271,c9db", "dtboxes": [box(50, 0.5)]}, name=name)
    boxes = read_detections(path, truth)
    assert boxes.image_index.tolist() == [1, 1, 0]
    assert boxes.boxes_xywh.tolist() == [[10, 20, 40, 120], [30, 20, 40, 120], [50, 20, 40, 120]]
    assert boxes.scores.tolist() == [0.9, 0.2, 0.5]
    assert [(note.kind, note.count) for note in boxes.notes] == [("detections_matched_by_name", 3)]


def test_one_image_is_a_dump_too(truth: GroundTruth, tmp_path: Path) -> None:
    path = write(tmp_path, "\ufeff", {"ID": "284193,faa5", "dtboxes": [box(10, 0.9)]})
    assert read_detections(path, truth).image_index.tolist() == [1]


def test_other_tags_and_boxes_without_area_are_left_out(truth: GroundTruth, tmp_path: Path) -> None:
    flat = {"box": [10, 20, 0, 120], "score": 0.1}
    path = write(tmp_path, {"ID": "284193,faa5", "dtboxes": [box(10, 0.9, tag=1), box(30, 0.8, tag=2), flat]})
    boxes = read_detections(path, truth)
    assert boxes.scores.tolist() == [0.9]
    counts = {note.kind: note.count for note in boxes.notes}
    assert (counts["detections_of_other_categories"], counts["detections_without_area"]) == (1, 1)


@pytest.mark.parametrize(
    ("line", "facts"),
    [
        ({"ID": "1,b", "dtboxes": [box(1, 0.5)]}, ['"ID"', 'dtboxes[1] (line 2, ID "1,b")', "file name"]),
        ({"ID": "273271,c9db", "dtboxes": []}, ["line 2", "273271,c9db", "line 1"]),
        ({"ID": "284193,faa5"}, ["line 2", "dtboxes"]),
        ({"ID": "284193,faa5", "dtboxes": [3]}, ["line 2", "dtboxes", "3"]),
        ({"ID": "284193,faa5", "dtboxes": [box(1, 0.5) | {"box": [1, 2, 3]}]}, ['"box"', "line 2", "[1, 2, 3]"]),
        ({"ID": "284193,faa5", "dtboxes": [box(1, 0.5) | {"score": None}]}, ['"score"', "line 2", "null"]),
        ('{"ID": "284193,faa5", "dtboxes": [', ["line 2", "not valid JSON", "ends before"]),
        ("[]\n", ["line 2", "dtboxes"]),
    ],
)
def test_mistakes_are_reported_with_their_line(
    line: object, facts: list[str], truth: GroundTruth, tmp_path: Path
) -> None:
    path = write(tmp_path, {"ID": "273271,c9db", "dtboxes": [box(1, 0.5)]}, line)
    with pytest.raises(AnnotationError) as caught:
        read_detections(path, truth)
    (problem,) = caught.value.located_problems
    assert problem.startswith(f"{path}: ")
    assert all(fact in problem for fact in facts), problem


def test_tags_without_people_are_reported(truth: GroundTruth, tmp_path: Path) -> None:
    path = write(tmp_path, {"ID": "284193,faa5", "dtboxes": [box(1, 0.5, tag=0)]})
    with pytest.raises(AnnotationError, match=r'"tag" 1 of people, but there are 1 of 0'):
        read_detections(path, truth)


def test_annotations_as_json_lines_name_the_converter(tmp_path: Path) -> None:
    for lines in (1, 3):
        path = write(tmp_path, *({"ID": f"{i},a", "gtboxes": []} for i in range(lines)), name="annotation_val.odgt")
        with pytest.raises(AnnotationError, match="`hkd data crowdhuman`"):
            read_ground_truth(path)
