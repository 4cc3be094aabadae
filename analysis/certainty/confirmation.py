"""Trainings of students with other seeds: what they measured, and the front of their means.

A trial's own miss rate is the one by which the search selected it: the lowest of many noisy ones is too low, and the
means over new trainings are not, so the two are not comparable. The choice is therefore made among students that have
a mean, once every member of the search's front has one; before, it is made by the search (:func:`deciding_front`).

The means that decide are those on the validation images. Test images decide nothing: the lowest of several test results
would be selected as well, and again too low. As they are, the test results of the choice check it without selection.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from analysis.front import Front, find_front
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

    def test_gap(self, of_teacher: float | None) -> float | None:
        """Mean on test images minus the teacher's miss rate on them; None where either is unknown."""
        return None if self.test_mean is None or of_teacher is None else self.test_mean - of_teacher

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
    teacher_on_test: float | None = None
    """The teacher's miss rate on the test images; None without either."""

    def of(self, trial_id: str) -> Repeated | None:
        """The trainings of a student with other seeds; None without any."""
        return next((each for each in self.repeated if each.trial_id == trial_id), None)

    @property
    def num_tested(self) -> int:
        """Students that were evaluated on test images."""
        return sum(each.test_mean is not None for each in self.repeated)

    @property
    def mean_optimism(self) -> float | None:
        """Mean of the optimism of the confirmed students; None without any."""
        values = [each.optimism for each in self.repeated]
        return sum(values) / len(values) if values else None

    @property
    def mean_test_minus_validation(self) -> float | None:
        """Mean of test minus validation of the students that were evaluated on test images; None without any."""
        values = [each.test_minus_validation for each in self.repeated]
        known = [value for value in values if value is not None]
        return sum(known) / len(known) if known else None


def confirmation_of(searched: Front, means: Front | None, teacher: TrialRecord | None = None) -> Confirmation:
    """What was measured with other seeds.

    Args:
        searched: The front of the search.
        means: That of the means; None if no student was trained again.
        teacher: Of the study.
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
        teacher_on_test=teacher.metrics.get(names.TEST_PREFIX + metric) if teacher else None,
    )


def deciding_front(searched: Front, means: Front | None) -> Front:
    """The front by which students are chosen and ranked: that of the means, once each member of the other has one."""
    is_complete = means is not None and not confirmation_of(searched, means).missing
    return means if means is not None and is_complete else searched


def front_of_means(records: StudyRecords, searched: Front) -> Front | None:
    """The front of the students that were trained again, with the means on the validation images as their miss rates.

    Costs are the same.

    Args:
        records: Of the study.
        searched: Its front by the search.

    Returns:
        None if no student was trained again.
    """
    rates = [objective.name for objective in miss_rates(records.objectives)]
    on_validation = {name: names.CONFIRMED_PREFIX + name for name in rates}
    confirmed = [trial for trial in records.counted if _has_means(trial, tuple(on_validation.values()))]
    if not confirmed:
        return None
    known = {trial.trial_id for trial in confirmed}
    trials = [
        replace(trial, metrics={**trial.metrics, **{name: trial.metrics[key] for name, key in on_validation.items()}})
        if trial.trial_id in known
        else replace(trial, not_counted_because=trial.not_counted_because or "trained once")
        for trial in records.trials
    ]
    found = find_front(replace(records, trials=tuple(trials)))
    return replace(found, basis="means", once=tuple(s for s in searched.students if s.trial_id not in known))


def _has_means(trial: TrialRecord, means: Sequence[str]) -> bool:
    """Whether all means were measured; a store may have values that no training gives."""
    has_seeds = trial.metrics.get(names.CONFIRMED_SEEDS, 0.0) >= 1
    return has_seeds and all(0 <= trial.metrics.get(mean, math.inf) <= 1 for mean in means)
