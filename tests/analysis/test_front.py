from __future__ import annotations

import math

import pytest

from analysis.front import Recommendation, analyse
from hkd import metric_names as names
from tests.analysis.studies import TEACHER, record, records

# By (miss rate, parameters, FLOPs); the teacher has (0.2, 6e6, 10e9).
GOOD = record("good", 0.25, 3e6, 5e9)
BENT = record("bent", 0.30, 1e6, 1e9)
SMALL = record("small", 0.80, 5e5, 6e8)
BEATEN = record("beaten", 0.35, 2e6, 2e9)
"""By BENT in everything."""


def test_front_gaps_and_ratios() -> None:
    analysis = analyse(records([SMALL, BEATEN, GOOD, BENT], TEACHER))
    assert [(s.trial_id, s.rank) for s in analysis.students] == [
        ("good", 1),
        ("bent", 2),
        ("beaten", None),
        ("small", 3),
    ]
    assert [s.trial_id for s in analysis.front] == ["good", "bent", "small"]
    assert [s.trial_id for s in analysis.params_front] == ["small", "bent", "good"]
    bent = analysis.student("bent")
    assert bent.gap_to_teacher == pytest.approx(0.1, abs=1e-12)
    assert bent.times_fewer_params == 6.0
    assert bent.times_fewer_flops == 10.0


def test_params_and_flops_fronts_are_told_apart() -> None:
    # FEW has the fewest parameters, LIGHT the fewest FLOPs; at the same miss rate neither dominates the other in all
    # three objectives, each dominates the other in one pair.
    few, light = record("few", 0.4, 1e6, 3e9), record("light", 0.4, 2e6, 1e9)
    analysis = analyse(records([few, light], TEACHER))
    assert [s.trial_id for s in analysis.front] == ["few", "light"]
    assert [s.trial_id for s in analysis.params_front] == ["few"]
    assert [s.trial_id for s in analysis.flops_front] == ["light"]


def test_of_equals_in_a_pair_the_third_objective_decides() -> None:
    # Equal in (miss rate, parameters); WASTEFUL needs more FLOPs, so it is off the front and off both plots.
    thrifty, wasteful = record("thrifty", 0.4, 1e6, 1e9), record("wasteful", 0.4, 1e6, 2e9)
    analysis = analyse(records([wasteful, thrifty], TEACHER))
    assert [s.trial_id for s in analysis.params_front] == ["thrifty"]
    assert analysis.student("wasteful").rank is None


def test_trials_with_equal_objectives_are_all_on_the_front() -> None:
    analysis = analyse(records([record("b", 0.4, 1e6, 1e9), record("a", 0.4, 1e6, 1e9)], TEACHER))
    assert [(s.trial_id, s.rank) for s in analysis.front] == [("a", 1), ("b", 2)]


def test_only_what_counts_competes() -> None:
    stopped = record("stopped", 0.01, 1e3, 1e6, status="stopped", not_counted_because="stopped after 50 %")
    incomplete = record("incomplete", 0.01, 1e3, 1e6, not_counted_because="num_params is missing")
    analysis = analyse(records([stopped, incomplete, BENT], TEACHER))
    assert [s.trial_id for s in analysis.students] == ["bent"]
    assert analysis.count_by_status == {"stopped": 1, "incomplete": 1, "finished": 1}


def test_nothing_that_counts_is_refused() -> None:
    with pytest.raises(ValueError, match="study 'demo' has no trial that was trained to its end"):
        analyse(records([], TEACHER))


def test_hypervolumes_are_shares_of_the_box_up_to_the_teacher() -> None:
    analysis = analyse(records([record("one", 0.25, 3e6, 1e9)], TEACHER))
    by_objectives = {each.objectives: each for each in analysis.hypervolumes}
    params = by_objectives[names.MR2_REASONABLE, names.NUM_PARAMS]
    # (1 - 0.25) * (6 - 3) / 6 = 0.375
    assert params.value == pytest.approx(0.375, rel=1e-12)
    assert params.reference_point == (1.0, 6e6)
    # (1 - 0.25) * (10 - 1) / 10 = 0.675
    assert by_objectives[names.MR2_REASONABLE, names.FLOPS].value == pytest.approx(0.675, rel=1e-12)
    # 0.75 * 0.5 * 0.9 = 0.3375
    assert by_objectives[names.DEFAULT_OBJECTIVES].value == pytest.approx(0.3375, rel=1e-12)
    assert by_objectives[names.DEFAULT_OBJECTIVES].reference_point == (1.0, 6e6, 10e9)
    assert [each.beyond_reference for each in analysis.hypervolumes] == [0, 0, 0]


def test_a_student_larger_than_the_teacher_lies_beyond_the_reference() -> None:
    analysis = analyse(records([record("huge", 0.1, 7e6, 1e9), record("one", 0.25, 3e6, 1e9)], TEACHER))
    params = analysis.hypervolumes[0]
    assert params.value == pytest.approx(0.375, rel=1e-12)
    assert params.beyond_reference == 1


def test_without_a_teacher_the_largest_student_is_the_reference() -> None:
    analysis = analyse(records([record("large", 0.2, 4e6, 8e9), record("light", 0.6, 1e6, 2e9)]))
    params = analysis.hypervolumes[0]
    assert params.reference_point == (1.0, 4e6)
    # (1 - 0.6) * (4 - 1) / 4 = 0.3; the large one lies on the reference's edge.
    assert params.value == pytest.approx(0.3, rel=1e-12)
    assert params.beyond_reference == 1
    student = analysis.student("light")
    assert (student.gap_to_teacher, student.times_fewer_params, student.times_fewer_flops) == (None, None, None)


def test_knee_is_recommended() -> None:
    # Scaled log10 parameters of 5e5, 1e6, 3e6 are 0, log(2)/log(6), 1; miss rates 1, 0.05/0.55, 0.
    analysis = analyse(records([GOOD, BENT, SMALL, BEATEN], TEACHER))
    assert analysis.params_knee is not None
    assert analysis.params_knee.trial_id == "bent"
    expected = (1 - math.log(2) / math.log(6) - 0.05 / 0.55) / math.sqrt(2)
    assert analysis.params_knee.distance == pytest.approx(expected, rel=1e-9)
    assert analysis.recommendation == Recommendation("bent", "knee")


def test_without_a_knee_the_lowest_miss_rate_is_recommended() -> None:
    analysis = analyse(records([GOOD, SMALL], TEACHER))
    assert analysis.params_knee is None
    assert analysis.recommendation == Recommendation("good", "lowest miss rate")


def test_a_front_of_one_is_recommended_as_such() -> None:
    assert analyse(records([BENT, BEATEN], TEACHER)).recommendation == Recommendation("bent", "only")


def test_baselines_compete_and_meet_the_best_distilled_student_that_is_no_larger() -> None:
    plain = record(
        "b0", 0.5, 1e6, 1e9, role="baseline", baseline="undistilled", params={"distillation.logits.weight": 0.0}
    )
    default = record(
        "b1", 0.4, 1e6, 1e9, role="baseline", baseline="default-weights", params={"distillation.logits.weight": 1.0}
    )
    # The best of all is larger than the baselines, and so no rival of theirs; ALONE is good but has no teacher.
    large = record("large", 0.1, 2e6, 1e9, params={"distillation.logits.weight": 2.0})
    rival = record("rival", 0.35, 1e6, 1e9, params={"distillation.logits.weight": 2.0})
    alone = record("alone", 0.3, 9e5, 1e9, params={"distillation.logits.weight": 0.0})
    analysis = analyse(records([plain, default, large, rival, alone], TEACHER))
    compared = {each.name: each for each in analysis.baselines}
    assert compared["undistilled"].best_distilled == "rival"
    assert compared["undistilled"].difference == pytest.approx(-0.15, abs=1e-12)
    assert compared["default-weights"].best_distilled == "rival"
    assert compared["default-weights"].difference == pytest.approx(-0.05, abs=1e-12)
    assert not analysis.student("alone").is_distilled


def test_box_deltas_alone_are_distillation_too() -> None:
    trial = record(
        "t", 0.3, 1e6, 1e9, params={"distillation.logits.weight": 0.0, "distillation.logits.box_deltas_weight": 0.5}
    )
    assert analyse(records([trial], TEACHER)).student("t").is_distilled


def test_a_baseline_without_a_smaller_rival() -> None:
    plain = record("b0", 0.5, 1e5, 1e9, role="baseline", baseline="undistilled")
    (comparison,) = analyse(records([plain, BENT], TEACHER)).baselines
    assert (comparison.best_distilled, comparison.difference) == (None, None)


def test_settings_are_those_in_which_trials_differ() -> None:
    first = record("t0", 0.3, 1e6, 1e9, params={"student.width_multiplier": 0.5, "training.seed": 0})
    second = record("t1", 0.4, 1e6, 1e9, params={"student.width_multiplier": 0.25, "training.seed": 0})
    # The baseline's weight is its own, not searched.
    plain = record(
        "b0", 0.5, 1e6, 1e9, role="baseline", baseline="undistilled", params={"distillation.logits.weight": 0.0}
    )
    analysis = analyse(records([first, second, plain], TEACHER))
    assert analysis.student("t1").settings == {"student.width_multiplier": 0.25}
    assert analysis.student("b0").settings == {"student.width_multiplier": None}
