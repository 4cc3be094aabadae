from __future__ import annotations

import math
from collections.abc import Mapping

import pytest

from analysis.budgets import BudgetError, Budgets
from analysis.certainty.uncertainty import Uncertainty, uncertainty_of
from analysis.choice import Recommendation, compare_baselines, find, recommend, smaller_alike
from analysis.front import Front, find_front
from analysis.records.study_records import TrialRecord
from tests.analysis.studies import TEACHER, found_in, record, records

# By (miss rate, parameters, FLOPs); the teacher has (0.2, 6e6, 10e9).
GOOD = record("good", 0.25, 3e6, 5e9)
BENT = record("bent", 0.30, 1e6, 1e9)
SMALL = record("small", 0.80, 5e5, 6e8)
BEATEN = record("beaten", 0.35, 2e6, 2e9)
"""Dominated by BENT."""


def test_knee_is_recommended() -> None:
    # Scaled log10 parameters of 5e5, 1e6, 3e6 are 0, log(2)/log(6), 1; miss rates 1, 0.05/0.55, 0.
    front = find_front(records([GOOD, BENT, SMALL, BEATEN], TEACHER))
    assert front.knee is not None
    assert front.knee.trial_id == "bent"
    expected = (1 - math.log(2) / math.log(6) - 0.05 / 0.55) / math.sqrt(2)
    assert front.knee.distance == pytest.approx(expected, rel=1e-9)
    assert recommend(front) == Recommendation("bent", "knee", "with loss")


def test_lowest_miss_rate_is_recommended_without_knee() -> None:
    front = find_front(records([GOOD, SMALL], TEACHER))
    assert front.knee is None
    assert recommend(front) == Recommendation("good", "lowest miss rate", "near")


def test_knee_that_is_far_from_the_teacher_is_not_recommended() -> None:
    # BENT is 20 points above a teacher at 10 %, GOOD 15.
    teacher = record("teacher", 0.1, 6e6, 10e9, role="teacher")
    front = find_front(records([GOOD, BENT, SMALL], teacher))
    assert front.knee is not None
    assert recommend(front) == Recommendation("good", "knee not ready", "with loss")


def test_best_student_is_named_where_none_is_ready() -> None:
    teacher = record("teacher", 0.05, 6e6, 10e9, role="teacher")
    front = find_front(records([GOOD, BENT, SMALL], teacher))
    assert recommend(front) == Recommendation("good", "knee not ready", "not ready")
    assert [each.kind for each in find(front)] == ["nothing ready"]


def test_recommendation_without_teacher() -> None:
    assert recommend(find_front(records([BENT]))) == Recommendation("bent", "only", "no teacher")


def test_only_student_on_front_is_recommended() -> None:
    assert recommend(find_front(records([BENT, BEATEN], TEACHER))) == Recommendation("bent", "only", "with loss")


def test_student_whose_miss_rate_is_0_is_no_determined_choice() -> None:
    # It dominates every student that costs more, whatever their miss rates.
    lucky = record("lucky", 0.0, 1e6, 1e9)
    assert recommend(find_front(records([lucky, BEATEN], TEACHER))) == Recommendation(
        "lucky", "only", "near", is_determined=False
    )
    # It is on the front, but not the choice.
    costly = record("costly", 0.0, 3e6, 5e9)
    assert recommend(find_front(records([costly, BENT, SMALL], TEACHER))) == Recommendation("bent", "knee", "with loss")


def test_baselines_are_compared_with_best_distilled_student_that_is_no_larger() -> None:
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
    front = find_front(records([plain, default, large, rival, alone], TEACHER))
    compared = {each.name: each for each in compare_baselines(front)}
    assert compared["undistilled"].best_distilled == "rival"
    assert compared["undistilled"].difference == pytest.approx(-0.15, abs=1e-12)
    assert compared["default-weights"].best_distilled == "rival"
    assert compared["default-weights"].difference == pytest.approx(-0.05, abs=1e-12)
    assert not front.student("alone").is_distilled


def test_findings_compare_undistilled_baseline_by_first_cost_of_objectives() -> None:
    plain = record(
        "b0", 0.24, 1e6, 1e9, role="baseline", baseline="undistilled", params={"distillation.logits.weight": 0.0}
    )
    params = {"distillation.logits.weight": 2.0}
    same = record("same", 0.27, 1e6, 1e9, params=params)
    larger = record("larger", 0.21, 2e6, 9e8, params=params)
    study = [plain, same, larger]
    (finding,) = find(find_front(records(study, TEACHER)))
    assert (finding.kind, finding.students) == ("no gain", ("b0", "same"))
    # With fewer FLOPs than the baseline, the student with more parameters is its rival.
    assert find(find_front(records(study, TEACHER, objectives=("mr2_reasonable", "flops")))) == ()


def test_baseline_without_distilled_student_of_same_size() -> None:
    plain = record("b0", 0.5, 1e5, 1e9, role="baseline", baseline="undistilled")
    (comparison,) = compare_baselines(find_front(records([plain, BENT], TEACHER)))
    assert (comparison.best_distilled, comparison.difference) == (None, None)


def test_rivals_are_limited_by_first_cost_of_objectives() -> None:
    plain = record("b0", 0.5, 1e6, 1e9, role="baseline", baseline="undistilled")
    # Fewer parameters than the baseline, more FLOPs.
    heavy = record("heavy", 0.2, 5e5, 2e9)
    light = record("light", 0.4, 2e6, 5e8)

    def rival(*objectives: str) -> str | None:
        return compare_baselines(find_front(records([plain, heavy, light], objectives=objectives)))[0].best_distilled

    assert rival("mr2_reasonable", "num_params", "flops") == "heavy"
    assert rival("mr2_reasonable", "flops") == "light"
    assert rival("mr2_reasonable") == "heavy"


def budget_of(*trials: TrialRecord, **budgets: float) -> Recommendation:
    return recommend(find_front(records(trials, TEACHER)), Budgets(**budgets))


def test_lowest_miss_rate_within_budgets_on_costs_is_recommended() -> None:
    found = budget_of(GOOD, BENT, SMALL, BEATEN, max_params=2.5e6, max_gflops=2)
    assert (found.trial_id, found.reason, found.verdict) == (
        "bent",
        "lowest miss rate within the budget",
        "with loss",
    )
    assert found.limits == {"num_params": 2.5e6, "flops": 2e9}
    # A limit is met by a student that has exactly as much.
    assert budget_of(GOOD, BENT, max_params=3e6).trial_id == "good"


def test_cheapest_student_within_a_miss_rate_is_recommended() -> None:
    found = budget_of(GOOD, BENT, SMALL, BEATEN, max_miss_rate=0.36)
    assert (found.trial_id, found.reason) == ("bent", "cheapest within the budget")


def test_nearest_student_is_named_where_none_meets_the_budget() -> None:
    # GOOD is 3 and 1.25 times over, BENT 1 and 1.5 times, SMALL 4 times.
    found = budget_of(GOOD, BENT, SMALL, max_params=1e6, max_miss_rate=0.2)
    assert (found.trial_id, found.verdict) == ("bent", "over budget")
    assert found.exceeded == {"mr2_reasonable": pytest.approx(1.5)}


def test_student_of_unknown_latency_is_not_within_a_latency() -> None:
    fast = record("fast", 0.35, 2e6, 2e9, metrics={"latency_ms": 20.0})
    assert budget_of(GOOD, BENT, fast, max_latency_ms=30).trial_id == "fast"
    found = budget_of(GOOD, BENT, fast, max_latency_ms=10)
    assert (found.trial_id, found.exceeded) == ("fast", {"latency_ms": 2.0})
    with pytest.raises(BudgetError, match="latency_ms"):
        budget_of(GOOD, BENT, max_latency_ms=10)


def test_best_within_budget_may_be_far_from_the_teacher() -> None:
    assert budget_of(GOOD, BENT, SMALL, max_params=6e5).verdict == "not ready"


def uncertain(found: Mapping[str, int], images: int) -> tuple[Front, Uncertainty]:
    """Students of rising costs; each finds the first so many of the people."""
    trials = [
        record(name, 1 - number / images, 1e6 * (index + 1), 1e9 * (index + 1))
        for index, (name, number) in enumerate(found.items())
    ]
    front = find_front(records(trials, record("teacher", 0.2, 9e6, 9e9, role="teacher")))
    stored = {f"run-of-{name}": found_in([index < number for index in range(images)]) for name, number in found.items()}
    return front, uncertainty_of(front, lambda _: stored)


def test_smaller_of_students_that_cannot_be_distinguished_is_recommended() -> None:
    # Of 100 people, c finds one more than b, which is chance, and six more than a: distinguishable, as
    # P(no image of six is drawn) is 0.94^100 = 0.002.
    front, uncertainty = uncertain({"a": 75, "b": 80, "c": 81}, 100)
    found = recommend(front, Budgets(max_params=5e6), uncertainty)
    assert (found.trial_id, found.verdict) == ("b", "indistinguishable")
    assert found.larger is not None
    assert (found.larger.first, found.larger.second) == ("b", "c")
    assert recommend(front, Budgets(max_params=5e6)).trial_id == "c"


def test_student_that_appears_much_worse_is_not_taken_for_the_same() -> None:
    # On 10 images nothing can be distinguished, but 10 points are more than what is near.
    front, uncertainty = uncertain({"a": 7, "b": 8}, 10)
    difference = uncertainty.compare("a", "b", "mr2_reasonable")
    assert difference is not None
    assert not difference.is_distinguishable
    assert recommend(front, Budgets(max_params=5e6), uncertainty).trial_id == "b"


def test_student_of_fewer_parameters_but_more_flops_is_not_the_smaller_one() -> None:
    # thin and wide cannot be distinguished: of 100 people, wide finds one more. thin has half the parameters, and ten
    # times the FLOPs.
    thin, wide = record("thin", 0.25, 1e6, 10e9), record("wide", 0.24, 2e6, 1e9)
    found = {
        f"run-of-{name}": found_in([index < number for index in range(100)])
        for name, number in (("thin", 75), ("wide", 76))
    }
    for objectives, expected in (
        (("mr2_reasonable", "num_params", "flops"), ()),
        (("mr2_reasonable", "num_params"), ("thin",)),
    ):
        front = find_front(records([thin, wide], TEACHER, objectives=objectives))
        uncertainty = uncertainty_of(front, lambda _: found)
        alike = smaller_alike(front, front.student("wide"), uncertainty)
        assert tuple(student.trial_id for student, _ in alike) == expected
        chosen = recommend(front, Budgets(max_params=5e6), uncertainty).trial_id
        assert chosen == (expected or ("wide",))[0]
