from __future__ import annotations

import json
from pathlib import Path

import pytest

from hkd.evaluation.comparison import DetectorFile, evaluate_detectors, read_inputs
from hkd.evaluation.evaluator import EvaluationInputError, evaluate
from hkd.evaluation.protocols import CITYPERSONS
from tests.evaluation.coco_files import coco, crowded_scene, detection, person


def test_each_detector_is_evaluated_separately_and_compared_with_first(tmp_path: Path) -> None:
    ground_truth, first = crowded_scene(seed=8, num_images=20, people=4, detections=10)
    found = {"a": first, "b": first[::2], "c": first}
    for name, content in (("gt", ground_truth), *found.items()):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    inputs = read_inputs(
        tmp_path / "gt.json", [DetectorFile(name, tmp_path / f"{name}.json") for name in found], "citypersons"
    )
    steps: list[str] = []
    report = evaluate_detectors(inputs, resamples=30, seed=1, on_step=steps.append)
    for each in report.detectors:
        alone = evaluate(ground_truth, found[each.detector.name], CITYPERSONS)
        assert each.result.to_json() == alone.to_json()
        assert [interval.subset for interval in each.intervals] == [subset.name for subset in alone.subsets]
    assert [(pair.first, pair.second) for pair in report.pairs] == [("a", "b"), ("a", "c")]
    # The same detections under another name.
    assert {(c.difference, c.low, c.high, c.probability_second_better) for c in report.pairs[1].comparisons} == {
        (0.0, 0.0, 0.0, 0.5)
    }
    assert steps == [
        "a: matching 200 detections",
        "a: 30 resamples",
        "b: matching 100 detections",
        "b: 30 resamples",
        "c: matching 200 detections",
        "c: 30 resamples",
    ]


def test_all_problems_of_all_inputs_are_reported_together(tmp_path: Path) -> None:
    truth = tmp_path / "gt.json"
    truth.write_text(json.dumps(coco(1, [person(1, [0, 0, -1, 1])])))
    bad = tmp_path / "bad.json"
    bad.write_text(json.dumps([{**detection(1, [0, 0, 1, 1], 0.5), "score": None}]))
    detectors = [DetectorFile("bad", bad), DetectorFile("absent", tmp_path / "absent.json")]
    with pytest.raises(EvaluationInputError) as caught:
        read_inputs(truth, detectors, "citypersons", subset="tiny")
    assert [problem.partition(":")[0] for problem in caught.value.problems] == [
        "protocol 'citypersons' has no subset 'tiny'; name one of",
        str(truth),
        str(bad),
        str(tmp_path / "absent.json"),
    ]
