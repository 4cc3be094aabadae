"""What the scripts of the report's page read: the study as plain values, with foreign text escaped."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from analysis.front import Front, PairFront, Student
from analysis.objectives import OBJECTIVES, Objective
from analysis.records.study_records import ParameterValue, StudyRecords, TrialRecord
from analysis.report.tables import short_names
from analysis.results import StudyResults
from hkd import metric_names as names
from hkd.findings import LOWEST_MEASURED, NEAR_POINTS, NEARLY_EVERYONE, SHIPPABLE_POINTS
from hkd.text.escaping import printable

VERDICTS: Mapping[str, str] = {
    "near": "Ship {trial}",
    "with loss": "Ship {trial} if its loss is acceptable",
    "no teacher": "The choice is {trial}",
    "not ready": "Nothing here is ready to ship",
    "undetermined": "Undetermined: the miss rate of {trial} is exactly 0",
}
"""The page's headline by readiness; ``{trial}`` is the chosen student."""


def measures(front: Front) -> tuple[Objective, ...]:
    """What the page shows of each student: the objectives, then the other costs that a student has.

    Multiply-adds are half the FLOPs and are shown only as an objective.
    """
    others = [OBJECTIVES[name] for name in names.COSTS if name != names.GMACS and OBJECTIVES[name] not in front.objectives]
    return (*front.objectives, *(each for each in others if any(each.name in s.values for s in front.students)))


def kind(trial: TrialRecord) -> str:
    """What a record is, in a word or two: 'trial', 'baseline undistilled'."""
    return f"baseline {trial.baseline}" if trial.baseline else trial.role


def recorded_settings(records: StudyRecords) -> tuple[str, ...]:
    """Dotted names of the settings that differ between trials or baselines: the searched ones first."""
    searched = records.searched_parameters()
    keys = sorted({key for trial in records.trials for key in trial.params} - set(searched))
    return (*searched, *(key for key in keys if len({trial.params.get(key) for trial in records.trials}) > 1))


def page_data(records: StudyRecords, results: StudyResults) -> dict[str, Any]:
    """Plain values. Trials are in the order of the records; other lists refer to them by their index."""
    front = results.front
    shown = measures(front)
    index_of = {trial.trial_id: index for index, trial in enumerate(records.trials)}
    student_of = {student.trial_id: student for student in front.students}
    settings = recorded_settings(records)
    short = short_names(settings)
    return {
        "study": printable(results.study),
        "measures": [_measure(each) for each in shown],
        "numObjectives": len(front.objectives),
        "settings": [{"name": printable(name), "short": printable(short[name])} for name in settings],
        "numSearched": len(records.searched_parameters()),
        "teacher": None
        if front.teacher is None
        else {
            "values": [front.teacher.values.get(each.name) for each in shown],
            "history": records.teacher.history if records.teacher else (),
            "run": printable(front.teacher.run_id),
        },
        "trials": [_trial(trial, student_of.get(trial.trial_id), shown, settings) for trial in records.trials],
        "pairs": [_pair(pair, front, index_of) for pair in front.pairs],
        "chosen": index_of[results.recommendation.trial_id],
        "rule": {
            "nearPoints": NEAR_POINTS,
            "shippablePoints": SHIPPABLE_POINTS,
            "nearlyEveryone": NEARLY_EVERYONE,
            "lowestMeasured": LOWEST_MEASURED,
            "verdicts": VERDICTS,
        },
    }


def as_script(value: object) -> str:
    """JSON in ASCII, for the inside of a ``<script type="application/json">``, which nothing in it can end."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _measure(objective: Objective) -> dict[str, Any]:
    return {
        "name": objective.name,
        "noun": objective.noun,
        "column": objective.column,
        "axis": objective.axis_label,
        "unit": objective.unit,
        "symbol": objective.unit_symbol,
        "isCost": objective.is_cost,
    }


def _trial(
    trial: TrialRecord, student: Student | None, shown: Iterable[Objective], settings: Sequence[str]
) -> dict[str, Any]:
    values = trial.metrics if student is None else student.values
    return {
        "id": printable(trial.trial_id),
        "run": printable(trial.run_id),
        "kind": printable(kind(trial)),
        "isBaseline": trial.role == names.ROLE_BASELINE,
        "isUndistilled": not trial.is_distilled,
        "status": printable(trial.status),
        "reason": None if trial.is_counted else printable(trial.not_counted_because or ""),
        "isCounted": student is not None,
        "rank": student.rank if student else None,
        "values": [values.get(each.name) for each in shown],
        "settings": [_setting(trial.params.get(key)) for key in settings],
        "history": trial.history,
        "seconds": trial.duration_seconds,
    }


def _pair(pair: PairFront, front: Front, index_of: Mapping[str, int]) -> dict[str, Any]:
    objectives = list(front.objectives)
    return {
        "key": pair.key,
        "miss": objectives.index(pair.miss_rate),
        "cost": objectives.index(pair.cost),
        "front": [index_of[student.trial_id] for student in pair.students],
        "knee": index_of[pair.knee.trial_id] if pair.knee else None,
    }


def _setting(value: ParameterValue) -> ParameterValue:
    return printable(value) if isinstance(value, str) else value
