from __future__ import annotations

import math

import numpy as np
import pytest

from analysis.front import find_front, knee_index
from hkd import metric_names as names
from tests.analysis.studies import TEACHER, record, records

# By (miss rate, parameters, FLOPs); the teacher has (0.2, 6e6, 10e9).
GOOD = record("good", 0.25, 3e6, 5e9)
BENT = record("bent", 0.30, 1e6, 1e9)
SMALL = record("small", 0.80, 5e5, 6e8)
BEATEN = record("beaten", 0.35, 2e6, 2e9)
"""Dominated by BENT."""


def test_front_gaps_and_ratios() -> None:
    front = find_front(records([SMALL, BEATEN, GOOD, BENT], TEACHER))
    assert [(s.trial_id, s.rank) for s in front.students] == [
        ("good", 1),
        ("bent", 2),
        ("beaten", None),
        ("small", 3),
    ]
    assert [s.trial_id for s in front.members] == ["good", "bent", "small"]
    assert [s.trial_id for s in front.pairs[0].students] == ["small", "bent", "good"]
    bent = front.student("bent")
    assert bent.gaps["mr2_reasonable"] == pytest.approx(0.1, abs=1e-12)
    assert bent.times_fewer["num_params"] == 6.0
    assert bent.times_fewer["flops"] == 10.0


def test_params_and_flops_fronts_differ() -> None:
    # FEW has the fewest parameters, LIGHT the fewest FLOPs; at the same miss rate neither dominates the other in all
    # three objectives, each dominates the other in one pair.
    few, light = record("few", 0.4, 1e6, 3e9), record("light", 0.4, 2e6, 1e9)
    front = find_front(records([few, light], TEACHER))
    assert [s.trial_id for s in front.members] == ["few", "light"]
    assert [s.trial_id for s in front.pairs[0].students] == ["few"]
    assert [s.trial_id for s in front.pairs[1].students] == ["light"]


def test_third_objective_decides_between_equals_in_pair() -> None:
    # Equal in (miss rate, parameters); WASTEFUL needs more FLOPs, so it is off the front and off both plots.
    thrifty, wasteful = record("thrifty", 0.4, 1e6, 1e9), record("wasteful", 0.4, 1e6, 2e9)
    front = find_front(records([wasteful, thrifty], TEACHER))
    assert [s.trial_id for s in front.pairs[0].students] == ["thrifty"]
    assert front.student("wasteful").rank is None


def test_trials_with_equal_objectives_are_all_on_front() -> None:
    front = find_front(records([record("b", 0.4, 1e6, 1e9), record("a", 0.4, 1e6, 1e9)], TEACHER))
    assert [(s.trial_id, s.rank) for s in front.members] == [("a", 1), ("b", 2)]


def test_only_counted_trials_are_compared() -> None:
    stopped = record("stopped", 0.01, 1e3, 1e6, status="stopped", not_counted_because="stopped after 50 %")
    incomplete = record("incomplete", 0.01, 1e3, 1e6, not_counted_because="num_params is missing")
    front = find_front(records([stopped, incomplete, BENT], TEACHER))
    assert [s.trial_id for s in front.students] == ["bent"]


def test_study_without_finished_trial_is_error() -> None:
    with pytest.raises(ValueError, match="study 'demo' has no trial"):
        find_front(records([], TEACHER))


def test_hypervolumes_are_shares_of_box_up_to_teacher() -> None:
    front = find_front(records([record("one", 0.25, 3e6, 1e9)], TEACHER))
    by_objectives = {tuple(o.name for o in each.objectives): each for each in front.hypervolumes}
    params = by_objectives[names.MR2_REASONABLE, names.NUM_PARAMS]
    # (1 - 0.25) * (6 - 3) / 6 = 0.375
    assert params.value == pytest.approx(0.375, rel=1e-12)
    assert params.reference_point == (1.0, 6e6)
    # (1 - 0.25) * (10 - 1) / 10 = 0.675
    assert by_objectives[names.MR2_REASONABLE, names.FLOPS].value == pytest.approx(0.675, rel=1e-12)
    # 0.75 * 0.5 * 0.9 = 0.3375
    assert by_objectives[names.DEFAULT_OBJECTIVES].value == pytest.approx(0.3375, rel=1e-12)
    assert by_objectives[names.DEFAULT_OBJECTIVES].reference_point == (1.0, 6e6, 10e9)
    assert [each.beyond_reference for each in front.hypervolumes] == [0, 0, 0]


def test_student_larger_than_teacher_lies_beyond_reference() -> None:
    front = find_front(records([record("huge", 0.1, 7e6, 1e9), record("one", 0.25, 3e6, 1e9)], TEACHER))
    params = front.hypervolumes[0]
    assert params.value == pytest.approx(0.375, rel=1e-12)
    assert params.beyond_reference == 1


def test_hypervolume_of_a_single_known_latency_is_not_defined() -> None:
    students = [record("timed", 0.3, 1e6, 1e9, metrics={"latency_ms": 5.0}), record("other", 0.2, 2e6, 2e9)]
    by_cost = {each.objectives[-1].name: each for each in find_front(records(students, TEACHER)).hypervolumes[:3]}
    # The teacher's latency is unknown, so that the reference point is the only student's own.
    assert (by_cost["latency_ms"].is_defined, by_cost["latency_ms"].num_students) == (False, 1)
    assert (by_cost["num_params"].is_defined, by_cost["num_params"].num_students) == (True, 2)
    # Of the teacher's, a student that is slower reaches nothing: 0 is its hypervolume.
    timed = record("teacher", 0.2, 6e6, 10e9, role="teacher", metrics={"latency_ms": 4.0})
    (of_teacher,) = (each for each in find_front(records(students, timed)).hypervolumes if len(each.objectives) == 2
                     and each.objectives[1].name == "latency_ms")  # fmt: skip
    assert (of_teacher.is_defined, of_teacher.value) == (True, 0.0)
    # Two latencies: (1 - 0.3) x (8 - 5) / 8 = 0.2625.
    students[1] = record("other", 0.2, 2e6, 2e9, metrics={"latency_ms": 8.0})
    both = {each.objectives[-1].name: each for each in find_front(records(students, TEACHER)).hypervolumes[:3]}
    assert both["latency_ms"].is_defined
    assert both["latency_ms"].value == pytest.approx(0.2625, rel=1e-12)


def test_without_teacher_largest_student_is_reference() -> None:
    front = find_front(records([record("large", 0.2, 4e6, 8e9), record("light", 0.6, 1e6, 2e9)]))
    params = front.hypervolumes[0]
    assert params.reference_point == (1.0, 4e6)
    # (1 - 0.6) * (4 - 1) / 4 = 0.3; the large one is on the boundary of the box.
    assert params.value == pytest.approx(0.3, rel=1e-12)
    assert params.beyond_reference == 1
    student = front.student("light")
    assert (student.gaps, student.times_fewer) == ({}, {})


def test_settings_are_those_in_which_trials_differ() -> None:
    first = record("t0", 0.3, 1e6, 1e9, params={"student.width_multiplier": 0.5, "training.seed": 0})
    second = record("t1", 0.4, 1e6, 1e9, params={"student.width_multiplier": 0.25, "training.seed": 0})
    # The baseline's weight is not searched.
    plain = record(
        "b0", 0.5, 1e6, 1e9, role="baseline", baseline="undistilled", params={"distillation.logits.weight": 0.0}
    )
    front = find_front(records([first, second, plain], TEACHER))
    assert front.student("t1").settings == {"student.width_multiplier": 0.25}
    assert front.student("b0").settings == {"student.width_multiplier": None}


def test_front_follows_objectives_of_study() -> None:
    # In (mr2_all, parameters), FEW dominates; the miss rate on reasonable pedestrians and the FLOPs do not count.
    few = record("few", 0.9, 1e6, 9e9, metrics={"mr2_all": 0.5})
    many = record("many", 0.1, 2e6, 1e9, metrics={"mr2_all": 0.6})
    teacher = record("teacher", 0.9, 4e6, 9e9, role="teacher", metrics={"mr2_all": 0.2})
    front = find_front(records([few, many], teacher, objectives=("mr2_all", "num_params")))
    assert [student.trial_id for student in front.members] == ["few"]
    assert [(pair.miss_rate.name, pair.cost.name, pair.key) for pair in front.pairs] == [
        ("mr2_all", "num_params", "params")
    ]
    # One pair is all objectives: it has one hypervolume, (1 - 0.5) * (4 - 1) / 4 = 0.375.
    (volume,) = front.hypervolumes
    assert volume.value == pytest.approx(0.375, rel=1e-12)
    assert volume.reference_point == (1.0, 4e6)
    few_student = front.student("few")
    assert few_student.gaps == {"mr2_all": pytest.approx(0.3, abs=1e-12)}
    assert few_student.times_fewer == {"num_params": 4.0}


def test_every_miss_rate_is_paired_with_every_cost() -> None:
    trials = [record("a", 0.3, 1e6, 1e9, metrics={"mr2_small": 0.6, "gmacs": 0.5})]
    front = find_front(records(trials, objectives=("mr2_reasonable", "mr2_small", "num_params", "gmacs")))
    assert [pair.key for pair in front.pairs] == ["params", "gmacs", "params_mr2_small", "gmacs_mr2_small"]
    assert len(front.hypervolumes) == 5


def test_two_miss_rates_have_front_without_pairs() -> None:
    easy = record("easy", 0.2, 9e6, 9e9, metrics={"mr2_small": 0.9})
    small = record("small", 0.4, 9e6, 9e9, metrics={"mr2_small": 0.5})
    worse = record("worse", 0.5, 1e3, 1e3, metrics={"mr2_small": 0.95})
    front = find_front(records([easy, small, worse], objectives=("mr2_reasonable", "mr2_small")))
    assert [student.trial_id for student in front.members] == ["easy", "small"]
    assert (front.pairs, front.knee) == ((), None)
    # The union of boxes of 0.8 * 0.1 and 0.6 * 0.5, which share 0.6 * 0.1: 0.08 + 0.3 - 0.06 = 0.32.
    assert front.hypervolumes[0].value == pytest.approx(0.32, rel=1e-12)


def test_single_miss_rate() -> None:
    front = find_front(records([GOOD, BENT], objectives=("mr2_reasonable",)))
    assert [student.trial_id for student in front.members] == ["good"]
    assert front.hypervolumes[0].value == pytest.approx(0.75, rel=1e-12)


class TestKnee:
    def test_is_furthest_from_line_between_ends(self) -> None:
        # Scaled: log10 cost 0, 1/4, 1/2, 1 and miss rate 1, 1/4, 1/5, 0: x + y = 1, 0.5, 0.7, 1. The second point is
        # furthest below x + y = 1, by (1 - 0.5) / sqrt(2).
        cost = np.array([1e4, 1e5, 1e6, 1e8])
        found = knee_index(cost, np.array([0.9, 0.9 - 0.75 * 0.5, 0.9 - 0.8 * 0.5, 0.4]))
        assert found is not None
        assert found[0] == 1
        assert found[1] == pytest.approx(0.5 / math.sqrt(2), rel=1e-12)

    def test_does_not_depend_on_order_or_units(self) -> None:
        cost = np.array([1e8, 1e5, 1e4, 1e6])
        miss_rate = np.array([0.4, 0.525, 0.9, 0.5])
        found = knee_index(cost, miss_rate)
        in_other_units = knee_index(cost / 1e6, 100 * miss_rate)
        assert found is not None
        assert in_other_units is not None
        assert found[0] == in_other_units[0] == 1
        assert in_other_units[1] == pytest.approx(found[1], rel=1e-12)

    def test_cheaper_of_equal_distances(self) -> None:
        # Scaled: (0, 1), (0.25, 0.5), (0.5, 0.25), (1, 0).
        found = knee_index(np.array([1.0, 10.0, 100.0, 1e4]), np.array([0.8, 0.4, 0.2, 0.0]))
        assert found is not None
        assert found[0] == 1

    @pytest.mark.parametrize("count", [1, 2])
    def test_none_with_fewer_than_three_points(self, count: int) -> None:
        assert knee_index(np.array([1.0, 10.0])[:count], np.array([0.5, 0.2])[:count]) is None

    def test_none_with_fewer_than_three_different_points(self) -> None:
        assert knee_index(np.array([1.0, 10.0, 10.0]), np.array([0.5, 0.2, 0.2])) is None

    def test_none_on_straight_front(self) -> None:
        assert knee_index(np.array([1.0, 10.0, 100.0]), np.array([0.6, 0.4, 0.2])) is None

    def test_none_on_front_that_bends_outward(self) -> None:
        assert knee_index(np.array([1.0, 10.0, 100.0]), np.array([0.6, 0.5, 0.2])) is None
