"""Detections as checked arrays and as COCO results."""

from __future__ import annotations

import math
import re

import pytest

from hkd.coco.detections import no_detections, parse_detections
from hkd.coco.ground_truth import parse_ground_truth
from hkd.coco.parsing.errors import AnnotationError
from tests.evaluation.coco_files import coco, detection

DETECTIONS = [detection(1, [0, 0, 20, 60], 0.9), detection(2, [5, 5, 30, 80], 0.5)]
TRUTH = parse_ground_truth(coco(2, []), "val.json")


def detection_problems(raw: object) -> tuple[str, ...]:
    with pytest.raises(AnnotationError) as caught:
        parse_detections(raw, "found.json", TRUTH)
    assert caught.value.source == "found.json"
    return caught.value.problems


def test_detections_keep_the_order_of_the_file() -> None:
    boxes = parse_detections([detection(2, [0, 1, 2, 3], 0.5), detection(1, [0, 1, 2, 4], -7)], "found.json", TRUTH)
    assert boxes.image_index.tolist() == [1, 0]
    assert boxes.boxes_xywh.tolist() == [[0, 1, 2, 3], [0, 1, 2, 4]]
    assert boxes.scores.tolist() == [0.5, -7]


@pytest.mark.parametrize(
    ("key", "value", "shown", "allowed"),
    [
        ("image_id", None, "null", "an integer"),
        ("image_id", 9, "9", 'the "id" or the file name of an image of the ground truth'),
        ("category_id", "one", '"one"', "an integer"),
        ("score", math.nan, "NaN", "a finite number"),
        ("score", -math.inf, "-Infinity", "a finite number"),
        ("score", 10**400, "1" + "0" * 37 + "..." + "0" * 38, "a finite number"),
        ("score", "0,9", '"0,9"', "a finite number"),
        ("score", "1e999", '"1e999"', "a finite number"),
        ("score", "nan", '"nan"', "a finite number"),
        ("score", True, "true", "a finite number"),
    ],
)
def test_invalid_values_of_detections_are_reported(key: str, value: object, shown: str, allowed: str) -> None:
    (problem,) = detection_problems([DETECTIONS[0] | {key: value}, DETECTIONS[1]])
    assert f'"{key}" must be' in problem
    assert allowed in problem
    assert re.search(rf"detections\[0\] \(.*\) has {re.escape(shown)};", problem)


@pytest.mark.parametrize("key", ["image_id", "category_id", "bbox", "score"])
def test_missing_keys_of_detections_are_reported(key: str) -> None:
    lacking = {name: value for name, value in DETECTIONS[1].items() if name != key}
    (problem,) = detection_problems([DETECTIONS[0], lacking])
    assert f'"{key}" must be' in problem
    assert re.search(r"detections\[1\](| \(image_id 2\)) has none;", problem)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ({}, "an object; name a file of COCO results"),
        (3, "are 3; name a file of COCO results"),
        ({"images": [], "annotations": [{"bbox": [0, 0, 1, 1]}]}, "without scores, as ground truth has; perhaps"),
        ({"images": [], "annotations": [{"score": 0.5}]}, 'its "annotations" have scores: save that list'),
    ],
)
def test_detections_that_are_not_a_list_are_reported(raw: object, words: str) -> None:
    (problem,) = detection_problems(raw)
    assert words in problem


def test_all_mistakes_of_a_file_are_reported_together_by_kind() -> None:
    raw = [detection(1, [0, 0, 1, 1], math.nan) for _ in range(8)]
    raw[3] |= {"image_id": 77, "bbox": [0, 0, -1, 1]}
    mixed: list[object] = [*raw, "a string", detection(2, [0, 0, 1, 1], 0.5) | {"category_id": None}]
    problems = detection_problems(mixed)
    assert len(problems) == 5
    assert 'each record must be an object in braces, but detections[8] has "a string"' in problems[0]
    # Counted with the string before it.
    assert '"category_id" must be an integer' in problems[1]
    assert "detections[9] (image_id 2) has null" in problems[1]
    assert '"image_id" must be the "id" or the file name of an image of the ground truth' in problems[2]
    assert "detections[3] (image_id 77) has 77" in problems[2]
    assert "detections[3] (image_id 77) has [0, 0, -1, 1]" in problems[3]
    # Five are named, three more counted.
    assert problems[4].count(") has NaN") == 5
    assert "and 3 more records are wrong; correct or remove the detection" in problems[4]


def test_detections_without_area_are_left_out_and_counted() -> None:
    raw = [detection(1, box, i) for i, box in enumerate([[0.0, 0, 0, 60], [0.0, 0, 20, 60], [0.0, 0, 20, 0]])]
    boxes = parse_detections(raw, "found.json", TRUTH)
    assert (boxes.scores.tolist(), boxes.boxes_xywh.tolist()) == ([1], [[0, 0, 20, 60]])
    (note,) = boxes.notes
    assert (note.kind, note.count) == ("detections_without_area", 2)
    assert all(fact in note.sentence for fact in ("found.json", "2 of 3", "detections[0]"))


def test_scores_may_be_numbers_as_text() -> None:
    boxes = parse_detections([DETECTIONS[0], DETECTIONS[1] | {"score": "1e-2"}], "found.json", TRUTH)
    assert boxes.scores.tolist() == [0.9, 0.01]
    (note,) = boxes.notes
    assert (note.kind, note.count) == ("scores_as_text", 1)


def test_images_are_not_checked_without_valid_ground_truth() -> None:
    assert len(parse_detections(DETECTIONS, "found.json", None).scores) == 2


def test_coco_results_round_trip() -> None:
    assert parse_detections(DETECTIONS, "found.json", TRUTH).coco_results(TRUTH.image_ids) == DETECTIONS
    assert no_detections().coco_results(TRUTH.image_ids) == []
