from __future__ import annotations

import numpy as np
import pytest

from hkd.evaluation.matching import FALSE_POSITIVE, LEFT_OUT, TRUE_POSITIVE, match
from hkd.evaluation.miss_rate import MissRateCurve, log_average_miss_rate, miss_rate_curve
from hkd.evaluation.protocols import CITYPERSONS
from tests.evaluation.coco_files import EVERYONE, coco, crowded_scene, detection, parse, person
from tests.evaluation.plain_evaluator import plain_log_average_miss_rate

POINTS = CITYPERSONS.fppi_points


def curve_of(*outcomes: int, people: int, images: int) -> MissRateCurve:
    return miss_rate_curve(np.array(outcomes, dtype=np.int8), people, images)


def test_curve_has_a_point_for_each_evaluated_detection() -> None:
    curve = curve_of(TRUE_POSITIVE, LEFT_OUT, FALSE_POSITIVE, FALSE_POSITIVE, TRUE_POSITIVE, people=4, images=10)
    assert curve.fppi.tolist() == [0.0, 0.1, 0.2, 0.2]
    assert curve.miss_rate.tolist() == [0.75, 0.75, 0.75, 0.5]


def test_curve_is_read_at_last_point_within_fppi() -> None:
    curve = curve_of(TRUE_POSITIVE, FALSE_POSITIVE, TRUE_POSITIVE, FALSE_POSITIVE, people=4, images=10)
    assert curve.at([0.05, 0.1, 0.19, 0.2, 5.0]).tolist() == [0.75, 0.5, 0.5, 0.5, 0.5]


def test_mean_is_geometric() -> None:
    # 100 images: the first false positive is at FPPI 0.01, the 50th at 0.5. Found by then 1, afterwards 3 of 4:
    # miss rate 0.75 at seven points (to 0.3162), 0.25 at the last two.
    outcomes = [TRUE_POSITIVE] + 50 * [FALSE_POSITIVE] + 2 * [TRUE_POSITIVE]
    curve = curve_of(*outcomes, people=4, images=100)
    expected = (0.75**7 * 0.25**2) ** (1 / 9)
    assert log_average_miss_rate(curve, POINTS) == pytest.approx(expected, rel=1e-12)


def test_miss_rate_of_zero_makes_mean_zero_without_floor() -> None:
    # One image: everyone is found after one false positive, so 0 at FPPI 1 and 0.5 at the eight points before.
    curve = curve_of(TRUE_POSITIVE, FALSE_POSITIVE, TRUE_POSITIVE, people=2, images=1)
    assert log_average_miss_rate(curve, POINTS) == 0.0
    floored = log_average_miss_rate(curve, POINTS, floor=1e-10)
    assert floored == pytest.approx((0.5**8 * 1e-10) ** (1 / 9), rel=1e-12)


def test_miss_rate_is_one_without_detections() -> None:
    curve = curve_of(people=3, images=5)
    assert log_average_miss_rate(curve, POINTS) == 1.0
    assert log_average_miss_rate(curve_of(LEFT_OUT, people=3, images=5), POINTS) == 1.0


def test_miss_rate_is_one_below_fppi_of_first_point() -> None:
    """The CityPersons script differs here; hkd follows Dollar's code."""
    # Two images, two people. Best first: a false positive (FPPI 1 / 2), then one of the two people, found.
    # Up to FPPI 0.3162, seven points, no threshold exists at which anything is found: the miss rate is 1. At 0.5623
    # and 1 it is 0.5. The script reads the last recall at those seven as well, which gives 0.5.
    box = [0.0, 0.0, 20.0, 60.0]
    people = [person(1, box), person(2, box)]
    detections = [detection(1, [200, 0, 20, 60], 0.9), detection(2, box, 0.8)]
    truth, boxes = parse(coco(2, people), detections)
    curve = miss_rate_curve(match(truth, boxes, EVERYONE).outcomes[0], 2, 2)
    assert curve.at(POINTS).tolist() == [1.0] * 7 + [0.5] * 2
    ours = log_average_miss_rate(curve, POINTS)
    assert ours == pytest.approx(0.5 ** (2 / 9), rel=1e-12)

    subset = EVERYONE.subsets[0]
    assert plain_log_average_miss_rate(truth, boxes, EVERYONE, subset) == pytest.approx(ours, rel=1e-12)
    scripts = plain_log_average_miss_rate(truth, boxes, EVERYONE, subset, as_the_script=True)
    assert scripts == pytest.approx(0.5, rel=1e-12)


def test_person_found_before_any_false_positive_counts_at_every_point() -> None:
    # The same with the scores exchanged: found at FPPI 0.
    curve = curve_of(TRUE_POSITIVE, FALSE_POSITIVE, people=2, images=2)
    assert log_average_miss_rate(curve, POINTS) == pytest.approx(0.5, rel=1e-12)


@pytest.mark.parametrize(("num_images", "people"), [(1, 80), (4, 30), (40, 8)])
def test_equals_plain_evaluator(num_images: int, people: int) -> None:
    truth, boxes = parse(*crowded_scene(seed=num_images, num_images=num_images, people=people, detections=people + 4))
    matches = match(truth, boxes, CITYPERSONS)
    for s, subset in enumerate(CITYPERSONS.subsets):
        curve = miss_rate_curve(matches.outcomes[s], int(matches.counted_per_image[s].sum()), num_images)
        expected = plain_log_average_miss_rate(truth, boxes, CITYPERSONS, subset)
        assert log_average_miss_rate(curve, POINTS) == pytest.approx(expected, rel=1e-12)


def long_curve() -> MissRateCurve:
    outcomes = np.random.default_rng(0).choice([TRUE_POSITIVE, FALSE_POSITIVE], 5000, p=[0.2, 0.8])
    return curve_of(*outcomes.tolist(), people=1500, images=500)


def test_downsampled_curve_is_unchanged_at_fppi_points() -> None:
    full = long_curve()
    short = full.downsampled(POINTS, max_points=50)
    assert 40 <= len(short.fppi) <= 50 + len(POINTS) + 2
    assert short.at(POINTS).tolist() == full.at(POINTS).tolist()
    pairs = set(zip(full.fppi.tolist(), full.miss_rate.tolist(), strict=True))
    assert pairs.issuperset(zip(short.fppi.tolist(), short.miss_rate.tolist(), strict=True))
    assert (short.fppi[0], short.miss_rate[0]) == (full.fppi[0], full.miss_rate[0])
    assert (short.fppi[-1], short.miss_rate[-1]) == (full.fppi[-1], full.miss_rate[-1])


def test_downsampling_twice_changes_nothing() -> None:
    once = long_curve().downsampled(POINTS, max_points=50)
    again = once.downsampled(POINTS, max_points=50)
    assert once.fppi.tolist() == again.fppi.tolist()
    assert once.miss_rate.tolist() == again.miss_rate.tolist()


def test_curve_without_false_positives_can_be_downsampled() -> None:
    curve = curve_of(*[TRUE_POSITIVE] * 300, people=400, images=10)
    short = curve.downsampled(POINTS, max_points=50)
    assert short.fppi.tolist() == [0.0, 0.0]
    assert short.miss_rate.tolist() == [1 - 1 / 400, 0.25]
