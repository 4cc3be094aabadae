from __future__ import annotations

import dataclasses

import pytest

from hkd.findings import (
    Finding,
    Measured,
    best_rival,
    compared_miss_rate,
    no_gain,
    nothing_ready,
    passed_by_student,
    readiness,
    study_findings,
    teacher_passed,
    weak_teacher,
)

METRIC = "mr2_reasonable"


def student(name: str, miss_rate: float, cost: float | None = 1e6) -> Measured:
    return Measured(name, miss_rate, cost, is_distilled=True)


def baseline(miss_rate: float, cost: float | None = 1e6) -> Measured:
    return Measured("baseline-undistilled", miss_rate, cost, is_distilled=False, is_undistilled_baseline=True)


@pytest.mark.parametrize(
    ("miss_rate", "teacher", "expected"),
    [
        (0.10, 0.20, "near"),  # better than the teacher
        (0.25, 0.20, "near"),  # 100 * (0.25 - 0.20) is 4.999... in binary
        (0.2504, 0.20, "near"),  # shown as 5.0 points
        (0.2506, 0.20, "with loss"),
        (0.35, 0.20, "with loss"),
        (0.352, 0.20, "not ready"),
        (0.50, None, "no teacher"),
        (0.90, None, "not ready"),
        (0.91, 0.89, "not ready"),  # near a teacher that is of no use
        (0.50, 0.95, "not ready"),
    ],
)
def test_readiness_depends_on_points_above_teacher(miss_rate: float, teacher: float | None, expected: str) -> None:
    assert readiness(miss_rate, teacher) == expected


def test_study_without_student_near_its_teacher() -> None:
    found = nothing_ready(METRIC, [student("t1", 0.732), student("t2", 0.8)], 0.242)
    assert found is not None
    # 73.2 - 24.2 = 49.0 points.
    for fact in ("ready to ship", "t1", "73.2 %", "49.0 points above", "24.2 %"):
        assert fact in found.sentence
    for setting in ("training.total_epochs", "student.width_multiplier", "student.init_from", "data.unlabelled_images"):
        assert setting in found.remedy
    assert "teacher" in found.remedy
    assert found.students == ("t1",)
    assert nothing_ready(METRIC, [student("t1", 0.3), student("t2", 0.8)], 0.242) is None
    assert nothing_ready(METRIC, [], 0.242) is None


def test_equal_students_are_ordered_by_cost_and_name() -> None:
    students = [student("b", 0.7), student("a", 0.7), student("small", 0.7, 5e5)]
    for ordered in (students, students[::-1]):
        found = nothing_ready(METRIC, ordered, 0.2)
        assert found is not None
        assert found.students == ("small",)
        passed = teacher_passed(METRIC, ordered, 0.8)
        assert passed is not None
        assert passed.students == ("small", "a", "b")
        assert best_rival(baseline(0.5), ordered) == students[2]


def test_student_of_no_use_is_not_ready_without_teacher() -> None:
    found = nothing_ready(METRIC, [student("t1", 0.95)], None)
    assert found is not None
    assert "95.0 %" in found.sentence
    assert "points" not in found.sentence
    assert nothing_ready(METRIC, [student("t1", 0.6)], None) is None


def test_nothing_is_ready_beside_teacher_of_no_use() -> None:
    kinds = [each.kind for each in study_findings(METRIC, [student("t1", 0.5)], 0.95)]
    assert kinds == ["nothing ready", "weak teacher", "teacher passed"]


@pytest.mark.parametrize(
    ("metrics", "warned"),
    [
        ({"mr2_reasonable": 0.9, "mr2_all": 0.5}, "MR^-2 reasonable 90.0 %"),
        ({"mr2_reasonable": 0.89, "mr2_all": 1.0}, None),
        ({"mr2_all": 1.0}, "MR^-2 all 100.0 %"),  # no image has a reasonable box
        ({"mr2_reasonable": float("nan")}, None),
    ],
)
def test_teacher_that_misses_nearly_everyone(metrics: dict[str, float], warned: str | None) -> None:
    metric = compared_miss_rate(metrics)
    assert metric is not None
    found = weak_teacher(metric, metrics[metric])
    assert (found is None) == (warned is None)
    if warned is not None and found is not None:
        assert warned in found.text


def test_detectors_without_known_miss_rate_are_not_compared() -> None:
    assert compared_miss_rate({"ap": 0.5}) is None
    assert passed_by_student({"ap": 0.5}, {"ap": 0.6}) is None
    assert passed_by_student({}, {METRIC: 0.1}) is None
    assert passed_by_student({METRIC: 0.5}, {}) is None


def test_student_that_passes_its_teacher() -> None:
    found = passed_by_student({METRIC: 0.24}, {METRIC: 0.201})
    assert found is not None
    for fact in ("20.1 %", "24.0 %", "holds students back"):
        assert fact in found.sentence
    assert "Train the teacher longer" in found.remedy
    # 0.04 points are shown as 0.
    assert passed_by_student({METRIC: 0.24}, {METRIC: 0.2396}) is None
    assert passed_by_student({METRIC: 0.24}, {METRIC: 0.3}) is None


def test_students_that_pass_the_teacher_are_counted_and_the_best_is_named() -> None:
    students = [student("t1", 0.3), student("t2", 0.2), student("t3", 0.22)]
    found = teacher_passed(METRIC, students, 0.24)
    assert found is not None
    assert found.students == ("t2", "t3")
    assert "t2 (and 1 more" in found.sentence
    # 0, and its substitute, are properties of the validation set.
    assert teacher_passed(METRIC, [student("lucky", 0.0), student("lucky too", 1e-10)], 0.24) is None


def test_student_alone_that_passes_the_teacher() -> None:
    found = teacher_passed(METRIC, [baseline(0.2)], 0.24)
    assert found is not None
    assert "without distillation" in found.sentence
    assert "settings" in found.remedy


def test_best_rival_is_distilled_and_costs_no_more() -> None:
    of = baseline(0.3, cost=1e6)
    students = [of, student("large", 0.1, 2e6), student("small", 0.4, 5e5), student("equal", 0.35, 1e6)]
    assert best_rival(of, students) == students[3]
    assert best_rival(of, students[:2]) is None
    without_cost = [dataclasses.replace(each, cost=None) for each in students]
    assert best_rival(without_cost[0], without_cost) == without_cost[1]


@pytest.mark.parametrize(
    ("alone", "distilled", "is_found"),
    [
        (0.30, 0.35, True),
        (0.30, 0.3, True),
        (0.30, 0.2996, True),
        (0.30, 0.29, False),
        (0.0, 0.1, False),
        (0.95, 0.96, False),
    ],
)
def test_distillation_without_gain(alone: float, distilled: float, is_found: bool) -> None:
    found = no_gain(METRIC, [baseline(alone), student("t1", distilled), student("large", 0.01, 2e6)])
    assert (found is not None) == is_found
    if found is not None:
        assert found.students == ("baseline-undistilled", "t1")
        for fact in ("30.0 %", f"{100 * distilled:.1f} %", "costs no more"):
            assert fact in found.sentence
        assert "data.unlabelled_images" in found.remedy


def test_no_gain_needs_a_baseline_and_a_rival() -> None:
    assert no_gain(METRIC, [student("t1", 0.5)]) is None
    assert no_gain(METRIC, [baseline(0.1), student("large", 0.5, 2e6)]) is None


def test_good_study_has_no_findings() -> None:
    assert study_findings(METRIC, [baseline(0.3), student("t1", 0.22)], 0.2) == ()
    assert study_findings(METRIC, [student("t1", 0.22)], None) == ()


def test_text_has_sentence_and_remedy() -> None:
    assert Finding("no gain", "It is so.", "Do this.").text == "It is so. Do this."
