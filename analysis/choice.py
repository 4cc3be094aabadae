"""Which student to ship, and how distilled students compare with the baselines."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from analysis.budgets import NO_BUDGETS, BudgetError, Budgets
from analysis.certainty.uncertainty import NO_UNCERTAINTY, Difference, Uncertainty
from analysis.front import Front, Student
from analysis.objectives import Objective
from hkd import metric_names as names
from hkd.findings import (
    NEAR_POINTS,
    Finding,
    Measured,
    Readiness,
    best_rival,
    is_determined,
    points_above,
    readiness,
    study_findings,
)

Reason = Literal[
    "knee",
    "only",
    "lowest miss rate",
    "knee not ready",
    "lowest miss rate within the budget",
    "cheapest within the budget",
    "nearest to the budget",
]
Verdict = Literal["over budget", "not ready", "undetermined", "indistinguishable", "near", "with loss", "no teacher"]


@dataclass(frozen=True)
class Recommendation:
    """The student to ship: the best within the budgets, or where there are none, where no other constraint decides."""

    trial_id: str
    reason: Reason
    readiness: Readiness
    """By the first miss rate of the objectives."""
    is_determined: bool = True
    """False where the student's miss rate is 0 (or 1e-10, its substitute): one point of the curve without a miss makes
    the geometric mean 0, as happens on small validation sets, and 0 beats every other student at any cost."""
    limits: Mapping[str, float] = field(default_factory=dict)
    """Metric -> the most that was allowed, in the metric's own unit; empty without budgets."""
    exceeded: Mapping[str, float] = field(default_factory=dict)
    """Metric -> the student's value over the limit, above 1. Not empty only where no student is within all budgets."""
    larger: Difference | None = None
    """Set where the reason led to a larger student (second), from which this one (first) cannot be distinguished: the
    interval of their difference contains 0. None where the reason led to this student."""

    @property
    def verdict(self) -> Verdict:
        """What the headline says, the most important first."""
        if self.exceeded:
            return "over budget"
        if self.readiness == "not ready":
            return "not ready"
        if not self.is_determined:
            return "undetermined"
        return "indistinguishable" if self.larger is not None else self.readiness


@dataclass(frozen=True)
class BaselineComparison:
    """A baseline and the best distilled student that costs no more."""

    name: str
    trial_id: str
    best_distilled: str | None
    """Trial id; None if no distilled student has at most the baseline's cost (the first cost of the objectives)."""
    difference: float | None
    """Miss rate of that student minus the baseline's: negative where the student is better."""


def recommend(front: Front, budgets: Budgets = NO_BUDGETS, uncertainty: Uncertainty = NO_UNCERTAINTY) -> Recommendation:
    """The student to ship.

    Without budgets: the knee of the first pair's front, or if it is not ready to ship, the student of lowest miss rate.
    Within budgets on costs: the student of lowest miss rate; within one on the miss rate alone: the cheapest student.
    If a smaller student (:func:`smaller_alike`) is as ready, the one of the lowest first cost is recommended instead.
    Miss rates are those of the front, which may be means over other seeds; students without a mean are no candidates.

    Raises:
        BudgetError: no student has what a budget limits.
    """
    limits = budgets.limits(front.miss_rate)
    known = (*front.students, *front.once)
    unmeasured = [each.name for each in limits if not any(each.name in student.values for student in known)]
    if unmeasured:
        raise BudgetError(
            f"no student of the study has a measured {', '.join(unmeasured)} in MLflow, which a budget limits; measure "
            "it, or leave the budget out"
        )
    within = [student for student in front.students if not _exceeded(student, limits)]
    if not within:
        return _nearest(front, limits)
    best, reason = _best(front, within, limits)
    found = _recommendation(front, best, reason, limits)
    return _smaller(front, found, within, uncertainty) or found


def _recommendation(
    front: Front, student: Student, reason: Reason, limits: Mapping[Objective, float]
) -> Recommendation:
    miss_rate = student.values[front.miss_rate.name]
    return Recommendation(
        trial_id=student.trial_id,
        reason=reason,
        readiness=readiness(miss_rate, _of_teacher(front)),
        is_determined=is_determined(miss_rate),
        limits={objective.name: limit for objective, limit in limits.items()},
        exceeded=_exceeded(student, limits) if reason == "nearest to the budget" else {},
    )


def _exceeded(student: Student, limits: Mapping[Objective, float]) -> dict[str, float]:
    """Metric -> value over limit where it is above; infinite where the student has no value."""
    ratios = {each.name: student.values.get(each.name, math.inf) / limit for each, limit in limits.items()}
    return {name: ratio for name, ratio in ratios.items() if ratio > 1}


def _nearest(front: Front, limits: Mapping[Objective, float]) -> Recommendation:
    """The student whose largest excess over a budget, as a ratio, is the smallest."""

    def key(student: Student) -> tuple[float, float, float]:
        ratios = _exceeded(student, limits).values()
        return max(ratios), sum(ratios), student.values[front.miss_rate.name]

    return _recommendation(front, min(front.students, key=key), "nearest to the budget", limits)


def _best(front: Front, within: Sequence[Student], limits: Mapping[Objective, float]) -> tuple[Student, Reason]:
    first_cost = next(iter(front.costs), None)
    if any(objective.is_cost for objective in limits):
        return min(within, key=lambda each: _by_miss_rate(front, each)), "lowest miss rate within the budget"
    if limits and first_cost is not None:
        cheapest = min(within, key=lambda each: (each.values[first_cost.name], *_by_miss_rate(front, each)))
        return cheapest, "cheapest within the budget"
    members = front.members if not limits else within
    if front.knee is not None:
        knee = front.student(front.knee.trial_id)
        if readiness(knee.values[front.miss_rate.name], _of_teacher(front)) != "not ready":
            return knee, "knee"
    if len(members) == 1:
        return members[0], "only"
    return members[0], "lowest miss rate" if front.knee is None else "knee not ready"


def _by_miss_rate(front: Front, student: Student) -> tuple[float, ...]:
    return (student.values[front.miss_rate.name], *(student.values[cost.name] for cost in front.costs))


def _smaller(
    front: Front, found: Recommendation, within: Sequence[Student], uncertainty: Uncertainty
) -> Recommendation | None:
    """The smallest student within the budgets that cannot be distinguished from the recommended one and is as ready."""
    if found.readiness == "not ready" or not found.is_determined:
        return None
    for student, difference in smaller_alike(front, front.student(found.trial_id), uncertainty):
        miss_rate = student.values[front.miss_rate.name]
        if student in within and readiness(miss_rate, _of_teacher(front)) == found.readiness:
            return replace(found, trial_id=student.trial_id, is_determined=is_determined(miss_rate), larger=difference)
    return None


def smaller_alike(front: Front, best: Student, uncertainty: Uncertainty) -> tuple[tuple[Student, Difference], ...]:
    """Members of the front that cannot be distinguished from a student and are smaller, lowest first cost first.

    Smaller: no cost of the objectives is higher, and the first is lower. They are at most ``NEAR_POINTS`` worse, and
    their difference (the student is its first) has an interval that contains 0. Where miss rates are means over other
    seeds, this is the interval of the trainings in the search, around the difference of the means.
    """
    metric = front.miss_rate.name
    found = []
    for student in front.members if front.costs else ():
        if any(student.values[cost.name] > best.values[cost.name] for cost in front.costs):
            continue
        if student.values[front.costs[0].name] == best.values[front.costs[0].name]:
            continue
        if points_above(student.values[metric], best.values[metric]) > NEAR_POINTS:
            continue
        difference = uncertainty.compare(student.trial_id, best.trial_id, metric)
        if difference is not None and front.basis != "search":
            difference = difference.around(best.values[metric] - student.values[metric])
        if difference is not None and difference.low is not None and not difference.is_distinguishable:
            found.append((student, difference))
    return tuple(sorted(found, key=lambda each: (each[0].values[front.costs[0].name], each[0].values[metric])))


def find(front: Front) -> tuple[Finding, ...]:
    """What the study's results show about its teacher and about distillation."""
    students = [_measured(front, student) for student in front.students]
    return study_findings(front.miss_rate.name, students, _of_teacher(front))


def compare_baselines(front: Front) -> tuple[BaselineComparison, ...]:
    """Every baseline with its best distilled rival, best baseline first."""
    return tuple(_compare(front, student) for student in front.students if student.role == names.ROLE_BASELINE)


def _compare(front: Front, baseline: Student) -> BaselineComparison:
    rival = best_rival(_measured(front, baseline), [_measured(front, student) for student in front.students])
    return BaselineComparison(
        name=baseline.baseline or baseline.trial_id,
        trial_id=baseline.trial_id,
        best_distilled=rival.name if rival else None,
        difference=rival.miss_rate - baseline.values[front.miss_rate.name] if rival else None,
    )


def _of_teacher(front: Front) -> float | None:
    return front.teacher.values.get(front.miss_rate.name) if front.teacher else None


def _measured(front: Front, student: Student) -> Measured:
    cost = next(iter(front.costs), None)
    return Measured(
        name=student.trial_id,
        miss_rate=student.values[front.miss_rate.name],
        cost=None if cost is None else student.values[cost.name],
        is_distilled=student.is_distilled,
        is_undistilled_baseline=student.baseline == names.BASELINE_UNDISTILLED and not student.is_distilled,
    )
