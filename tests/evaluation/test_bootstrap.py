from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from hkd.evaluation import bootstrap
from hkd.evaluation.bootstrap import ResampledMissRates, compare, intervals, resample_miss_rates
from hkd.evaluation.evaluator import EvaluationInputError, evaluate
from hkd.evaluation.matching import Matches, match
from hkd.evaluation.protocols import CITYPERSONS, Protocol
from tests.evaluation.coco_files import EVERYONE, Json, coco, crowded_scene, detection, parse, person

BOX = [0.0, 0.0, 20.0, 60.0]
ELSEWHERE = [200.0, 0.0, 20.0, 60.0]
RESAMPLES = 40


def matched(ground_truth: Json, detections: list[Json], protocol: Protocol = CITYPERSONS) -> Matches:
    return match(*parse(ground_truth, detections), protocol)


def unequal_scores(detections: list[Json]) -> list[Json]:
    """Copies of an image keep their order against other images, but not within one score of the image itself."""
    return [{**one, "score": one["score"] + 1e-6 * i} for i, one in enumerate(detections)]


def copied(ground_truth: Json, detections: list[Json], weights: np.ndarray) -> tuple[Json, list[Json]]:
    """The data set with ``weights[i]`` adjacent copies of image i + 1."""
    people: list[Json] = []
    found: list[Json] = []
    number = 0
    for index, weight in enumerate(weights.tolist()):
        for _ in range(weight):
            number += 1
            people += [
                {**one, "image_id": number} for one in ground_truth["annotations"] if one["image_id"] == index + 1
            ]
            found += [{**one, "image_id": number} for one in detections if one["image_id"] == index + 1]
    return coco(number, people), found


def drawn(num_images: int, resamples: int, seed: int) -> np.ndarray:
    return np.concatenate(list(bootstrap._image_weights(num_images, resamples, seed)))


def in_one_image(num_images: int, wrong: int) -> tuple[Json, list[Json]]:
    """Every person is found after the false positives, which are all in image 1."""
    people = [person(i + 1, BOX) for i in range(num_images)]
    found = [detection(1, ELSEWHERE, 0.9) for _ in range(wrong)]
    return coco(num_images, people), found + [detection(i + 1, BOX, 0.5) for i in range(num_images)]


@pytest.mark.parametrize(
    ("ground_truth", "detections"),
    [
        crowded_scene(seed=5, num_images=12, people=5, detections=12),
        # So many false positives in one image that its weight decides whether the rest is reached, at 150 / 8 an image.
        in_one_image(num_images=8, wrong=150),
        crowded_scene(seed=6, num_images=1, people=4, detections=9),
    ],
)
@pytest.mark.parametrize("floor", [0.0, 1e-10])
def test_resample_equals_data_set_of_copied_images(ground_truth: Json, detections: list[Json], floor: float) -> None:
    protocol = replace(CITYPERSONS, fppi_points=(0.01, 0.1, 0.5, 1.0, 2.0), miss_rate_floor=floor)
    detections = unequal_scores(detections)
    found = resample_miss_rates(matched(ground_truth, detections, protocol), protocol, resamples=RESAMPLES, seed=7)
    weights = drawn(len(ground_truth["images"]), RESAMPLES, seed=7)
    assert weights.sum(axis=1).tolist() == RESAMPLES * [len(ground_truth["images"])]
    for row, of_resample in zip(weights, found.resampled.T, strict=True):
        expected = evaluate(*copied(ground_truth, detections, row), protocol)
        values = [math.nan if s.log_average_miss_rate is None else s.log_average_miss_rate for s in expected.subsets]
        np.testing.assert_allclose(of_resample, values, rtol=1e-12, atol=0)


def test_values_equal_evaluation() -> None:
    ground_truth, detections = crowded_scene(seed=1, num_images=40, people=4, detections=15)
    found = resample_miss_rates(matched(ground_truth, detections), CITYPERSONS, resamples=1)
    expected = evaluate(ground_truth, detections, CITYPERSONS)
    assert found.subsets == tuple(subset.name for subset in expected.subsets)
    values = np.array([subset.log_average_miss_rate for subset in expected.subsets], dtype=np.float64)
    np.testing.assert_allclose(found.values, values, rtol=1e-14, atol=0)


def test_fppi_points_allow_same_false_positives_as_curve() -> None:
    # Products round to either side: 0.58 * 50 is below 29, though 29 / 50 is 0.58; 0.8333333333333333 * 6 is 5, though
    # 5 / 6 is the next number above it.
    points = np.array([0.1, 0.29, 0.58, 0.7, 0.8333333333333333, 1.0])
    for num_images in (*range(1, 200), 10_000):
        fppi = np.arange(num_images + 2) / num_images
        expected = np.searchsorted(fppi, points, side="right") - 1
        assert bootstrap._most_within(points, num_images).tolist() == expected.tolist(), num_images
    # Beyond any number of detections.
    assert bootstrap._most_within(np.array([1e300]), 500).tolist() == [2**40 + 1]


def test_resamples_depend_on_seed_and_not_on_block_size(monkeypatch: pytest.MonkeyPatch) -> None:
    matches = matched(*crowded_scene(seed=1, num_images=20, people=4, detections=9))
    first = resample_miss_rates(matches, CITYPERSONS, resamples=50, seed=1).resampled
    assert not np.array_equal(first, resample_miss_rates(matches, CITYPERSONS, resamples=50, seed=2).resampled)
    monkeypatch.setattr(bootstrap, "ELEMENTS_AT_A_TIME", 130)
    np.testing.assert_array_equal(first, resample_miss_rates(matches, CITYPERSONS, resamples=50, seed=1).resampled)


def test_interval_of_proportion_has_theoretical_width() -> None:
    # One person in each of 400 images, every other one found, nothing else: MR^-2 is the share of the missed, 0.5,
    # with a standard error of sqrt(0.5 * 0.5 / 400) = 0.025. The interval is 0.5 +- 1.96 * 0.025 = [0.451, 0.549].
    people = [person(i + 1, BOX) for i in range(400)]
    found = [detection(i + 1, BOX, 0.9) for i in range(0, 400, 2)]
    miss_rates = resample_miss_rates(matched(coco(400, people), found, EVERYONE), EVERYONE, resamples=4000, seed=0)
    (interval,) = intervals(miss_rates)
    assert (interval.subset, interval.confidence, interval.resamples_without_value) == ("everyone", 0.95, 0)
    # An end's own chance: sqrt(0.025 * 0.975 / 4000) / density(1.96) = 0.042 standard errors, 0.001.
    assert interval.low == pytest.approx(0.451, abs=0.004)
    assert interval.high == pytest.approx(0.549, abs=0.004)


def by_hand(*resampled: float, value: float = 0.5, seed: int = 0) -> ResampledMissRates:
    return ResampledMissRates(("everyone",), np.array([value]), np.array([resampled]), np.ones((1, 3), np.int64), seed)


def test_interval_excludes_equal_shares_at_both_ends() -> None:
    # 0.00, 0.01 ... 1.00: the quantiles are the probabilities themselves.
    (interval,) = intervals(by_hand(*np.linspace(0, 1, 101)), confidence=0.9)
    assert interval.low == pytest.approx(0.05)
    assert interval.high == pytest.approx(0.95)


def test_resamples_without_ground_truth_are_excluded_and_counted() -> None:
    # The one person is in one of two images, missed. A resample draws the other image twice with probability 1/4.
    matches = matched(coco(2, [person(1, BOX)]), [], EVERYONE)
    miss_rates = resample_miss_rates(matches, EVERYONE, resamples=400, seed=0)
    (interval,) = intervals(miss_rates)
    without = int((drawn(2, 400, seed=0)[:, 0] == 0).sum())
    assert 60 < without < 140
    assert interval.resamples_without_value == without
    assert (interval.low, interval.high) == (1.0, 1.0)
    (comparison,) = compare(miss_rates, miss_rates)
    assert comparison.resamples_without_value == without


def test_no_interval_without_ground_truth() -> None:
    matches = matched(coco(3, [person(1, BOX, ignore=1)]), [detection(2, BOX, 0.5)], EVERYONE)
    miss_rates = resample_miss_rates(matches, EVERYONE, resamples=10)
    (interval,) = intervals(miss_rates)
    assert (interval.low, interval.high, interval.resamples_without_value) == (None, None, 10)
    (comparison,) = compare(miss_rates, miss_rates)
    assert (comparison.difference, comparison.low, comparison.high) == (None, None, None)
    assert comparison.probability_second_better is None


def test_one_image_has_interval_of_width_zero() -> None:
    people = [person(1, BOX), person(1, [100, 0, 20, 60])]
    matches = matched(coco(1, people), [detection(1, BOX, 0.9)], EVERYONE)
    (interval,) = intervals(resample_miss_rates(matches, EVERYONE, resamples=20))
    assert interval.low == interval.high == pytest.approx(0.5, rel=1e-12)


def test_comparison_is_paired_by_resample() -> None:
    # Differences: -0.1, 0 (half), +0.2, none: the second is better in 1.5 of 3.
    first, second = by_hand(0.4, 0.5, 0.6, math.nan), by_hand(0.3, 0.5, 0.8, math.nan, value=0.55)
    (comparison,) = compare(first, second, confidence=0.5)
    assert comparison.difference == pytest.approx(0.05)
    assert comparison.probability_second_better == pytest.approx(0.5)
    # Quantiles 1/4 and 3/4 of three values are half-way between neighbours.
    assert comparison.low == pytest.approx(-0.05)
    assert comparison.high == pytest.approx(0.1)
    assert comparison.resamples_without_value == 1
    (back,) = compare(second, first)
    assert back.difference == pytest.approx(-0.05)


def test_pairing_cancels_difficulty_of_images() -> None:
    # Every other person is missed by both, and one more by the second: always at least as bad, though the single
    # intervals overlap by far.
    people = [person(i + 1, BOX) for i in range(100)]
    found = [detection(i + 1, BOX, 0.9) for i in range(0, 100, 2)]
    truth = coco(100, people)
    rates = [resample_miss_rates(matched(truth, dets, EVERYONE), EVERYONE) for dets in (found, found[1:])]
    (comparison,) = compare(rates[0], rates[1])
    assert comparison.difference == pytest.approx(0.01)
    # Equal, which counts half, where the image is not drawn: 0.99^100 = 0.366 of the resamples.
    assert comparison.probability_second_better == pytest.approx(0.183, abs=0.025)
    assert comparison.low is not None
    assert comparison.low >= 0


def test_comparison_of_different_resamples_is_rejected() -> None:
    one = by_hand(0.1, 0.2)
    others = [by_hand(0.1, 0.2, seed=1), by_hand(0.1), replace(one, counted_per_image=np.zeros((1, 3), np.int64))]
    for other in others:
        with pytest.raises(EvaluationInputError, match="only on the same resamples"):
            compare(one, other)
