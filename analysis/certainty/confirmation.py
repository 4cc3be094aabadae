"""Trainings of students with other seeds: what they measured, and the front of their means.

A trial's own miss rate is the one by which the search selected it: the lowest of many noisy ones is too low, and the
means over new trainings are not, so the two are not comparable. The choice is therefore made among students that have
a mean, once every member of the search's front has one; before, it is made by the search (:func:`deciding_front`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from analysis.front import Basis, Front, find_front
from analysis.objectives import miss_rates
from analysis.records.study_records import StudyRecords, TrialRecord
from hkd import metric_names as names


@dataclass(frozen=True)
class Repeated:
    """Trainings of one student with other seeds (a confirmation), as one point with spread."""

    trial_id: str
    metric: str
    """A miss rate of the objectives."""
    num_seeds: int
    """Number of these trainings, without the trial's own."""
    searched: float
    """The trial's own miss rate, by which the search selected it."""
    mean: float
    """On the validation images, over the seeds; without the trial's own."""
    spread: float | None
    """Sample standard deviation over the seeds; None for one seed."""
    test_mean: float | None
    """On the test images; None where there are none."""
    test_spread: float | None
    is_on_front: bool
    """Whether no other student that was trained again dominates it in the means (:func:`front_of_means`)."""

    @property
    def optimism(self) -> float:
        """How much better the search saw the student than new trainings are, mean minus searched: at least part of it
        is selection, because the best of many noisy tries looks better than it is.
        """
        return self.mean - self.searched

    @property
    def test_minus_validation(self) -> float | None:
        """Mean on test images minus the trial's miss rate in the search; None without test images."""
        return None if self.test_mean is None else self.test_mean - self.searched


@dataclass(frozen=True)
class Confirmation:
    """Which of a study's students were trained again."""

    repeated: tuple[Repeated, ...] = ()
    """In the first miss rate of the objectives, lowest mean first."""
    missing: tuple[str, ...] = ()
    """Trial ids on the search's front that have no mean, where other students have one."""

    @property
    def mean_optimism(self) -> float | None:
        """Mean of the optimism of the confirmed students; None without any."""
        values = [each.optimism for each in self.repeated]
        return sum(values) / len(values) if values else None

    @property
    def mean_test_minus_validation(self) -> float | None:
        """Mean of test minus validation of the confirmed students; None without test images."""
        values = [each.test_minus_validation for each in self.repeated]
        known = [value for value in values if value is not None]
        return sum(known) / len(known) if known else None


def confirmation_of(searched: Front, means: Front | None) -> Confirmation:
    """What was measured with other seeds.

    Args:
        searched: The front of the search.
        means: That of the means; None if no student was trained again.
    """
    if means is None:
        return Confirmation()
    metric = searched.miss_rate.name
    on_test = f"{names.CONFIRMED_PREFIX}{names.TEST_PREFIX}{metric}"
    repeated = [
        Repeated(
            trial_id=student.trial_id,
            metric=metric,
            num_seeds=round(student.measured[names.CONFIRMED_SEEDS]),
            searched=searched.student(student.trial_id).values[metric],
            mean=student.measured[names.CONFIRMED_PREFIX + metric],
            spread=student.measured.get(f"{names.CONFIRMED_PREFIX}{metric}{names.STD_SUFFIX}"),
            test_mean=student.measured.get(on_test),
            test_spread=student.measured.get(on_test + names.STD_SUFFIX),
            is_on_front=student.rank is not None,
        )
        for student in means.students
    ]
    known = {student.trial_id for student in means.students}
    return Confirmation(
        repeated=tuple(sorted(repeated, key=lambda each: (each.mean, each.trial_id))),
        missing=tuple(member.trial_id for member in searched.members if member.trial_id not in known),
    )


def deciding_front(searched: Front, means: Front | None) -> Front:
    """The front by which students are chosen and ranked: that of the means, once each member of the other has one."""
    is_complete = means is not None and not confirmation_of(searched, means).missing
    return means if means is not None and is_complete else searched


def front_of_means(records: StudyRecords, searched: Front) -> Front | None:
    """The front of the students that were trained again, with the means in place of their miss rates.

    The means are those on the test images if all these students and the teacher were evaluated on them, as new
    trainings are not selected by any images; else those on the validation images. Costs are the same.

    Args:
        records: Of the study.
        searched: Its front by the search.

    Returns:
        None if no student was trained again.
    """
    rates = [objective.name for objective in miss_rates(records.objectives)]
    on_validation = {name: names.CONFIRMED_PREFIX + name for name in rates}
    confirmed = [
        trial for trial in records.counted if {names.CONFIRMED_SEEDS, *on_validation.values()} <= trial.metrics.keys()
    ]
    if not confirmed:
        return None
    on_test = {name: f"{names.CONFIRMED_PREFIX}{names.TEST_PREFIX}{name}" for name in rates}
    of_teacher = {name: names.TEST_PREFIX + name for name in rates}
    teacher = records.teacher
    has_test = all(set(on_test.values()) <= trial.metrics.keys() for trial in confirmed) and (
        teacher is None or set(of_teacher.values()) <= teacher.metrics.keys()
    )
    basis: Basis = "test" if has_test else "validation"
    if teacher is not None and has_test:
        teacher = _with_values(teacher, of_teacher)
    known = {trial.trial_id for trial in confirmed}
    trials = [
        _with_values(trial, on_test if has_test else on_validation)
        if trial.trial_id in known
        else replace(trial, not_counted_because=trial.not_counted_because or "trained once")
        for trial in records.trials
    ]
    found = find_front(replace(records, trials=tuple(trials), teacher=teacher))
    return replace(found, basis=basis, once=tuple(s for s in searched.students if s.trial_id not in known))


def _with_values(record: TrialRecord, source: Mapping[str, str]) -> TrialRecord:
    """The record with the values of other metrics under the names of the objectives."""
    return replace(record, metrics={**record.metrics, **{name: record.metrics[key] for name, key in source.items()}})
