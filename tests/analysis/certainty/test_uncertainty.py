from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest

from analysis.certainty import uncertainty as module
from analysis.certainty.uncertainty import ReadDetections, on_front, resampled_students, uncertainty_of
from analysis.front import Front, find_front
from analysis.records.study_records import TrialRecord
from hkd.dominance import non_dominated
from hkd.evaluation.bootstrap import intervals, resample_outcomes
from hkd.evaluation.formats.stored_detections import StoredDetections
from tests.analysis.studies import TEACHER, found_in, record, records

IMAGES = 100


def finding(number: int) -> list[bool]:
    """Of 100 people, the first ``number`` are found."""
    return [index < number for index in range(IMAGES)]


def reader(**found: StoredDetections) -> ReadDetections:
    def read(run_ids: Sequence[str]) -> Mapping[str, StoredDetections]:
        return {f"run-of-{name}": each for name, each in found.items() if f"run-of-{name}" in run_ids}

    return read


def front_of(*trials: TrialRecord) -> Front:
    return find_front(records(trials, TEACHER))


def test_interval_of_one_student_is_that_of_a_share() -> None:
    # 30 of 100 are missed: the bootstrap's standard deviation is sqrt(0.3 x 0.7 / 100) = 0.0458, and 1.96 of it 0.090.
    found = uncertainty_of(front_of(record("a", 0.3, 1e6, 1e9)), reader(a=found_in(finding(70), num_false=20)))
    interval = found.intervals["a"]["mr2_reasonable"]
    assert interval.low == pytest.approx(0.21, abs=0.02)
    assert interval.high == pytest.approx(0.39, abs=0.02)
    assert found.num_images == IMAGES
    assert found.absent_because is None


def test_intervals_cover_the_true_miss_rate() -> None:
    # Percentile intervals of a share of 0.3 over 100 images: 93 to 95 % cover it; of 300, within 3 standard deviations.
    random = np.random.default_rng(0)
    covered = 0
    for seed in range(300):
        stored = found_in((random.random(IMAGES) > 0.3).tolist())
        of_one = resample_outcomes(
            stored.matches("reasonable"), ("reasonable",), stored.fppi_points, 0.0, resamples=200, seed=seed
        )
        (interval,) = intervals(of_one)
        assert interval.low is not None
        assert interval.high is not None
        covered += interval.low <= 0.3 <= interval.high
    assert 0.90 <= covered / 300 <= 0.98


def test_probability_of_the_front_is_that_of_drawing_no_image_that_differs() -> None:
    # Equal costs; b finds one person more. a is on the front where that image is not drawn: 0.99^100 = 0.366.
    front = front_of(record("a", 0.30, 1e6, 1e9), record("b", 0.29, 1e6, 1e9), record("c", 0.5, 5e5, 1e8))
    found = uncertainty_of(front, reader(a=found_in(finding(70)), b=found_in(finding(71)), c=found_in(finding(50))))
    assert found.front_probability["a"] == pytest.approx(0.366, abs=0.05)
    assert found.front_probability["b"] == found.front_probability["c"] == 1.0


def test_front_of_resamples_equals_plain_dominance() -> None:
    random = np.random.default_rng(1)
    costs, rates = random.integers(1, 4, (12, 2)).astype(float), random.integers(1, 4, (12, 2, 30)).astype(float)
    found = on_front(costs, rates)
    for resample in range(30):
        expected = non_dominated(np.concatenate([costs, rates[:, :, resample]], axis=1))
        np.testing.assert_array_equal(found[:, resample], expected)


def test_front_of_resamples_does_not_depend_on_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(2)
    costs, rates = random.random((5, 1)), random.random((5, 1, 20))
    expected = on_front(costs, rates)
    monkeypatch.setattr(module, "_ELEMENTS_AT_A_TIME", 60)
    np.testing.assert_array_equal(on_front(costs, rates), expected)


def test_differences_on_the_same_images() -> None:
    plain = record("plain", 0.4, 1e6, 1e9, role="baseline", baseline="undistilled")
    same_size = record("same", 0.3, 1e6, 1e9, params={"distillation.logits.weight": 1.0})
    larger = record("larger", 0.29, 2e6, 2e9, params={"distillation.logits.weight": 1.0})
    read = reader(
        plain=found_in(finding(60)),
        same=found_in(finding(70)),
        larger=found_in(finding(71)),
        teacher=found_in(finding(80)),
    )
    found = uncertainty_of(front_of(plain, same_size, larger), read)
    # The ten people that only the second finds: 10 +- 1.96 x sqrt(100 x 0.1 x 0.9) / 100 points.
    (gain,) = found.against_undistilled
    assert (gain.first, gain.second) == ("plain", "same")
    assert gain.value == pytest.approx(-0.1)
    assert gain.low == pytest.approx(-0.16, abs=0.02)
    assert gain.high == pytest.approx(-0.04, abs=0.02)
    assert gain.is_distinguishable
    (neighbours,) = found.neighbours
    assert (neighbours.first, neighbours.second) == ("same", "larger")
    assert not neighbours.is_distinguishable
    # Equal ones, in 0.366 of the resamples, count half.
    assert neighbours.probability_second_better == pytest.approx(1 - 0.366 / 2, abs=0.03)
    assert [each.second for each in found.against_teacher] == ["larger", "same"]
    swapped = found.compare("larger", "same", "mr2_reasonable")
    assert swapped is not None
    assert neighbours.high is not None
    assert swapped.value == pytest.approx(-neighbours.value)
    assert swapped.low == pytest.approx(-neighbours.high)


def test_study_without_stored_detections_has_a_reason() -> None:
    found = uncertainty_of(front_of(record("a", 0.3, 1e6, 1e9)), lambda _: {})
    assert found.absent_because is not None
    assert found.intervals == {}
    assert found.compare("a", "a", "mr2_reasonable") is None


def test_detections_of_other_images_or_values_are_ignored_and_named() -> None:
    trials = [
        record(name, rate, cost, cost) for name, rate, cost in (("a", 0.3, 3.0), ("b", 0.4, 2.0), ("c", 0.5, 1.0))
    ]
    other_subset = replace(found_in(finding(50)), subsets=("all",))
    for ignored in (found_in([*finding(50), True, False]), found_in(finding(51)), other_subset):
        found = uncertainty_of(front_of(*trials), reader(a=found_in(finding(70)), b=found_in(finding(60)), c=ignored))
        assert set(found.intervals) == {"a", "b"}
        assert any("c" in note.split(": ")[1].rstrip(".").split(", ") for note in found.notes)


def test_number_of_images_is_that_of_the_resampled_students() -> None:
    # The first one that is read, a, has detections of another validation set, with another subset.
    other = replace(found_in([True] * 7), subsets=("all",))
    front = front_of(record("a", 0.3, 1e6, 1e9), record("b", 0.2, 2e6, 1e9))
    found = uncertainty_of(front, reader(b=found_in(finding(80)), a=other))
    assert set(found.intervals) == {"b"}
    assert found.num_images == IMAGES


def test_students_nearest_to_the_front_are_resampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_STUDENTS", 4)
    trials = [
        record("best", 0.3, 1e6, 1e9),
        record("plain", 0.9, 2e6, 2e9, role="baseline", baseline="undistilled"),
        *(record(f"t{index}", 0.3 + 0.01 * index, 1e6, 1e9) for index in range(1, 6)),
    ]
    front = front_of(*reversed(trials))
    assert [student.trial_id for student in resampled_students(front)] == ["best", "plain", "t1", "t2"]
    found = uncertainty_of(front, reader(best=found_in(finding(70))))
    assert any("4" in note and "7" in note for note in found.notes)
