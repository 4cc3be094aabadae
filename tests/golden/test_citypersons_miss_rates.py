"""MR^-2 on real detections, against the numbers of the CityPersons benchmark's own script."""

from __future__ import annotations

from pathlib import Path

import pytest

from hkd.coco.ground_truth import read_ground_truth
from hkd.evaluation.evaluator import evaluate_boxes, evaluate_files
from hkd.evaluation.formats.detection_files import read_detections
from hkd.evaluation.protocols import CITYPERSONS_EXTENDED
from tests.evaluation.plain_evaluator import plain_log_average_miss_rate

# The script's output on these files (cvgroup-njust/CityPersons), setups Reasonable, Reasonable_small,
# Reasonable_occ=heavy and All.
BY_THE_SCRIPT = {
    "detections_csp_dla34_siblinghead.json": {
        "reasonable": 0.11346899607698208,
        "small": 0.1528420709521644,
        "heavy": 0.4130002841325083,
        "all": 0.37835122482602,
    },
    "detections_csp_dla34_siblinghead_bn.json": {
        "reasonable": 0.11467048422379555,
        "small": 0.14392019752683574,
        "heavy": 0.40570819504059286,
        "all": 0.37232765389648415,
    },
}


@pytest.mark.parametrize("name", BY_THE_SCRIPT)
def test_miss_rates_equal_citypersons_script(name: str, shared_data: Path) -> None:
    folder = shared_data / "citypersons"
    if not folder.is_dir():
        pytest.skip(f"no CityPersons files at {folder}")
    result = evaluate_files(folder / "val_gt.json", folder / name, "citypersons")
    for subset in result.subsets:
        assert subset.log_average_miss_rate == pytest.approx(BY_THE_SCRIPT[name][subset.name], abs=1e-9, rel=0)
    assert {subset.name for subset in result.subsets} == set(BY_THE_SCRIPT[name])
    assert result.num_images == 500
    # The size of the reasonable validation subset, as papers state it.
    assert result.subsets[0].num_ground_truth == 1579


def test_subsets_of_papers_equal_plain_evaluator(shared_data: Path) -> None:
    folder = shared_data / "citypersons"
    if not folder.is_dir():
        pytest.skip(f"no CityPersons files at {folder}")
    truth = read_ground_truth(folder / "val_gt.json")
    boxes = read_detections(folder / "detections_csp_dla34_siblinghead.json", truth)
    result = evaluate_boxes(truth, boxes, CITYPERSONS_EXTENDED)
    for subset, found in zip(CITYPERSONS_EXTENDED.subsets, result.subsets, strict=True):
        expected = plain_log_average_miss_rate(truth, boxes, CITYPERSONS_EXTENDED, subset)
        assert found.log_average_miss_rate == pytest.approx(expected, rel=1e-12)
    by_name = {subset.name: subset for subset in result.subsets}
    assert by_name["reasonable"].log_average_miss_rate == pytest.approx(0.11346899607698208, abs=1e-9, rel=0)
    # Partial and bare make up reasonable; those of exactly 0.9 count in both.
    on_the_bound = (truth.visibilities == 0.9) & (truth.heights >= 50) & ~truth.ignore
    in_both = by_name["partial"].num_ground_truth + by_name["bare"].num_ground_truth
    assert in_both == 1579 + on_the_bound.sum() == 1583
