"""Miss rates pooled over seeds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.photographs.rows import PRETRAINED, REFERENCES, TEACHER
from benchmarks.photographs.statistics import evaluate_rows, pool
from benchmarks.photographs.table import caption, table
from hkd.coco.annotations import parse_annotations
from hkd.coco.detections import DetectedBoxes, no_detections
from hkd.coco.ground_truth import GroundTruth
from hkd.coco.writing import annotation_document
from hkd.config import StudentConfig, TeacherConfig, TrainingConfig, TrialConfig
from hkd.evaluation.bootstrap import ResampledMissRates
from hkd.evaluation.formats.protocol_files import load_protocol
from hkd.models.cost import Cost

BOX = [10.0, 10.0, 40.0, 100.0]


def _ground_truth(num_photographs: int = 40) -> GroundTruth:
    """Photographs with one person each, at the same place."""
    images = [{"id": i, "file_name": f"{i}.png", "height": 200, "width": 200} for i in range(1, num_photographs + 1)]
    people = [{"image_id": i, "bbox": BOX} for i in range(1, num_photographs + 1)]
    return parse_annotations(
        annotation_document(images, people, "."), Path("test.json"), check_images=False
    ).ground_truth()


def _found(indices: list[int]) -> DetectedBoxes:
    """The people of these photographs, found exactly."""
    return DetectedBoxes(np.array(indices), np.tile(BOX, (len(indices), 1)), np.linspace(0.9, 0.5, len(indices)))


def test_pooled_rates_are_means_over_seeds() -> None:
    first, second = (
        ResampledMissRates(("reasonable",), np.array([v]), np.array([[v, w]]), np.ones((1, 3), dtype=np.int64), 0)
        for v, w in ((0.2, 0.4), (0.4, 0.0))
    )
    pooled = pool([first, second])
    assert pooled.values == pytest.approx(0.3)
    assert pooled.resampled == pytest.approx(np.array([[0.3, 0.2]]))


def test_row_has_mean_of_its_seeds_and_paired_differences() -> None:
    # Without false positives the miss rate at every FPPI is 1 - recall: 30 and 20 of 40 found miss 0.25 and 0.5.
    detections = {
        TEACHER: [_found(list(range(30))), _found(list(range(30)))],
        PRETRAINED: [_found(list(range(20))), _found(list(range(20)))],
        "both": [_found(list(range(30))), _found(list(range(20)))],
    }
    results = evaluate_rows(
        _ground_truth(),
        detections,
        load_protocol("citypersons"),
        subset="reasonable",
        references=(TEACHER, PRETRAINED),
        resamples=200,
    )
    both = results["both"]
    assert both.miss_rates == pytest.approx((0.25, 0.5))
    assert both.mean == pytest.approx(0.375)
    assert both.interval.low is not None
    assert both.interval.high is not None
    assert both.interval.low < 0.375 < both.interval.high
    assert {row: each.difference for row, each in both.differences.items()} == pytest.approx(
        {TEACHER: 0.125, PRETRAINED: -0.125}
    )
    # 0.25 and 0.5 of `both` against 0.25 of every teacher and 0.5 of every pretrained student.
    assert both.differences_by_seed == {
        TEACHER: pytest.approx((0.0, 0.25)),
        PRETRAINED: pytest.approx((-0.25, 0.0)),
    }
    # Both are right on the same photographs but ten, in half of the seeds: each resampled difference is half the share
    # of these ten, which never turns its sign.
    low = both.differences[TEACHER].low
    assert low is not None
    assert low >= 0
    assert results[TEACHER].differences.keys() == {PRETRAINED}


def test_table_has_a_line_for_each_row_in_per_cent() -> None:
    detections = {TEACHER: [_found(list(range(30)))] * 2, "alone": [no_detections(), _found(list(range(20)))]}
    results = evaluate_rows(
        _ground_truth(),
        detections,
        load_protocol("citypersons"),
        subset="reasonable",
        references=REFERENCES,
        resamples=20,
    )
    costs = {TEACHER: Cost(8_000_000, 1), "alone": Cost(1_000_000, 1)}
    header, rule, teacher, alone = table("test", 40, results, costs).splitlines()
    assert header.startswith("| 40 test photographs |")
    assert header.count("|") == rule.count("|") == teacher.count("|") == alone.count("|")
    assert "| 25.0 ± 0.0 (25.0, 25.0) |" in teacher
    # Nobody found misses 100 %, half of them 50 %; the sample's standard deviation of 100 and 50 is 35.4.
    assert "| 1.00 M | 8.0x | 75.0 ± 35.4 (100.0, 50.0) |" in alone
    # Against 25 % of both teachers: 75 and 25 points, with the same deviation.
    assert "| +50.0 ± 35.4 [" in alone
    assert alone.endswith("] (+75.0, +25.0) |  |"), "nothing against itself"
    assert teacher.endswith("] (-75.0, -25.0) |")
    assert "minus teacher" in header
    assert "minus alone," in header
    assert "pretrained" not in header


def test_caption_states_the_shared_pretraining_and_the_fit() -> None:
    plain = TrialConfig(
        teacher=TeacherConfig(training=TrainingConfig()), student=StudentConfig(reconstruction_images=0)
    )
    assert [word for word in ("pretraining", "fitted") if word in caption(plain)] == []
    full = TrialConfig(
        teacher=TeacherConfig(training=TrainingConfig(), init_from_synthetic=TrainingConfig()),
        student=StudentConfig(reconstruction_images=17),
    )
    text = caption(full)
    assert "one pretraining" in text
    assert "`student.reconstruction_images`: 17" in text
