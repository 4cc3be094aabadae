"""How certain the miss rates of the search and its front are: the bootstrap over validation images.

All detectors are resampled on the same images, so that the difficulty of an image cancels out in differences (see
:mod:`hkd.evaluation.bootstrap`). Resamples describe the choice of images, not that of a training's seed
(:mod:`analysis.certainty.confirmation`).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from analysis.front import Front, Student
from analysis.objectives import Objective, miss_rates
from hkd import metric_names as names
from hkd.evaluation.bootstrap import (
    CONFIDENCE,
    RESAMPLES,
    MissRateInterval,
    ResampledMissRates,
    compare,
    intervals,
    resample_outcomes,
)
from hkd.evaluation.formats.stored_detections import StoredDetections

MOST_STUDENTS = 64
"""Students that are resampled: the front, baselines, then those closest to the front. A resample of 500 images takes
about 0.1 ms."""
_SAME_VALUE = 1e-6
"""Largest difference of a stored miss rate and that of the stored detections, whose scores are rounded to float32."""
_ELEMENTS_AT_A_TIME = 1 << 24

ReadDetections = Callable[[Sequence[str]], Mapping[str, StoredDetections]]
"""Run ids -> stored detections of the runs that have any."""
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """The miss rate of a second detector minus that of a first, on the same resamples."""

    first: str
    """Trial id."""
    second: str
    metric: str
    value: float
    """A fraction, below 0 where the second is better."""
    low: float | None
    """Ends of the interval; None where no resample has a value."""
    high: float | None
    probability_second_better: float | None
    """Share of the resamples in which the second has the lower miss rate; equal ones count half."""

    def around(self, value: float) -> Difference:
        """The same interval around another difference: that of the means over other seeds.

        Its width is that of the choice of images alone. The probability, which is of the trainings that were resampled,
        is left out.
        """
        if self.low is None or self.high is None:
            return replace(self, value=value, probability_second_better=None)
        moved = value - self.value
        return replace(self, value=value, low=self.low + moved, high=self.high + moved, probability_second_better=None)

    @property
    def is_distinguishable(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


@dataclass(frozen=True)
class Uncertainty:
    """Of a study's students; empty where nothing is stored."""

    absent_because: str | None
    """Why no miss rate has an interval; None if some have."""
    notes: tuple[str, ...] = ()
    """Which students have no interval, and why."""
    num_images: int = 0
    """Validation images that are resampled."""
    resamples: int = RESAMPLES
    confidence: float = CONFIDENCE
    intervals: Mapping[str, Mapping[str, MissRateInterval]] = field(default_factory=dict)
    """Trial id -> miss rate of the objectives -> its interval; of the teacher under its trial id as well."""
    front_probability: Mapping[str, float] = field(default_factory=dict)
    """Trial id -> share of the resamples in which no other student dominates it, in all objectives."""
    neighbours: tuple[Difference, ...] = ()
    """Each member of the first pair's front (first) with the next costlier one (second)."""
    against_undistilled: tuple[Difference, ...] = ()
    """Undistilled students (first) with the members of the front of the same costs (second)."""
    against_teacher: tuple[Difference, ...] = ()
    """The teacher (first) with each member of the front (second)."""
    resampled: Mapping[str, Mapping[str, ResampledMissRates]] = field(default_factory=dict, repr=False, compare=False)
    """Trial id -> miss rate -> its resamples."""

    def compare(self, first: str, second: str, metric: str) -> Difference | None:
        """Two detectors of the study by trial id; None where either is not resampled, or has no value."""
        one, other = (self.resampled.get(each, {}).get(metric) for each in (first, second))
        if one is None or other is None:
            return None
        (found,) = compare(one, other, self.confidence)
        if found.difference is None:
            return None
        return Difference(
            first, second, metric, found.difference, found.low, found.high, found.probability_second_better
        )


NO_UNCERTAINTY: Final = Uncertainty(absent_because="no detections were read")


def uncertainty_of(front: Front, read_detections: ReadDetections, *, seed: int = 0) -> Uncertainty:
    """Resample the students that matter.

    Args:
        front: Of the search.
        read_detections: Called once, with the runs of those students and of the teacher.
        seed: Of the resamples.
    """
    students = resampled_students(front)
    run_ids = {student.trial_id: student.run_id for student in students}
    if front.teacher is not None:
        run_ids[names.TEACHER_TRIAL_ID] = front.teacher.run_id
    stored = read_detections(list(run_ids.values()))
    detections = {trial_id: stored[run_id] for trial_id, run_id in run_ids.items() if run_id in stored}
    if not detections:
        reason = "no stored validation detections of the study's students were found (early versions stored none)"
        return Uncertainty(absent_because=reason)
    known = {student.trial_id: student.values for student in students}
    if front.teacher is not None:
        known[names.TEACHER_TRIAL_ID] = front.teacher.values
    notes: list[str] = []
    resampled = _resample(detections, known, miss_rates(front.objectives), notes, seed)
    if not resampled:
        return Uncertainty(absent_because=" ".join(notes))
    without = [student.trial_id for student in front.members if student.trial_id not in resampled]
    if without:
        notes.append(f"Students of the front without an interval: {', '.join(without)}.")
    if len(students) < len(front.students):
        notes.append(
            f"Of {len(front.students)} students, the {len(students)} on or nearest to the front are resampled."
        )
    draft = Uncertainty(
        absent_because=None,
        notes=tuple(notes),
        num_images=next(each.counted_per_image.shape[1] for of_one in resampled.values() for each in of_one.values()),
        intervals={
            trial_id: {metric: intervals(each)[0] for metric, each in of_trial.items()}
            for trial_id, of_trial in resampled.items()
        },
        front_probability=_front_probabilities(front, students, resampled),
        resampled=resampled,
    )
    return _with_differences(draft, front)


def resampled_students(front: Front) -> tuple[Student, ...]:
    """At most ``MOST_STUDENTS`` students: the front, baselines, and those of the smallest excess over the front.

    The excess is the miss rate that a student would have to lose to be on the front: its miss rate minus the lowest of
    the members that cost no more.
    """
    members, costs = front.members, front.costs
    metric = front.miss_rate.name
    member_costs = np.array([[each.values[cost.name] for cost in costs] for each in members])
    member_rates = np.array([each.values[metric] for each in members])

    def key(student: Student) -> tuple[bool, bool, float, str]:
        own = np.array([student.values[cost.name] for cost in costs])
        rivals = member_rates[(member_costs <= own).all(axis=1)]
        excess = student.values[metric] - float(rivals.min(initial=np.inf))
        return student.rank is None, student.role != names.ROLE_BASELINE, excess, student.trial_id

    return tuple(sorted(front.students, key=key)[:MOST_STUDENTS])


def _resample(
    detections: Mapping[str, StoredDetections],
    known: Mapping[str, Mapping[str, float]],
    objectives: Sequence[Objective],
    notes: list[str],
    seed: int,
) -> dict[str, dict[str, ResampledMissRates]]:
    """Trial id -> miss rate -> resamples, of the detectors with the same ground truth as the first one."""
    subsets = {objective.name: objective.subset for objective in objectives}
    resampled: dict[str, dict[str, ResampledMissRates]] = {}
    reference: StoredDetections | None = None
    refused: dict[str, list[str]] = {}
    for trial_id, stored in detections.items():
        if not set(subsets.values()) <= set(stored.subsets):
            refused.setdefault("have no outcomes of the objectives' subsets", []).append(trial_id)
            continue
        if reference is not None and not all(stored.has_same_truth(reference, each) for each in subsets.values()):
            refused.setdefault("were evaluated on other images or people", []).append(trial_id)
            continue
        found = {
            metric: resample_outcomes(
                stored.matches(subset), (subset,), stored.fppi_points, stored.miss_rate_floor, seed=seed
            )
            for metric, subset in subsets.items()
        }
        if any(
            abs(found[metric].values[0] - known[trial_id][metric]) > _SAME_VALUE
            for metric in subsets
            if metric in known[trial_id]
        ):
            refused.setdefault("do not give the recorded miss rate", []).append(trial_id)
            continue
        reference = reference or stored
        resampled[trial_id] = found
    notes += [f"Stored detections are ignored that {why}: {', '.join(ids)}." for why, ids in refused.items()]
    return resampled


def _front_probabilities(
    front: Front, students: Sequence[Student], resampled: Mapping[str, Mapping[str, ResampledMissRates]]
) -> dict[str, float]:
    """Share of the resamples in which each student is on the front of those that are resampled."""
    chosen = [student for student in students if student.trial_id in resampled]
    if not chosen:
        return {}
    costs = np.array([[student.values[cost.name] for cost in front.costs] for student in chosen])
    # (students, miss rates, resamples)
    rates = np.array(
        [
            [resampled[student.trial_id][objective.name].resampled[0] for objective in miss_rates(front.objectives)]
            for student in chosen
        ]
    )
    rates = rates[:, :, ~np.isnan(rates).any(axis=(0, 1))]
    if rates.shape[2] == 0:
        return {}
    share = on_front(costs, rates).mean(axis=1)
    return {student.trial_id: float(value) for student, value in zip(chosen, share, strict=True)}


def on_front(costs: FloatArray, rates: FloatArray) -> npt.NDArray[np.bool_]:
    """Which of N students no other dominates in each of R resamples: (N, R).

    Args:
        costs: (N, C), the same in every resample.
        rates: (N, M, R) miss rates.
    """
    number, _, resamples = rates.shape
    no_more = np.all(costs[:, None] <= costs[None], axis=2)[:, :, None]
    less = np.any(costs[:, None] < costs[None], axis=2)[:, :, None]
    kept = np.empty((number, resamples), dtype=np.bool_)
    step = max(1, _ELEMENTS_AT_A_TIME // max(1, number * number * rates.shape[1]))
    for start in range(0, resamples, step):
        block = rates[:, :, start : start + step]
        # One objective after the other: (N, N, step), whether the first is at most the second, and below it.
        at_most, below = no_more, less
        for index in range(block.shape[1]):
            one, other = block[:, None, index], block[None, :, index]
            at_most = at_most & (one <= other)
            below = below | (one < other)
        kept[:, start : start + step] = ~(at_most & below).any(axis=0)
    return kept


def _with_differences(uncertainty: Uncertainty, front: Front) -> Uncertainty:
    metric = front.miss_rate.name

    def differences(pairs: Sequence[tuple[str, str]]) -> tuple[Difference, ...]:
        found = (uncertainty.compare(first, second, metric) for first, second in pairs)
        return tuple(each for each in found if each is not None)

    in_order = front.pairs[0].students if front.pairs else ()
    members = [member for member in front.members if member.is_distilled]
    undistilled = [student for student in front.students if not student.is_distilled]
    return replace(
        uncertainty,
        neighbours=differences([(a.trial_id, b.trial_id) for a, b in itertools.pairwise(in_order)]),
        against_undistilled=differences(
            [
                (plain.trial_id, member.trial_id)
                for member in members
                for plain in undistilled
                if all(plain.values[cost.name] == member.values[cost.name] for cost in front.costs)
            ]
        ),
        against_teacher=differences([(names.TEACHER_TRIAL_ID, member.trial_id) for member in front.members]),
    )
