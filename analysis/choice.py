"""Which student to ship, and how distilled students compare with the baselines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from analysis.front import Front, Student
from hkd import metric_names as names

_LOWEST_MEASURED = 1e-10
"""What Dollar's protocols read instead of a miss rate of 0."""
Reason = Literal["knee", "only", "lowest miss rate"]


@dataclass(frozen=True)
class Recommendation:
    """The student to ship where no other constraint decides."""

    trial_id: str
    reason: Reason
    is_determined: bool = True
    """False where the student's miss rate is 0 (or 1e-10, its substitute): one point of the curve without a miss makes
    the geometric mean 0, as happens on small validation sets, and 0 beats every other student at any cost."""


@dataclass(frozen=True)
class BaselineComparison:
    """A baseline and the best distilled student that costs no more."""

    name: str
    trial_id: str
    best_distilled: str | None
    """Trial id; None if no distilled student has at most the baseline's cost (the first cost of the objectives)."""
    difference: float | None
    """Miss rate of that student minus the baseline's: negative where the student is better."""


def recommend(front: Front) -> Recommendation:
    """The knee of the first pair's front; without a knee, the student of lowest miss rate."""

    def of(trial_id: str, reason: Reason) -> Recommendation:
        return Recommendation(trial_id, reason, front.student(trial_id).values[front.miss_rate.name] > _LOWEST_MEASURED)

    if front.knee is not None:
        return of(front.knee.trial_id, "knee")
    members = front.members
    return of(members[0].trial_id, "only" if len(members) == 1 else "lowest miss rate")


def compare_baselines(front: Front) -> tuple[BaselineComparison, ...]:
    """Every baseline with its best distilled rival, best baseline first."""
    return tuple(_compare(front, student) for student in front.students if student.role == names.ROLE_BASELINE)


def _compare(front: Front, baseline: Student) -> BaselineComparison:
    cost, miss_rate = next(iter(front.costs), None), front.miss_rate.name

    def costs_no_more(student: Student) -> bool:
        return cost is None or student.values[cost.name] <= baseline.values[cost.name]

    # Students are ordered by miss rate: the first that fits is the best.
    rivals = [s for s in front.students if s.is_distilled and s is not baseline and costs_no_more(s)]
    return BaselineComparison(
        name=baseline.baseline or baseline.trial_id,
        trial_id=baseline.trial_id,
        best_distilled=rivals[0].trial_id if rivals else None,
        difference=rivals[0].values[miss_rate] - baseline.values[miss_rate] if rivals else None,
    )
