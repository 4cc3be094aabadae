from __future__ import annotations

import pytest

from benchmarks.scripted_matcher import script_records, scripted_log_average_miss_rate
from hkd.evaluation.evaluator import evaluate_subsets
from hkd.evaluation.matching import match
from hkd.evaluation.protocols import CITYPERSONS
from tests.evaluation.coco_files import coco, crowded_scene, detection, parse


@pytest.mark.parametrize("seed", [0, 1])
def test_scripted_matcher_equals_evaluator(seed: int) -> None:
    truth, boxes = parse(*crowded_scene(seed, num_images=8, people=10, detections=25))
    ours = evaluate_subsets(match(truth, boxes, CITYPERSONS), CITYPERSONS)
    records = script_records(truth, boxes)
    scripted = [scripted_log_average_miss_rate(*records, 8, CITYPERSONS, subset) for subset in CITYPERSONS.subsets]
    assert scripted == pytest.approx([subset.log_average_miss_rate for subset in ours], rel=1e-12)
    assert len({round(value, 6) for value in scripted if value is not None}) == 4


def test_empty_subset_has_no_miss_rate() -> None:
    truth, boxes = parse(coco(1, []), [detection(1, [0, 0, 20, 60], 0.9)])
    records = script_records(truth, boxes)
    assert scripted_log_average_miss_rate(*records, 1, CITYPERSONS, CITYPERSONS.subsets[0]) is None
