"""What the trials of a study amount to: the front, its hypervolume and knee, baselines, importances.

All objectives (``mr2_reasonable``, ``num_params``, ``flops``) are minimised. Nothing here draws or prints.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from analysis.geometry import hypervolume, knee_index
from analysis.importances import Importances, importances_of
from analysis.records import ParameterValue, StudyRecords, TrialRecord
from hkd import metric_names as names
from hkd.dominance import non_dominated

REFERENCE_RULE = (
    "miss rate 1 (every pedestrian missed), parameters and FLOPs of the teacher; "
    "of the largest student that was trained to its end where the study has no teacher"
)


@dataclass(frozen=True)
class Teacher:
    """What the students are compared with. A value that MLflow does not have is none."""

    run_id: str
    mr2_reasonable: float | None
    num_params: int | None
    flops: float | None
    gmacs: float | None


@dataclass(frozen=True)
class Student:
    """A trial or baseline that was trained to its end: a candidate to ship."""

    trial_id: str
    run_id: str
    role: str
    baseline: str | None
    is_distilled: bool
    mr2_reasonable: float
    """Fraction in [0, 1]."""
    num_params: int
    flops: float
    gmacs: float | None
    gap_to_teacher: float | None
    """mr2_reasonable less the teacher's: a fraction, above 0 where the teacher is better."""
    times_fewer_params: float | None
    """The teacher's parameters over the student's."""
    times_fewer_flops: float | None
    settings: Mapping[str, ParameterValue]
    """The searched parameters' values by dotted name."""
    rank: int | None
    """Place in the three-objective front by miss rate, from 1; none off the front."""
    on_params_front: bool
    """Not dominated in (mr2_reasonable, num_params); of equals, those that FLOPs put off the front are left out."""
    on_flops_front: bool
    """Likewise in (mr2_reasonable, flops)."""


@dataclass(frozen=True)
class Hypervolume:
    """Share of the box between zero and the reference point that a front dominates, in [0, 1]."""

    objectives: tuple[str, ...]
    value: float
    reference_point: tuple[float, ...]
    beyond_reference: int
    """Points of the front that are no better than the reference in some objective, and so add nothing."""


@dataclass(frozen=True)
class Knee:
    """Where the front bends: past it, a further saving costs more miss rate than one before it."""

    trial_id: str
    distance: float
    """To the line between the front's ends, in the unit square; sqrt(1/2) is the most."""


@dataclass(frozen=True)
class Recommendation:
    """The student to ship unless a constraint says otherwise."""

    trial_id: str
    reason: Literal["knee", "only", "lowest miss rate"]


@dataclass(frozen=True)
class BaselineComparison:
    """A baseline beside the best distilled student that is no larger."""

    name: str
    trial_id: str
    best_distilled: str | None
    """Trial id; none if no distilled student has at most the baseline's parameters."""
    difference: float | None
    """mr2_reasonable of that student less the baseline's: below 0 where distillation helped."""


@dataclass(frozen=True)
class FrontAnalysis:
    """Everything the report says, as numbers."""

    study: str
    teacher: Teacher | None
    students: tuple[Student, ...]
    """All that were trained to their end, best miss rate first."""
    hypervolumes: tuple[Hypervolume, ...]
    """Of (mr2_reasonable, num_params), of (mr2_reasonable, flops), of all three."""
    params_knee: Knee | None
    flops_knee: Knee | None
    recommendation: Recommendation
    baselines: tuple[BaselineComparison, ...]
    importances: Importances
    count_by_status: Mapping[str, int]
    """Of all trials and baselines; ``finished`` ones that do not count are told apart as ``incomplete``."""

    @property
    def front(self) -> tuple[Student, ...]:
        """The three-objective front, by rank."""
        return tuple(student for student in self.students if student.rank is not None)

    @property
    def params_front(self) -> tuple[Student, ...]:
        """The front in (mr2_reasonable, num_params), fewest parameters first."""
        return tuple(sorted((s for s in self.students if s.on_params_front), key=lambda s: s.num_params))

    @property
    def flops_front(self) -> tuple[Student, ...]:
        """The front in (mr2_reasonable, flops), fewest FLOPs first."""
        return tuple(sorted((s for s in self.students if s.on_flops_front), key=lambda s: s.flops))

    def student(self, trial_id: str) -> Student:
        """The student of that trial.

        Raises:
            KeyError: no trial of that id was trained to its end.
        """
        for student in self.students:
            if student.trial_id == trial_id:
                return student
        raise KeyError(trial_id)


def analyse(records: StudyRecords) -> FrontAnalysis:
    """Compute everything the report says from what MLflow knows.

    Raises:
        ValueError: no trial was trained to its end.
    """
    if not records.counted:
        raise ValueError(f"study {records.study!r} has no trial that was trained to its end")
    teacher = _teacher(records.teacher)
    students = _students(records, teacher)
    params_front = [s for s in students if s.on_params_front]
    flops_front = [s for s in students if s.on_flops_front]
    params_knee = _knee([s.num_params for s in params_front], params_front)
    return FrontAnalysis(
        study=records.study,
        teacher=teacher,
        students=students,
        hypervolumes=tuple(
            _hypervolume(objectives, students, teacher)
            for objectives in (
                (names.MR2_REASONABLE, names.NUM_PARAMS),
                (names.MR2_REASONABLE, names.FLOPS),
                names.DEFAULT_OBJECTIVES,
            )
        ),
        params_knee=params_knee,
        flops_knee=_knee([s.flops for s in flops_front], flops_front),
        recommendation=_recommendation(students, params_knee),
        baselines=_compare_baselines(students),
        importances=importances_of(records),
        count_by_status=Counter(
            "incomplete" if t.status == names.STATUS_FINISHED and not t.is_counted else t.status for t in records.trials
        ),
    )


def _teacher(record: TrialRecord | None) -> Teacher | None:
    if record is None:
        return None
    num_params = record.metrics.get(names.NUM_PARAMS)
    return Teacher(
        run_id=record.run_id,
        mr2_reasonable=record.metrics.get(names.MR2_REASONABLE),
        num_params=None if num_params is None else round(num_params),
        flops=record.metrics.get(names.FLOPS),
        gmacs=record.metrics.get(names.GMACS),
    )


def _students(records: StudyRecords, teacher: Teacher | None) -> tuple[Student, ...]:
    def order(trial: TrialRecord) -> tuple[float, float, float, str]:
        mr2, num_params, flops = (trial.metrics[name] for name in names.DEFAULT_OBJECTIVES)
        return mr2, num_params, flops, trial.trial_id

    trials = sorted(records.counted, key=order)
    points = np.array([[trial.metrics[name] for name in names.DEFAULT_OBJECTIVES] for trial in trials])
    on_front = non_dominated(points)
    # Of trials that are equal in two objectives, the third decides: a plot never shows a point the table lacks.
    on_params_front = on_front & non_dominated(points[:, [0, 1]])
    on_flops_front = on_front & non_dominated(points[:, [0, 2]])
    ranks = np.cumsum(on_front)
    searched = records.searched_parameters()
    return tuple(
        Student(
            trial_id=trial.trial_id,
            run_id=trial.run_id,
            role=trial.role,
            baseline=trial.baseline,
            is_distilled=_is_distilled(trial),
            mr2_reasonable=trial.metrics[names.MR2_REASONABLE],
            num_params=round(trial.metrics[names.NUM_PARAMS]),
            flops=trial.metrics[names.FLOPS],
            gmacs=trial.metrics.get(names.GMACS),
            gap_to_teacher=_difference(
                trial.metrics[names.MR2_REASONABLE], teacher.mr2_reasonable if teacher else None
            ),
            times_fewer_params=_ratio(teacher.num_params if teacher else None, trial.metrics[names.NUM_PARAMS]),
            times_fewer_flops=_ratio(teacher.flops if teacher else None, trial.metrics[names.FLOPS]),
            settings={key: trial.params.get(key) for key in searched},
            rank=int(ranks[index]) if on_front[index] else None,
            on_params_front=bool(on_params_front[index]),
            on_flops_front=bool(on_flops_front[index]),
        )
        for index, trial in enumerate(trials)
    )


def _is_distilled(trial: TrialRecord) -> bool:
    """Whether a teacher had a part in the training: by its weights, or where those are not known by its name."""
    weights = [
        value for key, value in trial.params.items() if key.startswith("distillation.") and key.endswith("weight")
    ]
    if not weights:
        return trial.baseline != names.BASELINE_UNDISTILLED
    return any(isinstance(weight, int | float) and weight > 0 for weight in weights)


def _hypervolume(objectives: tuple[str, ...], students: Sequence[Student], teacher: Teacher | None) -> Hypervolume:
    points = np.array([[_objective(student, name) for name in objectives] for student in students])
    reference = np.array([_reference(name, students, teacher) for name in objectives])
    front = points[non_dominated(points)]
    return Hypervolume(
        objectives=objectives,
        # Divided by the reference point first: the box is then the unit cube, and large counts lose no digits.
        value=hypervolume(front / reference, np.ones(len(objectives))),
        reference_point=tuple(reference.tolist()),
        beyond_reference=int((~(front < reference).all(axis=1)).sum()),
    )


def _objective(student: Student, name: str) -> float:
    return {
        names.MR2_REASONABLE: student.mr2_reasonable,
        names.NUM_PARAMS: float(student.num_params),
        names.FLOPS: student.flops,
    }[name]


def _reference(name: str, students: Sequence[Student], teacher: Teacher | None) -> float:
    if name == names.MR2_REASONABLE:
        return 1.0
    of_teacher = (teacher.num_params if name == names.NUM_PARAMS else teacher.flops) if teacher else None
    return float(of_teacher) if of_teacher else max(_objective(student, name) for student in students)


def _knee(costs: Sequence[float], front: Sequence[Student]) -> Knee | None:
    found = knee_index(np.array(costs, dtype=float), np.array([student.mr2_reasonable for student in front]))
    return None if found is None else Knee(trial_id=front[found[0]].trial_id, distance=found[1])


def _recommendation(students: Sequence[Student], params_knee: Knee | None) -> Recommendation:
    if params_knee is not None:
        return Recommendation(params_knee.trial_id, "knee")
    front = [student for student in students if student.rank is not None]
    return Recommendation(front[0].trial_id, "only" if len(front) == 1 else "lowest miss rate")


def _compare_baselines(students: Sequence[Student]) -> tuple[BaselineComparison, ...]:
    comparisons = []
    for baseline in students:
        if baseline.role != names.ROLE_BASELINE:
            continue
        # Students are ordered by miss rate: the first that fits is the best.
        rivals = [s for s in students if s.is_distilled and s is not baseline and s.num_params <= baseline.num_params]
        comparisons.append(
            BaselineComparison(
                name=baseline.baseline or baseline.trial_id,
                trial_id=baseline.trial_id,
                best_distilled=rivals[0].trial_id if rivals else None,
                difference=rivals[0].mr2_reasonable - baseline.mr2_reasonable if rivals else None,
            )
        )
    return tuple(comparisons)


def _difference(value: float, of_teacher: float | None) -> float | None:
    return None if of_teacher is None else value - of_teacher


def _ratio(of_teacher: float | None, value: float) -> float | None:
    return None if of_teacher is None else of_teacher / value
