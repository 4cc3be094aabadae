"""MR^-2 on real detections of Caltech-USA, against the numbers of Dollar's own code."""

from __future__ import annotations

from pathlib import Path

import pytest

from hkd.coco.ground_truth import read_ground_truth
from hkd.data.sources.caltech.convert import convert
from hkd.evaluation.evaluator import EvaluationResult, evaluate_files
from hkd.evaluation.formats.detection_files import read_detections
from hkd.evaluation.protocols import CALTECH
from tests.evaluation.plain_evaluator import plain_log_average_miss_rate

# dbEval on the original annotations, with the number of boxes that count; HOG's legend in its plot says 68%.
HOG_BY_DBEVAL = {
    "reasonable": (0.6845562553162496, 1014),
    "all": (0.9035942377481468, 3292),
    "scale_large": (0.3792542428903779, 176),
    "scale_near": (0.4403585665971013, 314),
    "scale_medium": (0.8739172981881634, 1542),
    "occ_none": (0.6647033081560794, 911),
    "occ_partial": (0.8447487391347168, 102),
    "occ_heavy": (0.9597486928310549, 273),
}
# acfTest on the detections that his toolbox ships, published as 28.91%.
ACF_BY_ACF_TEST = {"reasonable": (0.2890895861756799, 1000)}


@pytest.fixture(scope="module")
def caltech(shared_data: Path) -> Path:
    folder = shared_data / "caltech"
    if not folder.is_dir():
        pytest.skip(f"no Caltech files at {folder}")
    return folder


@pytest.fixture(scope="module")
def ground_truth(caltech: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every 30th frame of the test sets, from the original annotations."""
    out = tmp_path_factory.mktemp("caltech")
    convert(caltech, out, annotations_only=True)
    return out / "test.json"


def assert_equals(result: EvaluationResult, reference: dict[str, tuple[float, int]]) -> None:
    assert result.num_images == 4024
    assert {subset.name for subset in result.subsets} == set(reference)
    for subset in result.subsets:
        value, num_boxes = reference[subset.name]
        assert subset.log_average_miss_rate == pytest.approx(value, abs=1e-9, rel=0), subset.name
        assert subset.num_ground_truth == num_boxes, subset.name


def test_hog_miss_rates_equal_dbeval(caltech: Path, ground_truth: Path) -> None:
    folder = caltech / "detections" / "HOG"
    result = evaluate_files(ground_truth, folder, "caltech", height_scale=100 / 128)
    assert_equals(result, HOG_BY_DBEVAL)
    assert result.num_detections == 33508
    # Not one of the four classes that dbEval reads.
    assert "Neither counted nor ignored, as caltech does not list their class: 91 person-fa." in result.notes
    # HOG has detections of the training sets, 00 to 05, too.
    assert f"{folder}: 71 of 137 videos are not in the ground truth." in result.notes


def test_plain_evaluator_equals_dbeval_on_hog(caltech: Path, ground_truth: Path) -> None:
    truth = read_ground_truth(ground_truth)
    boxes = read_detections(caltech / "detections" / "HOG", truth, height_scale=100 / 128)
    for subset in CALTECH.subsets:
        value = plain_log_average_miss_rate(truth, boxes, CALTECH, subset)
        assert value == pytest.approx(HOG_BY_DBEVAL[subset.name][0], abs=1e-9, rel=0)


def test_acf_miss_rate_equals_acf_test(caltech: Path, ground_truth: Path) -> None:
    result = evaluate_files(ground_truth, caltech / "detections" / "AcfCaltechPlus.txt", "acf")
    assert_equals(result, ACF_BY_ACF_TEST)
    assert result.num_detections == 5406
