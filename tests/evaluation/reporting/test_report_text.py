from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from hkd.coco.notes import Note
from hkd.evaluation.comparison import DetectorFile, EvaluationInputs, evaluate_detectors
from hkd.evaluation.evaluator import evaluate
from hkd.evaluation.protocols import CITYPERSONS
from hkd.evaluation.reporting.report_text import format_report, format_result
from tests.evaluation.coco_files import coco, detection, parse, person

BOX = [0.0, 0.0, 20.0, 60.0]


def test_table_is_in_per_cent() -> None:
    # One of two found, no false positive: 50 %; heavy is empty.
    people = [person(1, BOX, vis_ratio=0.9), person(2, [0, 0, 40, 100]), person(2, BOX, ignore=1)]
    result = evaluate(coco(2, people), [detection(1, BOX, 0.9)], CITYPERSONS)
    # AP: recall 0.5 at precision 1 is 51 of the 101 recalls 0, 0.01 ... 1 at each threshold.
    assert format_result(result).splitlines() == [
        "citypersons: 2 images, 1 detections",
        "subset      height (px)  visibility   boxes  MR^-2 (%)",
        "reasonable  [50, inf)    [0.65, inf)      2      50.00",
        "small       [50, 75]     [0.65, inf)      1       0.00",
        "heavy       [50, inf)    [0.2, 0.65]      0          -",
        "all         [20, inf)    [0.2, inf)       2      50.00",
        "COCO AP 50.50 %, AP50 50.50 % (over the 2 boxes that are not ignored)",
        # The only small one is found, at the highest score: no one is missed at any of the nine points.
        (
            "MR^-2 is undetermined where no one is missed at some FPPI points, because one of them makes the geometric "
            "mean 0 or nearly so: small (9 of 9). Evaluate on more than 2 images, or compare by AP."
        ),
        "- no value: no ground-truth box counts",
    ]


def test_one_point_without_a_miss_is_warned_of_for_each_detector() -> None:
    # Ten images; "a" finds one person of two first, then has 10 false positives, then finds the other: at 1 FPPI no one
    # is missed, and MR^-2 is 0 although half are missed at the other eight points. "b" misses one everywhere.
    people = [person(1, BOX, vis_ratio=0.9), person(2, BOX, vis_ratio=0.9)]
    wrong = [detection(image, [300, 0, 20, 60], 0.5) for image in range(1, 11)]
    truth, found = parse(coco(10, people), [detection(1, BOX, 0.9), *wrong, detection(2, BOX, 0.4)])
    half = replace(found, image_index=found.image_index[:1], boxes_xywh=found.boxes_xywh[:1], scores=found.scores[:1])
    detectors = (DetectorFile("a", Path("a")), found), (DetectorFile("b", Path("b")), half)
    report = evaluate_detectors(EvaluationInputs(CITYPERSONS, Path("gt.json"), truth, detectors), resamples=0, seed=0)
    first, second = (each.result for each in report.detectors)
    assert [first.points_without_a_miss(first.subsets[0]), second.points_without_a_miss(second.subsets[0])] == [1, 0]
    assert first.subsets[0].log_average_miss_rate == 0
    assert json.loads(first.to_json())["subsets"][0]["points_without_a_miss"] == 1
    (warning,) = (line for line in format_report(report).splitlines() if "undetermined" in line)
    assert all(fact in warning for fact in ("a: ", "reasonable (1 of 9)", "10 images", "AP"))


def test_notes_on_ground_truth_are_printed_once_and_on_detections_per_detector() -> None:
    truth, boxes = parse(coco(1, [person(1, BOX, vis_ratio=0.9)] * 2), [detection(1, BOX, 0.9)])
    truth = replace(truth, notes=(Note("heights_of_images", 1, "truth: read otherwise."),))
    left_out = Note("detections_of_other_images", 1, "one left out.")
    detectors = tuple(
        (
            DetectorFile(name, Path(name)),
            replace(boxes, notes=(replace(left_out, sentence=f"{name}: one left out."),)),
        )
        for name in ("a", "b")
    )
    inputs = EvaluationInputs(CITYPERSONS, Path("gt.json"), truth, detectors)
    text = format_report(evaluate_detectors(inputs, resamples=0, seed=0))
    assert text.splitlines()[-4:] == [
        "truth: read otherwise.",
        "a: one left out.",
        "b: one left out.",
        "- no value: no ground-truth box counts",
    ]
