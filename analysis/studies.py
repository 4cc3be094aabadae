"""Several studies compared: one reference point, and who has the lower miss rate at which cost, how certainly."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from analysis.front import Front, Hypervolume, Student, hypervolume_of, reference_point
from analysis.objectives import Objective, costs, miss_rates
from analysis.records.store import RecordsError
from analysis.results import StudyResults
from hkd.dominance import non_dominated

FloatArray = npt.NDArray[np.float64]


class StudiesError(RecordsError):
    """Studies that cannot be compared."""


@dataclass(frozen=True)
class StudyFront:
    """One of the studies."""

    study: str
    front: Front
    hypervolumes: tuple[Hypervolume, ...]
    """Of miss rate and each common cost, then of all common objectives, below the common reference point."""
    joint_members: tuple[str, ...]
    """Trial ids of its students that no student of any of the studies dominates in the common objectives."""
    hypervolume_probability: float | None
    """Share of the resamples of the validation images in which it has the largest hypervolume in the first miss rate
    and the first cost, ties shared; None where students are not resampled on the same images."""


@dataclass(frozen=True)
class Coverage:
    """How much of one study's front another one reaches (Zitzler and Thiele 1998, the measure C)."""

    study: str
    of: str
    share: float
    """Share of the front of ``of`` that some student of ``study`` equals or dominates, in the common objectives."""


@dataclass(frozen=True)
class Segment:
    """A range of costs within which the same students are the best that a cost allows."""

    low: float
    """From this cost on ..."""
    high: float | None
    """... up to this one; None: without end."""
    best: str | None
    """Study with the lowest miss rate; None where several have it."""
    miss_rates: tuple[float | None, ...]
    """Of each study, in their order: the lowest of its students that cost at most ``low``; None without such."""
    probability: float | None
    """Share of the resamples in which ``best`` has the lowest, equal ones count half; None without ``best``, where it
    is the only study with such a student, or where students are not resampled on the same images."""


@dataclass(frozen=True)
class PairComparison:
    """Who has the lower miss rate at which cost."""

    miss_rate: Objective
    cost: Objective
    segments: tuple[Segment, ...]
    """Ascending cost. Adjacent ones with the same best study and probability are separate where miss rates change."""


@dataclass(frozen=True)
class StudiesComparison:
    """Several studies."""

    objectives: tuple[Objective, ...]
    """Those that all studies have, in the order of the first one."""
    reference_point: tuple[float, ...]
    """Common, one value for each objective: the largest of the studies' own."""
    studies: tuple[StudyFront, ...]
    coverage: tuple[Coverage, ...]
    """Of each ordered pair of studies."""
    pairs: tuple[PairComparison, ...]
    """Of the first miss rate and each common cost."""
    notes: tuple[str, ...]


def compare_studies(results: Sequence[StudyResults]) -> StudiesComparison:
    """Compare the fronts of at least two studies of different names.

    Raises:
        StudiesError: the studies have no miss rate in common, or two have the same name.
    """
    names = [each.study for each in results]
    if len(set(names)) < len(names):
        raise StudiesError(f"each study can be named once; found: {', '.join(names)}")
    objectives = tuple(
        objective
        for objective in results[0].front.objectives
        if all(objective in each.front.objectives for each in results)
    )
    if not miss_rates(objectives):
        listed = "; ".join(f"{each.study}: {', '.join(o.name for o in each.front.objectives)}" for each in results)
        raise StudiesError(f"the studies have no miss rate as a common objective ({listed})")
    if len({each.front.basis for each in results}) > 1:
        # Miss rates of searches and means over other seeds are not comparable.
        results = [replace(each, front=each.searched) for each in results]
    reference = _common_reference(objectives, results)
    resampled = _shares_images(results, objectives[0].name)
    probabilities = _hypervolume_probabilities(results, objectives, reference) if resampled else [None] * len(results)
    joint = _joint_members(results, objectives)
    sets = list(dict.fromkeys([*((objectives[0], cost) for cost in costs(objectives)), objectives]))
    values = dict(zip(objectives, reference, strict=True))
    studies = tuple(
        StudyFront(
            study=each.study,
            front=each.front,
            hypervolumes=tuple(
                hypervolume_of(chosen, each.front.students, [values[objective] for objective in chosen])
                for chosen in sets
            ),
            joint_members=members,
            hypervolume_probability=probability,
        )
        for each, members, probability in zip(results, joint, probabilities, strict=True)
    )
    return StudiesComparison(
        objectives=objectives,
        reference_point=reference,
        studies=studies,
        coverage=tuple(_coverage(one, other, objectives) for one, other in itertools.permutations(results, 2)),
        pairs=tuple(_compare_pair(results, objectives[0], cost, resampled) for cost in costs(objectives)),
        notes=_notes(results, objectives, is_resampled=resampled),
    )


def _common_reference(objectives: Sequence[Objective], results: Sequence[StudyResults]) -> tuple[float, ...]:
    own = [reference_point(objectives, each.front.students, each.front.teacher) for each in results]
    return tuple(max(values) for values in zip(*own, strict=True))


def _points(students: Sequence[Student], objectives: Sequence[Objective]) -> FloatArray:
    return np.array([[student.values[objective.name] for objective in objectives] for student in students])


def _joint_members(results: Sequence[StudyResults], objectives: Sequence[Objective]) -> list[tuple[str, ...]]:
    students = [(index, student) for index, each in enumerate(results) for student in each.front.students]
    kept = non_dominated(_points([student for _, student in students], objectives))
    members: list[list[str]] = [[] for _ in results]
    for (index, student), is_kept in zip(students, kept.tolist(), strict=True):
        if is_kept:
            members[index].append(student.trial_id)
    return [tuple(each) for each in members]


def _coverage(one: StudyResults, other: StudyResults, objectives: Sequence[Objective]) -> Coverage:
    first, second = (_points(each.front.students, objectives) for each in (one, other))
    front = second[non_dominated(second)]
    covered = [(first <= point).all(axis=1).any() for point in front]
    return Coverage(one.study, other.study, float(np.mean(covered)))


def _shares_images(results: Sequence[StudyResults], metric: str) -> bool:
    """Whether all studies have students that are resampled on the same images and people."""
    counts = []
    for each in results:
        of_study = [found[metric].counted_per_image for found in each.uncertainty.resampled.values()]
        if not of_study:
            return False
        counts.append(of_study[0])
    return all(np.array_equal(counts[0], count) for count in counts[1:])


def _resampled(result: StudyResults, metric: str, most: float, cost: Objective) -> FloatArray:
    """(N, R) miss rates of the resampled students that cost at most ``most``."""
    rates = [
        _rates(result, student, metric)
        for student in result.front.students
        if student.trial_id in result.uncertainty.resampled and student.values[cost.name] <= most
    ]
    return np.array(rates)


def _rates(result: StudyResults, student: Student, metric: str) -> FloatArray:
    """(R,) resampled miss rates of a student, around its mean over other seeds where such means are compared."""
    own = result.searched.student(student.trial_id).values[metric]
    resampled = result.uncertainty.resampled[student.trial_id][metric].resampled[0]
    moved: FloatArray = resampled + (student.values[metric] - own)
    return moved


def _hypervolume_probabilities(
    results: Sequence[StudyResults], objectives: Sequence[Objective], reference: Sequence[float]
) -> list[float | None]:
    if not costs(objectives):
        return [None] * len(results)
    miss_rate, cost = objectives[0], costs(objectives)[0]
    most = reference[objectives.index(cost)]
    volumes = np.array([_resampled_hypervolumes(each, miss_rate.name, cost.name, most) for each in results])
    volumes = volumes[:, ~np.isnan(volumes).any(axis=0)]
    if volumes.shape[1] == 0:
        return [None] * len(results)
    is_best = volumes == volumes.max(axis=0)
    shares = (is_best / is_best.sum(axis=0)).mean(axis=1)
    return [float(share) for share in shares]


def _resampled_hypervolumes(result: StudyResults, metric: str, cost: str, most: float) -> FloatArray:
    """(R,) of the resampled students, in the box below a miss rate of 1 and a cost of ``most``."""
    resampled = result.uncertainty.resampled
    students = sorted(
        (student for student in result.front.students if student.trial_id in resampled),
        key=lambda student: student.values[cost],
    )
    rates = np.array([_rates(result, student, metric) for student in students])
    # The lowest miss rate that each cost allows: a step from one cost to the next.
    lowest = np.minimum(np.minimum.accumulate(rates, axis=0), 1.0)
    places = np.minimum([student.values[cost] for student in students], most)
    widths = np.diff(places, append=most) / most
    volumes: FloatArray = widths @ (1.0 - lowest)
    return volumes


def _compare_pair(
    results: Sequence[StudyResults], miss_rate: Objective, cost: Objective, is_resampled: bool
) -> PairComparison:
    fronts = []
    for each in results:
        points = _points(each.front.students, (cost, miss_rate))
        fronts.append(points[non_dominated(points)])
    bounds = sorted({float(point[0]) for front in fronts for point in front})
    segments = []
    for low, high in itertools.zip_longest(bounds, bounds[1:]):
        rates = [min((float(rate) for at, rate in front if at <= low), default=None) for front in fronts]
        known = [rate for rate in rates if rate is not None]
        holders = [index for index, rate in enumerate(rates) if rate == min(known)]
        best = holders[0] if len(holders) == 1 else None
        probability = None
        if best is not None and is_resampled and len(known) > 1:
            others = [index for index, rate in enumerate(rates) if rate is not None and index != best]
            probability = _probability(results, miss_rate.name, cost, low, best, others)
        segments.append(Segment(low, high, None if best is None else results[best].study, tuple(rates), probability))
    return PairComparison(miss_rate, cost, tuple(segments))


def _probability(
    results: Sequence[StudyResults], metric: str, cost: Objective, most: float, best: int, others: Sequence[int]
) -> float | None:
    own = _resampled(results[best], metric, most, cost)
    rivals = [_resampled(results[index], metric, most, cost) for index in others]
    if not len(own) or not all(len(rival) for rival in rivals):
        return None
    lowest, rival = own.min(axis=0), np.concatenate(rivals).min(axis=0)
    valid = ~(np.isnan(lowest) | np.isnan(rival))
    if not valid.any():
        return None
    return float(np.mean((lowest < rival)[valid] + 0.5 * (lowest == rival)[valid]))


def _notes(results: Sequence[StudyResults], objectives: Sequence[Objective], *, is_resampled: bool) -> tuple[str, ...]:
    notes = []
    if results[0].front.basis != "search":
        notes.append("Miss rates are means over trainings with other seeds, on the validation images.")
    elif any(each.confirmation.repeated for each in results):
        notes.append(
            "Miss rates are those of the searches: not all studies have trained the whole front again with other seeds."
        )
    left_out = sorted({each.name for result in results for each in result.front.objectives if each not in objectives})
    if left_out:
        notes.append(f"Objectives that not all studies have are not compared: {', '.join(left_out)}.")
    if not is_resampled:
        notes.append(
            "There are no probabilities: not all studies have stored detections on the same validation images. Miss "
            "rates on different images are not comparable."
        )
    return tuple(notes)
