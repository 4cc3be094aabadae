"""Which student to ship, and how distilled students compare with the baselines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from analysis.front import Front, Student
from hkd import metric_names as names
from hkd.findings import Finding, Measured, Readiness, best_rival, is_determined, readiness, study_findings

Reason = Literal["knee", "only", "lowest miss rate", "knee not ready"]


@dataclass(frozen=True)
class Recommendation:
    """The student to ship where no other constraint decides, or the best one where none is ready."""

    trial_id: str
    reason: Reason
    readiness: Readiness
    """By the first miss rate of the objectives."""
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
    """The knee of the first pair's front; without a knee that is ready to ship, the student of lowest miss rate."""

    def of(trial_id: str, reason: Reason) -> Recommendation:
        miss_rate = front.student(trial_id).values[front.miss_rate.name]
        return Recommendation(trial_id, reason, readiness(miss_rate, _of_teacher(front)), is_determined(miss_rate))

    knee = None if front.knee is None else of(front.knee.trial_id, "knee")
    if knee is not None and knee.readiness != "not ready":
        return knee
    members = front.members
    if len(members) == 1:
        return of(members[0].trial_id, "only")
    return of(members[0].trial_id, "lowest miss rate" if knee is None else "knee not ready")


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
