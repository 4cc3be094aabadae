from __future__ import annotations

import json
import math
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest

from hkd.evaluation.evaluator import (
    EvaluationInputError,
    EvaluationResult,
    evaluate,
    evaluate_boxes,
    evaluate_files,
    evaluate_subsets,
)
from hkd.evaluation.matching import match
from hkd.evaluation.protocols import CITYPERSONS, PROTOCOLS, Protocol
from hkd.evaluation.reporting.report_text import format_result
from tests.evaluation.coco_files import Json, coco, crowded_scene, detection, parse, person
from tests.evaluation.plain_evaluator import plain_log_average_miss_rate

BOX = [0.0, 0.0, 20.0, 60.0]


def values(result: EvaluationResult) -> dict[str, float | None]:
    return {subset.name: subset.log_average_miss_rate for subset in result.subsets}


def test_subsets_equal_plain_evaluator() -> None:
    ground_truth, detections = crowded_scene(seed=2, num_images=30, people=6, detections=9)
    result = evaluate(ground_truth, detections, CITYPERSONS)
    truth, boxes = parse(ground_truth, detections)
    for subset, found in zip(CITYPERSONS.subsets, result.subsets, strict=True):
        expected = plain_log_average_miss_rate(truth, boxes, CITYPERSONS, subset)
        assert found.log_average_miss_rate == pytest.approx(expected, rel=1e-12)
        assert (found.name, found.height_range, found.visibility_range) == (
            subset.name,
            subset.height_range,
            subset.visibility_range,
        )
    assert (result.protocol, result.num_images, result.num_detections) == ("citypersons", 30, 270)
    assert result.num_ground_truth == sum(annotation["ignore"] == 0 for annotation in ground_truth["annotations"])


def test_inputs_are_not_modified() -> None:
    ground_truth, detections = crowded_scene(seed=2, num_images=2, people=3, detections=3)
    before = deepcopy((ground_truth, detections))
    evaluate(ground_truth, detections, CITYPERSONS)
    assert (ground_truth, detections) == before


def test_miss_rate_is_one_without_detections() -> None:
    # 60 px and wholly visible: counts in all subsets but heavy.
    result = evaluate(coco(3, [person(1, BOX)]), [], CITYPERSONS)
    assert values(result) == {"reasonable": 1.0, "small": 1.0, "heavy": None, "all": 1.0}
    assert (result.ap, result.ap50) == (0.0, 0.0)
    assert result.as_metrics() == {"mr2_reasonable": 1.0, "mr2_small": 1.0, "mr2_all": 1.0, "ap": 0.0, "ap50": 0.0}


@pytest.mark.parametrize("people", [[], [person(1, BOX, ignore=1)], [person(1, BOX, iscrowd=1)]])
def test_no_value_without_counted_ground_truth(people: list[Json]) -> None:
    for detections in ([], [detection(1, BOX, 0.9), detection(2, BOX, 0.9)]):
        result = evaluate(coco(2, people), detections, CITYPERSONS)
        assert values(result) == {"reasonable": None, "small": None, "heavy": None, "all": None}
        assert all(subset.num_ground_truth == 0 and len(subset.fppi) == 0 for subset in result.subsets)
        assert (result.ap, result.ap50) == (None, None)
        assert result.as_metrics() == {}
        assert result.curves() == {}
        assert "- no value: no ground-truth box counts" in format_result(result)


def test_subset_without_ground_truth_has_no_value() -> None:
    # 20 % visible: only heavy and all.
    result = evaluate(coco(1, [person(1, BOX, vis_ratio=0.2)]), [detection(1, BOX, 0.9)], CITYPERSONS)
    assert values(result) == {"reasonable": None, "small": None, "heavy": 0.0, "all": 0.0}
    assert sorted(result.as_metrics()) == ["ap", "ap50", "mr2_all", "mr2_heavy"]
    assert sorted(result.curves()) == ["all", "heavy"]


def test_one_image_equals_hand_computation() -> None:
    # Two people; best first: one found, a false positive, the other found. On one image the first false positive is
    # FPPI 1: the miss rate is 0.5 up to there, and 0 at the last point, which makes the mean 0.
    people = [person(1, BOX), person(1, [100, 0, 20, 60])]
    detections = [detection(1, BOX, 0.9), detection(1, [200, 0, 20, 60], 0.8), detection(1, [100, 0, 20, 60], 0.7)]
    result = evaluate(coco(1, people), detections, CITYPERSONS)
    assert result.subsets[0].log_average_miss_rate == 0.0
    assert result.subsets[0].fppi.tolist() == [0.0, 1.0, 1.0]
    assert result.subsets[0].miss_rate.tolist() == [0.5, 0.5, 0.0]
    # Without the last: 0.5 everywhere.
    result = evaluate(coco(1, people), detections[:2], CITYPERSONS)
    assert result.subsets[0].log_average_miss_rate == pytest.approx(0.5, rel=1e-12)


def test_detections_of_equal_score_are_ordered_by_image() -> None:
    # Two images, all scores equal. Image 1 comes first though the file has it last: found, then the false positive of
    # image 2 at FPPI 0.5: the miss rate is 0.5 from the start. In the file's order it would be 1 at seven points.
    people = [person(1, BOX), person(2, BOX)]
    detections = [detection(2, [200, 0, 20, 60], 0.5), detection(1, BOX, 0.5)]
    result = evaluate(coco(2, people), detections, CITYPERSONS)
    assert result.subsets[0].log_average_miss_rate == pytest.approx(0.5, rel=1e-12)


def test_result_round_trips_through_json() -> None:
    ground_truth, detections = crowded_scene(seed=3, num_images=40, people=4, detections=30)
    result = evaluate(ground_truth, detections, CITYPERSONS)
    text = result.to_json()
    read = EvaluationResult.from_json(text)
    assert read.to_json() == text
    assert read.as_metrics() == result.as_metrics()
    assert format_result(read) == format_result(result)
    assert [(s.height_range, s.visibility_range) for s in read.subsets] == [
        (s.height_range, s.visibility_range) for s in CITYPERSONS.subsets
    ]
    for full, short in zip(result.subsets, read.subsets, strict=True):
        assert len(short.fppi) < 220
        assert short.curve.at(result.fppi_points).tolist() == full.curve.at(result.fppi_points).tolist()
    assert len(result.subsets[-1].fppi) > 440
    assert {name: len(curve["fppi"]) for name, curve in result.curves().items()} == {
        subset.name: len(subset.fppi) for subset in read.subsets
    }


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=lambda protocol: protocol.name)
def test_json_keeps_subset_bounds_of_every_protocol(protocol: Protocol) -> None:
    # Caltech's scales count people of infinite visibility, which JSON cannot express.
    read = EvaluationResult.from_json(evaluate(coco(1, [person(1, BOX)]), [], protocol).to_json())
    assert [(s.height_range, s.visibility_range) for s in read.subsets] == [
        (s.height_range, s.visibility_range) for s in protocol.subsets
    ]


def test_json_keeps_missing_values() -> None:
    result = evaluate(coco(1, []), [], CITYPERSONS)
    assert json.loads(result.to_json())["subsets"][0]["log_average_miss_rate"] is None
    assert EvaluationResult.from_json(result.to_json()).as_metrics() == {}


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"subsets": 3}', '{"subsets": [], "fppi_points": [1], "x": 1}'])
def test_other_json_is_rejected(text: str) -> None:
    with pytest.raises(ValueError, match="not the JSON of an evaluation result"):
        EvaluationResult.from_json(text)


def test_evaluation_of_files_equals_evaluation_in_memory(tmp_path: Path) -> None:
    ground_truth, detections = crowded_scene(seed=4, num_images=5, people=4, detections=6)
    (tmp_path / "val.json").write_text(json.dumps(ground_truth))
    (tmp_path / "found.json").write_text(json.dumps(detections))
    result = evaluate_files(tmp_path / "val.json", tmp_path / "found.json", "citypersons")
    assert result.to_json() == evaluate(ground_truth, detections, CITYPERSONS).to_json()


def test_problems_of_files_and_protocol_are_reported_together(tmp_path: Path) -> None:
    truth_path, found_path = tmp_path / "val.json", tmp_path / "found.json"
    truth_path.write_text(json.dumps(coco(1, [person(1, [0, 0, -1, 1])])))
    found_path.write_text(json.dumps([detection(1, [0, 0, 1, 1], math.nan)]))
    with pytest.raises(EvaluationInputError) as caught:
        evaluate_files(truth_path, found_path, "cityperson")
    assert len(caught.value.problems) == 3
    assert caught.value.problems[0].startswith(
        "there is no protocol 'cityperson'; name one of: acf, caltech, citypersons"
    )
    assert caught.value.problems[1].startswith(f'{truth_path}: "bbox" must be')
    assert caught.value.problems[2].startswith(f'{found_path}: "score" must be')


def test_truncated_file_does_not_hide_problems_of_other_file(tmp_path: Path) -> None:
    truth_path, found_path = tmp_path / "val.json", tmp_path / "found.json"
    truth_path.write_text('{"images": [')
    found_path.write_text(json.dumps([detection(5, [0, 0, 1, 1], math.nan)]))
    with pytest.raises(EvaluationInputError) as caught:
        evaluate_files(truth_path, found_path, "citypersons")
    # No word of image 5, which the ground truth may have.
    assert len(caught.value.problems) == 2
    assert f"{truth_path}: line 1, column 13: not valid JSON" in caught.value.problems[0]
    assert f'{found_path}: "score" must be' in caught.value.problems[1]


def test_inputs_in_memory_are_checked_like_files() -> None:
    with pytest.raises(EvaluationInputError) as caught:
        evaluate(coco(1, [person(2, BOX)]), [detection(1, BOX, math.inf)], CITYPERSONS)
    assert [problem.split(":")[0] for problem in caught.value.problems] == ["ground truth", "detections"]


def test_custom_protocol_changes_matching() -> None:
    # At a threshold of 0.75 an IoU of 0.6 is no match: the same detection is a false positive.
    strict = replace(CITYPERSONS, name="strict", iou_threshold=0.75, subsets=CITYPERSONS.subsets[:1])
    ground_truth, detections = coco(1, [person(1, BOX)]), [detection(1, [0, 0, 12, 60], 0.9)]
    assert evaluate(ground_truth, detections, CITYPERSONS).as_metrics()["mr2_reasonable"] == 0.0
    result = evaluate(ground_truth, detections, strict)
    assert (result.protocol, len(result.subsets)) == ("strict", 1)
    assert result.as_metrics()["mr2_reasonable"] == 1.0


def test_result_agrees_with_matches() -> None:
    truth, boxes = parse(coco(2, [person(1, BOX)]), [detection(1, BOX, 0.5), detection(2, BOX, 0.9)])
    matches = match(truth, boxes, CITYPERSONS)
    result = evaluate_boxes(truth, boxes, CITYPERSONS, matches)
    # Best first. In heavy the person is ignored, and the detection on it left out.
    assert matches.outcomes.tolist() == [[0, 1], [0, 1], [0, -1], [0, 1]]
    assert (
        [s.num_ground_truth for s in result.subsets] == matches.counted_per_image.sum(axis=1).tolist() == [1, 1, 0, 1]
    )
    assert [s.log_average_miss_rate for s in evaluate_subsets(matches, CITYPERSONS)] == list(values(result).values())


def test_notes_list_dropped_inputs(tmp_path: Path) -> None:
    # The text's frame 30 is frame 29 from 0; its frame 31 is not among the images.
    people = [person(1, BOX, label="person"), person(1, BOX, label="rider", width=640, height=480)]
    ground_truth = coco(1, people) | {"images": [{"id": 1, "file_name": "set06_V000_I00029.jpg"}]}
    (tmp_path / "set06").mkdir()
    (tmp_path / "set06" / "V000.txt").write_text("30,0,0,20,75,0.9\n31,0,0,20,60,0.9\n")
    (tmp_path / "val.json").write_text(json.dumps(ground_truth))
    (tmp_path / "mine.yaml").write_text("subsets: [{name: tall, height: [50, 60]}]\ncounted_labels: [person]\n")
    result = evaluate_files(tmp_path / "val.json", tmp_path, str(tmp_path / "mine.yaml"), height_scale=0.8)
    assert result.protocol == "mine"
    # Scaled, 75 px are 60, from 7.5 to 67.5: overlap 52.5 / 67.5 with the person.
    assert result.as_metrics()["mr2_tall"] == pytest.approx(1e-10)
    assert [note.removeprefix(str(tmp_path)).split(":")[0] for note in result.notes] == [
        "/val.json",
        "Neither counted nor ignored, as mine does not list their class",
        "",
    ]
    assert all(note in format_result(result).splitlines() for note in result.notes)
    assert EvaluationResult.from_json(result.to_json()).notes == result.notes
