"""The front of a study: students, their fronts in each pair of miss rate and cost, knees and hypervolumes.

All objectives are minimised. Nothing here draws or prints.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from analysis.objectives import OBJECTIVES, Objective, costs, miss_rates
from analysis.records.study_records import ParameterValue, StudyRecords, TrialRecord
from hkd import metric_names as names
from hkd.dominance import Points, hypervolume, non_dominated

Basis = Literal["search", "means"]
"""What the students' miss rates are, all on the validation images: those by which the search selected them, or means
over trainings with other seeds (:mod:`analysis.certainty.confirmation`)."""
KNEE_RULE = (
    "the point of the front that lies furthest below the straight line between the front's two ends, with the miss "
    "rate and the logarithm of the cost both scaled to [0, 1] between those ends (Das 1999; Satopaa et al. 2011)"
)
REFERENCE_RULE = (
    "a miss rate of 1 (every pedestrian missed) and the teacher's costs; without a teacher, the highest cost among the "
    "students that were trained for all their epochs"
)
_FLAT = 1e-9


@dataclass(frozen=True)
class Teacher:
    """What the students are compared with."""

    run_id: str
    values: Mapping[str, float]
    """Metric name -> value, of those objectives and costs that MLflow has."""


@dataclass(frozen=True)
class Student:
    """A trial or baseline that was trained for all its epochs: a candidate to ship."""

    trial_id: str
    run_id: str
    role: str
    baseline: str | None
    is_distilled: bool
    values: Mapping[str, float]
    """Metric name -> value: every objective, and the other costs that MLflow has. Miss rates are fractions."""
    gaps: Mapping[str, float]
    """Miss rate -> the student's minus the teacher's, a fraction; positive where the teacher is better."""
    times_fewer: Mapping[str, float]
    """Cost -> the teacher's divided by the student's."""
    settings: Mapping[str, ParameterValue]
    """The searched parameters' values by dotted name."""
    rank: int | None
    """Place on the front by miss rate, from 1; None off the front."""
    measured: Mapping[str, float] = field(default_factory=dict)
    """All metrics that MLflow has of it, by name: also those of confirmations."""


@dataclass(frozen=True)
class Hypervolume:
    """Share of the box between zero and the reference point that a front dominates, in [0, 1]."""

    objectives: tuple[Objective, ...]
    value: float
    reference_point: tuple[float, ...]
    beyond_reference: int
    """Points of the front that are not better than the reference point in every objective, and add no volume."""
    num_students: int
    """Students that have all the objectives: a latency may be known of some only."""
    is_defined: bool = True
    """False where the reference point is that of the students themselves, as the teacher's cost is unknown, and none of
    them is below it: of one student, the box would be the student's own."""


@dataclass(frozen=True)
class Knee:
    """Where the front bends: beyond it, the same saving costs more miss rate than before it."""

    trial_id: str
    distance: float
    """To the line between the front's ends in the unit square, at most sqrt(1/2)."""


@dataclass(frozen=True)
class PairFront:
    """The front of one miss rate and one cost.

    Of students that are equal in both, only those on the front of all objectives are members.
    """

    miss_rate: Objective
    cost: Objective
    key: str
    """Part of file names, CSV columns and JSON keys: the cost's, with the miss rate's from the second miss rate on."""
    students: tuple[Student, ...]
    """Lowest cost first."""
    knee: Knee | None
    candidates: tuple[Student, ...] = ()
    """All students that have the cost; a latency may be measured of some only."""


@dataclass(frozen=True)
class Front:
    """The students of a study and their fronts."""

    objectives: tuple[Objective, ...]
    """Miss rates, then costs."""
    teacher: Teacher | None
    students: tuple[Student, ...]
    """All that were trained for all their epochs, lowest miss rate first."""
    pairs: tuple[PairFront, ...]
    """Of every miss rate with every cost of the objectives, and with a latency where one is measured; may be empty."""
    hypervolumes: tuple[Hypervolume, ...]
    """Of each pair, then of all objectives where those are not just one pair."""
    basis: Basis = "search"
    once: tuple[Student, ...] = ()
    """Where the miss rates are means: students that were trained once, as the search saw them. Their miss rates are not
    comparable with means, so that they are neither on the front nor to be chosen."""

    @property
    def members(self) -> tuple[Student, ...]:
        """Students that no other dominates in all objectives, by rank."""
        return tuple(student for student in self.students if student.rank is not None)

    @property
    def miss_rate(self) -> Objective:
        """The first miss rate of the study's objectives, by which students are ranked."""
        return self.objectives[0]

    @property
    def costs(self) -> tuple[Objective, ...]:
        """The costs among the objectives."""
        return costs(self.objectives)

    def spread(self, student: Student, miss_rate: Objective) -> float | None:
        """Sample standard deviation over the trainings of which the miss rate is the mean; None for a single one."""
        if self.basis == "search":
            return None
        return student.measured.get(f"{names.CONFIRMED_PREFIX}{miss_rate.name}{names.STD_SUFFIX}")

    @property
    def knee(self) -> Knee | None:
        """The knee of the first pair."""
        return self.pairs[0].knee if self.pairs else None

    def student(self, trial_id: str) -> Student:
        """The student of that trial.

        Raises:
            KeyError: no trial of that id was trained for all its epochs.
        """
        for student in self.students:
            if student.trial_id == trial_id:
                return student
        raise KeyError(trial_id)


def find_front(records: StudyRecords) -> Front:
    """Compute the fronts of a study.

    Raises:
        ValueError: no trial was trained for all its epochs.
    """
    if not records.counted:
        raise ValueError(f"study {records.study!r} has no trial that was trained for all its epochs")
    objectives = records.objectives
    teacher = _teacher(records.teacher, objectives)
    students = _students(records, teacher)
    pairs = tuple(
        _pair_front(miss_rate, cost, students, objectives)
        for miss_rate in miss_rates(objectives)
        for cost in (*costs(objectives), *measured_costs(students, objectives))
    )
    sets = list(dict.fromkeys([*((pair.miss_rate, pair.cost) for pair in pairs), objectives]))
    hypervolumes = tuple(_own_hypervolume(each, students, teacher) for each in sets)
    return Front(objectives, teacher, students, pairs, hypervolumes)


def _values(record: TrialRecord, objectives: Sequence[Objective]) -> dict[str, float]:
    keys = dict.fromkeys([*(objective.name for objective in objectives), *names.COSTS, names.LATENCY_MS])
    values = {key: record.metrics[key] for key in keys if key in record.metrics}
    if names.NUM_PARAMS in values:
        values[names.NUM_PARAMS] = round(values[names.NUM_PARAMS])
    return values


def _teacher(record: TrialRecord | None, objectives: Sequence[Objective]) -> Teacher | None:
    return None if record is None else Teacher(record.run_id, _values(record, objectives))


def _students(records: StudyRecords, teacher: Teacher | None) -> tuple[Student, ...]:
    objectives = records.objectives

    def point(trial: TrialRecord) -> tuple[float, ...]:
        return tuple(trial.metrics[objective.name] for objective in objectives)

    trials = sorted(records.counted, key=lambda trial: (point(trial), trial.trial_id))
    on_front = non_dominated(np.array([point(trial) for trial in trials]))
    ranks = np.cumsum(on_front)
    searched = records.searched_parameters()
    of_teacher = teacher.values if teacher else {}
    return tuple(
        Student(
            trial_id=trial.trial_id,
            run_id=trial.run_id,
            role=trial.role,
            baseline=trial.baseline,
            is_distilled=trial.is_distilled,
            values=_values(trial, objectives),
            gaps={
                objective.name: trial.metrics[objective.name] - of_teacher[objective.name]
                for objective in miss_rates(objectives)
                if objective.name in of_teacher
            },
            times_fewer={
                objective.name: of_teacher[objective.name] / trial.metrics[objective.name]
                for objective in costs(objectives)
                if objective.name in of_teacher
            },
            settings={key: trial.params.get(key) for key in searched},
            rank=int(ranks[index]) if on_front[index] else None,
            measured=trial.metrics,
        )
        for index, trial in enumerate(trials)
    )


def measured_costs(students: Sequence[Student], objectives: Sequence[Objective]) -> tuple[Objective, ...]:
    """Costs beside the objectives of which students have a measurement: the latency."""
    latency = OBJECTIVES[names.LATENCY_MS]
    is_measured = latency not in objectives and any(names.LATENCY_MS in student.values for student in students)
    return (latency,) if is_measured else ()


def _pair_front(
    miss_rate: Objective, cost: Objective, students: Sequence[Student], objectives: Sequence[Objective]
) -> PairFront:
    students = [student for student in students if cost.name in student.values]
    points = np.array([[student.values[miss_rate.name], student.values[cost.name]] for student in students])
    # Of trials that are equal in the pair, the other objectives decide: a plot shows no point that the table lacks.
    on_front = [
        student
        for student, is_best in zip(students, non_dominated(points), strict=True)
        if is_best and (student.rank is not None or cost not in objectives)
    ]
    # Knees are sought in the order of the table: of equal points, the first in it is named.
    found = knee_index(
        np.array([student.values[cost.name] for student in on_front], dtype=float),
        np.array([student.values[miss_rate.name] for student in on_front]),
    )
    return PairFront(
        miss_rate=miss_rate,
        cost=cost,
        key=cost.key if miss_rate == objectives[0] else f"{cost.key}_{miss_rate.key}",
        candidates=tuple(students),
        students=tuple(sorted(on_front, key=lambda student: student.values[cost.name])),
        knee=None if found is None else Knee(trial_id=on_front[found[0]].trial_id, distance=found[1]),
    )


def knee_index(cost: Points, miss_rate: Points) -> tuple[int, float] | None:
    """The knee of a front and its distance to the line between the front's ends, by ``KNEE_RULE``.

    Args:
        cost: (N,) positive: parameters or FLOPs of the points of a front.
        miss_rate: (N,).

    Returns:
        (index, distance), of equal distances the cheaper point; None with fewer than three different points, or if no
        point lies below the line: such a front does not bend towards the origin.
    """
    cheapest, best = int(np.argmin(cost)), int(np.argmin(miss_rate))
    if len(np.unique(np.stack([cost, miss_rate], axis=1), axis=0)) < 3:
        return None
    log_cost = np.log10(cost)
    x = (log_cost - log_cost[cheapest]) / (log_cost[best] - log_cost[cheapest])
    y = (miss_rate - miss_rate[best]) / (miss_rate[cheapest] - miss_rate[best])
    # The line is x + y = 1.
    distance = (1 - x - y) / math.sqrt(2)
    furthest = np.flatnonzero(distance >= distance.max() - _FLAT)
    index = int(furthest[np.argmin(cost[furthest])])
    return (index, float(distance[index])) if distance[index] > _FLAT else None


def _own_hypervolume(
    objectives: Sequence[Objective], students: Sequence[Student], teacher: Teacher | None
) -> Hypervolume:
    found = hypervolume_of(objectives, students, reference_point(objectives, students, teacher))
    is_of_teacher = teacher is not None and all(teacher.values.get(cost.name) for cost in costs(objectives))
    return replace(found, is_defined=found.value > 0 or is_of_teacher)


def hypervolume_of(
    objectives: Sequence[Objective], students: Sequence[Student], reference: Sequence[float]
) -> Hypervolume:
    """Hypervolume of the front of the students that have all the objectives, below a reference point."""
    points = np.array(
        [
            [student.values[objective.name] for objective in objectives]
            for student in students
            if all(objective.name in student.values for objective in objectives)
        ]
    ).reshape(-1, len(objectives))
    front = points[non_dominated(points)]
    return Hypervolume(
        objectives=tuple(objectives),
        # Divided by the reference point first: the box is then the unit cube, and large counts lose no digits.
        value=hypervolume(front / np.array(reference), np.ones(len(objectives))),
        reference_point=tuple(map(float, reference)),
        beyond_reference=int((~(front < np.array(reference)).all(axis=1)).sum()),
        num_students=len(points),
    )


def reference_point(
    objectives: Sequence[Objective], students: Sequence[Student], teacher: Teacher | None
) -> tuple[float, ...]:
    """By ``REFERENCE_RULE``."""
    return tuple(_reference(objective, students, teacher) for objective in objectives)


def _reference(objective: Objective, students: Sequence[Student], teacher: Teacher | None) -> float:
    if not objective.is_cost:
        return 1.0
    of_teacher = teacher.values.get(objective.name) if teacher else None
    values = [float(student.values[objective.name]) for student in students if objective.name in student.values]
    return float(of_teacher) if of_teacher else max(values)
