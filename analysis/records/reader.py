"""Reads one study from MLflow into typed records.

``sweeps/tracking/tracker.py`` writes it: experiment = study, one run per trial, tags ``hkd.*``, parameters by dotted
name, metrics with the epoch as step. The names are in :mod:`hkd.metric_names`.
"""

from __future__ import annotations

import math
import re
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from analysis.objectives import Objective, parse_objectives
from analysis.records.runs import History, StoredRun
from analysis.records.store import RecordsError, check_local_store, fetch_histories, fetch_runs
from analysis.records.study_records import ParameterValue, StudyRecords, TrialRecord, distillation_config
from hkd import metric_names as names
from hkd.text.redaction import redacted_setting, redacted_text, redacted_uri

_TRAINED_ROLES = (names.ROLE_BASELINE, names.ROLE_TRIAL)
_STATUSES = (names.STATUS_RUNNING, names.STATUS_FINISHED, names.STATUS_STOPPED, names.STATUS_FAILED)
_STATUS_OF_MLFLOW = {
    "RUNNING": names.STATUS_RUNNING,
    "SCHEDULED": names.STATUS_RUNNING,
    "FINISHED": names.STATUS_FINISHED,
    "FAILED": names.STATUS_FAILED,
    "KILLED": names.STATUS_STOPPED,
}
_LONGEST_ERROR = 200
_COMMIT_TAG = "mlflow.source.git.commit"
_INTEGER = re.compile(r"[+-]?\d{1,18}")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def read_study(study: str, tracking_uri: str) -> StudyRecords:
    """Read the runs of one study.

    Args:
        study: Name of the study and of its MLflow experiment.
        tracking_uri: ``sqlite:///mlflow.db``, ``http://host:5000``, ...

    Raises:
        RecordsError: the store is missing, unreadable or unreachable, holds no such study, or the study has no trial
            that was trained for all its epochs.
    """
    check_local_store(tracking_uri)
    runs = fetch_runs(study, tracking_uri)
    by_role: dict[str, list[StoredRun]] = {}
    for run in runs:
        by_role.setdefault(run.tags.get(names.TAG_ROLE, ""), []).append(run)
    notes: list[str] = []
    _note_roles(by_role, notes)
    parents = by_role.get(names.ROLE_STUDY, [])
    settings = _redacted(parents[-1].params) if parents else {}
    recorded = parse_objectives(settings.get(names.PARAM_OBJECTIVES))
    notes += [recorded.note] if recorded.note else []
    objectives = recorded.objectives
    histories = fetch_histories(study, runs, objectives[0].name, tracking_uri)

    def records_of(*roles: str) -> list[TrialRecord]:
        started = sorted((run for role in roles for run in by_role.get(role, [])), key=lambda run: run.start_ms)
        return [_record(run, histories[run.run_id], objectives) for run in started]

    trials = _one_record_per_trial(records_of(*_TRAINED_ROLES), notes)
    if not any(trial.is_counted for trial in trials):
        raise RecordsError(_nothing_counts(study, trials))
    _note_unknown_distillation(trials, notes)
    return StudyRecords(
        study=redacted_text(study),
        tracking_uri=redacted_uri(tracking_uri),
        objectives=objectives,
        trials=trials,
        teacher=_finished_teacher(records_of(names.ROLE_TEACHER), objectives, notes),
        settings=settings,
        tags=_readable_tags(parents[-1].tags) if parents else {},
        notes=tuple(notes),
        run_id=parents[-1].run_id if parents else None,
    )


def parse_parameter(text: str) -> ParameterValue:
    """The value of an MLflow parameter, which is always text: a number, True, False, None, or the text itself."""
    if text in ("None", "null"):
        return None
    if text in ("True", "true", "False", "false"):
        return text in ("True", "true")
    if _INTEGER.fullmatch(text):
        return int(text)
    if _NUMBER.fullmatch(text) and math.isfinite(float(text)):
        return float(text)
    return text


@lru_cache(maxsize=100_000)
def _parameter(key: str, text: str) -> ParameterValue:
    """The redacted value of a parameter. Trials share most of their settings: 10,000 trials have a million of them."""
    return parse_parameter(redacted_setting(key, text))


def _record(run: StoredRun, history: History, objectives: Sequence[Objective]) -> TrialRecord:
    ranked_metric = objectives[0].name
    tags = _redacted(run.tags)
    metrics = {key: value for key, value in run.metrics.items() if _is_finite(value)}
    if history:
        metrics.pop(ranked_metric, None)
        if _is_finite(history[-1][1]):
            metrics[ranked_metric] = history[-1][1]
    params = {key: _parameter(key, text) for key, text in run.params.items()}
    status = tags.get(names.TAG_STATUS) or _STATUS_OF_MLFLOW.get(run.status, run.status)
    epoch = history[-1][0] if history else None
    budget_fraction = metrics.get(names.BUDGET_FRACTION)
    return TrialRecord(
        trial_id=tags.get(names.TAG_TRIAL_ID) or redacted_text(run.name or run.run_id),
        run_id=run.run_id,
        role=tags[names.TAG_ROLE],
        baseline=tags.get(names.TAG_BASELINE),
        status=status,
        not_counted_because=(
            "the teacher is what students are compared with"
            if tags[names.TAG_ROLE] == names.ROLE_TEACHER
            else _why_not_counted(status, tags.get(names.TAG_ERROR), epoch, metrics, params, objectives)
        ),
        epoch=epoch,
        budget_fraction=budget_fraction,
        duration_seconds=(run.end_ms - run.start_ms) / 1000 if run.end_ms else None,
        metrics=metrics,
        params=params,
        # A diverged epoch has no miss rate: its NaN is no point of a curve, and JSON has none.
        history=tuple(point for point in history if _is_finite(point[1])),
        ended_at=run.end_ms / 1000 if run.end_ms else None,
    )


def _why_not_counted(
    status: str,
    error: str | None,
    epoch: int | None,
    metrics: Mapping[str, float],
    params: Mapping[str, ParameterValue],
    objectives: Sequence[Objective],
) -> str | None:
    """The first reason that applies: how the trial ended, how far it was trained, which objective it lacks."""
    budget_fraction = metrics.get(names.BUDGET_FRACTION)
    trained = "" if budget_fraction is None else f" after {100 * budget_fraction:.0f} % of its epochs"
    if status == names.STATUS_RUNNING:
        return f"unfinished{trained}: still running, or interrupted"
    if status in (names.STATUS_STOPPED, names.STATUS_FAILED):
        what = f": {error[:_LONGEST_ERROR]}" if error else ""
        return f"{status}{trained}{what}"
    if status != names.STATUS_FINISHED:
        return f"its status is {status!r}, which is not one of {', '.join(_STATUSES)}"
    if budget_fraction != 1:
        found = "missing" if budget_fraction is None else f"{budget_fraction:g}"
        return f"{names.BUDGET_FRACTION} is {found}, not 1: it was not trained for all its epochs"
    total_epochs = params.get(names.PARAM_TOTAL_EPOCHS)
    if isinstance(total_epochs, int) and epoch is not None and epoch != total_epochs:
        return f"its last evaluation is of epoch {epoch} of {total_epochs}"
    return next((problem for objective in objectives if (problem := _value_problem(objective, metrics))), None)


def _value_problem(objective: Objective, metrics: Mapping[str, float]) -> str | None:
    value = metrics.get(objective.name)
    if value is None:
        return f"{objective.name} is missing or not finite"
    if not objective.is_cost and not 0 <= value <= 1:
        return f"{objective.name} is {value:g}, outside [0, 1]"
    if objective.is_cost and value <= 0:
        return f"{objective.name} is {value:g}, not above 0"
    return None


def _one_record_per_trial(records: Iterable[TrialRecord], notes: list[str]) -> tuple[TrialRecord, ...]:
    """One record per trial id: of several runs one that is counted, of several such the one that started last."""
    chosen: dict[str, TrialRecord] = {}
    counts: Counter[str] = Counter()
    for record in records:
        counts[record.trial_id] += 1
        before = chosen.get(record.trial_id)
        if before is None or record.is_counted or not before.is_counted:
            chosen[record.trial_id] = record
    for trial_id, count in counts.items():
        if count > 1:
            notes.append(f"Trial {trial_id} has {count} runs in MLflow; the report uses run {chosen[trial_id].run_id}.")
    return tuple(chosen.values())


def _finished_teacher(
    teachers: list[TrialRecord], objectives: Sequence[Objective], notes: list[str]
) -> TrialRecord | None:
    finished = [teacher for teacher in teachers if teacher.status == names.STATUS_FINISHED]
    if not teachers:
        notes.append("The study has no teacher run: the report has no gaps and ratios to a teacher.")
    elif not finished:
        notes.append(f"The teacher's run is {teachers[-1].status}: the report has no gaps and ratios to a teacher.")
    elif len(finished) > 1:
        notes.append(f"The study has {len(finished)} finished teacher runs; the report uses run {finished[-1].run_id}.")
    if not finished:
        return None
    missing = [objective.name for objective in objectives if objective.name not in finished[-1].metrics]
    if missing:
        notes.append(f"The teacher's run has no finite {', '.join(missing)}: the report has no gaps and ratios to it.")
    return finished[-1]


def _note_roles(by_role: Mapping[str, list[StoredRun]], notes: list[str]) -> None:
    if names.ROLE_STUDY not in by_role:
        notes.append("The study has no parent run: its settings are unknown.")
    # Confirmations are on the run of the trial that they confirm.
    known = (names.ROLE_STUDY, names.ROLE_TEACHER, names.ROLE_CONFIRMATION, *_TRAINED_ROLES)
    foreign = sum(len(runs) for role, runs in by_role.items() if role not in known)
    if foreign:
        notes.append(f"Ignored runs of the experiment, which have no role of hkd (tag {names.TAG_ROLE}): {foreign}.")


def _note_unknown_distillation(trials: Sequence[TrialRecord], notes: list[str]) -> None:
    unknown = [trial.trial_id for trial in trials if trial.is_counted and distillation_config(trial.params) is None]
    if unknown:
        notes.append(
            f"MLflow has no readable distillation settings of {', '.join(unknown)}: each counts as distilled unless "
            f"it is the baseline {names.BASELINE_UNDISTILLED}."
        )


def _nothing_counts(study: str, trials: tuple[TrialRecord, ...]) -> str:
    if not trials:
        return (
            f"study {study!r} has no trials: no run of the experiment carries the tag {names.TAG_ROLE} = "
            f"{names.ROLE_TRIAL} or {names.ROLE_BASELINE}. Was it written by sweeps/run.py?"
        )
    reasons = Counter(trial.not_counted_because for trial in trials)
    listed = "; ".join(f"{count} x {reason}" for reason, count in reasons.most_common(5))
    if any(trial.status == names.STATUS_FINISHED and trial.budget_fraction == 1 for trial in trials):
        return (
            f"study {study!r} has no trial with valid values of all its objectives ({listed}). Run it under another "
            "name, with objectives that can be measured on its validation images."
        )
    return (
        f"study {study!r} has no finished trials: none of its {len(trials)} was trained for all its epochs "
        f"({listed}). Let it finish, or resume it with sweeps/run.py --resume."
    )


def _readable_tags(tags: Mapping[str, str]) -> dict[str, str]:
    return _redacted({k: text for k, text in tags.items() if not k.startswith("mlflow.") or k == _COMMIT_TAG})


def _redacted(texts: Mapping[str, str]) -> dict[str, str]:
    """Parameters or tags without the credentials that a logged URI may contain."""
    return {key: redacted_setting(key, text) for key, text in texts.items()}


def _is_finite(value: float) -> bool:
    # MLflow's SQL stores write the largest float for infinity.
    return math.isfinite(value) and abs(value) < sys.float_info.max
