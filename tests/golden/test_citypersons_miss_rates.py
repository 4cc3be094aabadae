"""MR^-2 on real detections, against the numbers of the CityPersons benchmark's own script."""

from __future__ import annotations

from pathlib import Path

import pytest

from hkd.evaluation.evaluator import evaluate_files

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
def test_miss_rates_equal_those_of_the_script(name: str, shared_data: Path) -> None:
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
