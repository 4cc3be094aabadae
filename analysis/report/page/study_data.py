"""What the scripts of the report's page read: the study as plain values, with foreign text escaped."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from analysis.choice import smaller_alike
from analysis.front import Front, PairFront, Student
from analysis.marks import baseline_mark
from analysis.objectives import OBJECTIVES, Objective
from analysis.pictures.differences import DIFFERENCE_RULE
from analysis.pictures.samples import NO_SAMPLES, Detections, Picture, Sample, Samples
from analysis.records.curves import Curve
from analysis.records.study_records import ParameterValue, StudyRecords, TrialRecord
from analysis.report.tables import short_names
from analysis.results import StudyResults
from analysis.variants import int8_beside
from hkd import metric_names as names
from hkd.findings import LOWEST_MEASURED, NEAR_POINTS, NEARLY_EVERYONE, SHIPPABLE_POINTS
from hkd.text.escaping import printable

VERDICTS: Mapping[str, str] = {
    "near": "Ship {trial}",
    "with loss": "Ship {trial} if its loss is acceptable",
    "no teacher": "The choice is {trial}",
    "not ready": "Nothing here is ready to ship",
    "not ready within limits": "No student within the budget is ready to ship",
    "undetermined": "Undetermined: the miss rate of {trial} is exactly 0",
    "over budget": "No student meets the budget; the nearest is {trial}",
}
"""The page's headline; ``{trial}`` is the chosen student."""


def measures(front: Front) -> tuple[Objective, ...]:
    """What the page shows of each student: the objectives, then the other costs that a student has.

    Multiply-adds are half the FLOPs and are shown only as an objective.
    """
    costs = [OBJECTIVES[name] for name in (names.NUM_PARAMS, names.FLOPS, names.LATENCY_MS)]
    others = [cost for cost in costs if cost not in front.objectives]
    return (*front.objectives, *(each for each in others if any(each.name in s.values for s in front.students)))


def kind(trial: TrialRecord) -> str:
    """What a record is, in a word or two: 'trial', 'baseline undistilled'."""
    return f"baseline {trial.baseline}" if trial.baseline else trial.role


def verdict_key(results: StudyResults) -> str:
    """Which of ``VERDICTS`` is the headline."""
    found = results.recommendation
    if found.verdict == "indistinguishable":
        return found.readiness
    if found.verdict == "not ready" and found.limits and not any(f.kind == "nothing ready" for f in results.findings):
        return "not ready within limits"
    return found.verdict


def recorded_settings(records: StudyRecords) -> tuple[str, ...]:
    """Dotted names of the settings that differ between trials or baselines: the searched ones first."""
    searched = records.searched_parameters()
    keys = sorted({key for trial in records.trials for key in trial.params} - set(searched))
    return (*searched, *(key for key in keys if len({trial.params.get(key) for trial in records.trials}) > 1))


def page_values(
    trial: TrialRecord, student: Student | None, front: Front, shown: Iterable[Objective]
) -> list[float | None]:
    """Of each of the page's measures: what a detector is compared by.

    Where miss rates are means over other seeds, those of trials that were trained once are left out.

    Args:
        trial: A trial, a baseline or the teacher.
        student: Of that trial; None where it is not counted.
        front: By which students are chosen.
        shown: :func:`measures` of it.
    """
    values: Mapping[str, float] = trial.metrics if student is None else student.values
    if trial.role == names.ROLE_TEACHER and front.teacher is not None:
        values = front.teacher.values
    elif front.basis != "search" and student not in front.students:
        values = {name: value for name, value in values.items() if not name.startswith(names.MR2_PREFIX)}
    return [values.get(each.name) for each in shown]


def page_data(
    records: StudyRecords, results: StudyResults, curves: Mapping[str, Curve], samples: Samples = NO_SAMPLES
) -> dict[str, Any]:
    """Plain values. Trials are in the order of the records; other lists refer to them by their index."""
    front = results.front
    shown = measures(front)
    index_of = {trial.trial_id: index for index, trial in enumerate(records.trials)}
    student_of = {student.trial_id: student for student in (*front.students, *front.once)}
    is_of_means = front.basis != "search"
    settings = recorded_settings(records)
    short = short_names(settings)
    again = {
        each.trial_id: {
            "seeds": each.num_seeds,
            "mean": each.mean,
            "spread": each.spread,
            "testMean": each.test_mean,
            "testSpread": each.test_spread,
        }
        for each in results.confirmation.repeated
    }
    return {
        "study": printable(results.study),
        "measures": [measure_data(each) for each in shown],
        "numObjectives": len(front.objectives),
        "settings": [{"name": printable(name), "short": printable(short[name])} for name in settings],
        "numSearched": len(records.searched_parameters()),
        "teacher": None
        if front.teacher is None
        else {
            "values": [front.teacher.values.get(each.name) for each in shown],
            "search": _search_values(records.teacher, shown) if is_of_means else None,
            "history": records.teacher.history if records.teacher else (),
            "run": printable(front.teacher.run_id),
            "curve": curves.get(front.teacher.run_id, ()),
        },
        "trials": [
            _trial(trial, student_of.get(trial.trial_id), front, shown, settings)
            | {"search": _search_values(trial, shown) if is_of_means else None}
            | _certainty(trial, results)
            | {"again": again.get(trial.trial_id)}
            | {"curve": curves.get(trial.run_id, ())}
            | {"samples": [_sample(each) for each in samples.by_trial.get(trial.trial_id, ())]}
            for trial in records.trials
        ],
        "pairs": [_pair(pair, shown, index_of, results) for pair in front.pairs],
        "chosen": index_of[results.recommendation.trial_id],
        "order": [index_of[student.trial_id] for student in front.students],
        "once": [index_of[student.trial_id] for student in front.once],
        "basis": front.basis,
        "teacherOnTest": results.confirmation.teacher_on_test,
        "limits": dict(results.recommendation.limits),
        "hypervolume": [
            {"trial": index_of[step.trial_id], "number": step.num_trials, "epochs": step.epochs, "value": step.value}
            for step in results.progress.hypervolume
        ],
        "stops": results.progress.compute.stops,
        "alike": _alike(results, index_of),
        "pictures": [_picture(each) for each in samples.pictures],
        "confidence": results.uncertainty.confidence,
        "numImages": results.uncertainty.num_images,
        "rule": {
            "nearPoints": NEAR_POINTS,
            "shippablePoints": SHIPPABLE_POINTS,
            "nearlyEveryone": NEARLY_EVERYONE,
            "lowestMeasured": LOWEST_MEASURED,
            "verdicts": VERDICTS,
            "difference": DIFFERENCE_RULE,
        },
    }


def _picture(picture: Picture) -> dict[str, Any]:
    return {
        "name": printable(picture.name),
        "width": picture.width,
        "height": picture.height,
        "uri": f"data:image/jpeg;base64,{base64.b64encode(picture.jpeg).decode()}",
        "people": [[*person.box, int(person.counts)] for person in picture.people],
    }


def _sample(sample: Sample) -> dict[str, Any]:
    def detections(found: Detections) -> dict[str, Any]:
        return {
            "boxes": [[*each.box, round(each.score, 2), each.outcome] for each in found.boxes],
            "found": found.found,
        }

    return {
        "picture": sample.picture,
        "difference": sample.difference,
        "student": detections(sample.student),
        "teacher": None if sample.teacher is None else detections(sample.teacher),
    }


def measure_data(objective: Objective) -> dict[str, Any]:
    """What scripts need to show values."""
    return {
        "name": objective.name,
        "noun": objective.noun,
        "column": objective.column,
        "axis": objective.axis_label,
        "unit": objective.unit,
        "symbol": objective.unit_symbol,
        "isCost": objective.is_cost,
        "isCounted": objective.is_counted,
    }


def _trial(
    trial: TrialRecord,
    student: Student | None,
    front: Front,
    shown: Iterable[Objective],
    settings: Sequence[str],
) -> dict[str, Any]:
    return {
        "id": printable(trial.trial_id),
        "run": printable(trial.run_id),
        "kind": printable(kind(trial)),
        "isBaseline": trial.role == names.ROLE_BASELINE,
        "isUndistilled": not trial.is_distilled,
        "mark": asdict(baseline_mark(is_distilled=trial.is_distilled)) if trial.role == names.ROLE_BASELINE else None,
        "status": printable(trial.status),
        "reason": None if trial.is_counted else printable(trial.not_counted_because or ""),
        "isCounted": student is not None,
        "rank": student.rank if student else None,
        "values": page_values(trial, student, front, shown),
        "settings": [_setting(trial.params.get(key)) for key in settings],
        "history": trial.history,
        "seconds": trial.duration_seconds,
    }


def _search_values(trial: TrialRecord | None, shown: Iterable[Objective]) -> list[float | None]:
    """The values of the search, where the page compares by others."""
    return [trial.metrics.get(each.name) if trial else None for each in shown]


def _certainty(trial: TrialRecord, results: StudyResults) -> dict[str, Any]:
    uncertainty = results.uncertainty
    interval = uncertainty.intervals.get(trial.trial_id, {}).get(results.front.miss_rate.name)
    is_known = interval is not None and interval.low is not None
    return {
        "interval": [interval.low, interval.high] if interval is not None and is_known else None,
        "onFront": uncertainty.front_probability.get(trial.trial_id),
    }


def _alike(results: StudyResults, index_of: Mapping[str, int]) -> dict[int, list[int]]:
    """Student -> the smaller ones that cannot be distinguished from it."""
    found = {
        index_of[best.trial_id]: [
            index_of[student.trial_id] for student, _ in smaller_alike(results.front, best, results.uncertainty)
        ]
        for best in results.front.students
    }
    return {best: alike for best, alike in found.items() if alike}


def _pair(
    pair: PairFront, shown: Sequence[Objective], index_of: Mapping[str, int], results: StudyResults
) -> dict[str, Any]:
    objectives = list(shown)
    return {
        "key": pair.key,
        "miss": objectives.index(pair.miss_rate),
        "cost": objectives.index(pair.cost),
        "front": [index_of[student.trial_id] for student in pair.students],
        "knee": index_of[pair.knee.trial_id] if pair.knee else None,
        "int8": [
            {
                "trial": index_of[each.trial_id],
                "file": printable(each.file),
                "missRate": each.miss_rate,
                "cost": each.latency_ms,
            }
            for each in int8_beside(results.variants, results.front, pair)
        ],
    }


def _setting(value: ParameterValue) -> ParameterValue:
    return printable(value) if isinstance(value, str) else value
