"""Reads one study out of MLflow into typed records: what was trained, how far, and how well.

The layout of a study in MLflow (experiment = study, one run per trial, tags ``hkd.*``, dotted parameters,
metrics with the epoch as step) is what ``sweeps/tracking.py`` writes; the names are in :mod:`hkd.metric_names`.
"""

from __future__ import annotations

import math
import re
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pandas as pd

from analysis.store import RecordsError, StoredRun, check_local_store, fetch_runs
from hkd import metric_names as names
from hkd.redaction import redacted_setting, redacted_text, redacted_uri

ParameterValue = bool | int | float | str | None

TOTAL_EPOCHS_PARAMETER = "training.total_epochs"
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


@dataclass(frozen=True)
class TrialRecord:
    """One detector of a study (a trial, a baseline or the teacher), as MLflow has it."""

    trial_id: str
    run_id: str
    """MLflow's."""
    role: str
    """``trial``, ``baseline`` or ``teacher``."""
    baseline: str | None
    """Name of the baseline; none on other trials."""
    status: str
    """``running``, ``finished``, ``stopped`` or ``failed``."""
    not_counted_because: str | None
    """Why the trial has no place in a front; none for a trial that was trained to its end and has all objectives."""
    epoch: int | None
    """The epoch of the last evaluation, counted from 1."""
    budget_fraction: float | None
    """Epochs trained over epochs planned."""
    duration_seconds: float | None
    """Wall clock between MLflow's start and end of the run; none while it runs."""
    metrics: Mapping[str, float]
    """Last value of every metric; those that were not finite are left out."""
    params: Mapping[str, ParameterValue]
    """The resolved configuration by dotted name."""
    history: tuple[tuple[int, float], ...]
    """(epoch, mr2_reasonable) of every evaluation, oldest first."""

    @property
    def is_counted(self) -> bool:
        """Whether the trial competes for the front."""
        return self.not_counted_because is None


@dataclass(frozen=True)
class StudyRecords:
    """Everything MLflow knows of one study. Nothing is dropped: what does not count says why."""

    study: str
    tracking_uri: str
    """Without its password."""
    trials: tuple[TrialRecord, ...]
    """Baselines and trials in the order in which they started."""
    teacher: TrialRecord | None
    settings: Mapping[str, str]
    """Parameters of the study's parent run."""
    tags: Mapping[str, str]
    """Tags of the parent run, MLflow's own left out but for the commit."""
    notes: tuple[str, ...]
    """What a reader of the report should know about the records: runs that were doubled, a parent that is missing."""

    @property
    def counted(self) -> tuple[TrialRecord, ...]:
        """Trials and baselines that compete for the front."""
        return tuple(trial for trial in self.trials if trial.is_counted)

    @property
    def not_counted(self) -> tuple[TrialRecord, ...]:
        """All others: failed, stopped, still running, or incomplete."""
        return tuple(trial for trial in self.trials if not trial.is_counted)

    def searched_parameters(self) -> tuple[str, ...]:
        """Dotted names of the settings in which the trials (baselines aside) differ, in alphabetical order."""
        trials = [trial for trial in self.trials if trial.role == names.ROLE_TRIAL]
        keys = sorted({key for trial in trials for key in trial.params})
        return tuple(key for key in keys if len({trial.params.get(key) for trial in trials}) > 1)

    def table(self) -> pd.DataFrame:
        """One row a detector, the teacher first: identity, state, metrics by name, parameters by dotted name."""
        rows = [self.teacher, *self.trials] if self.teacher else list(self.trials)
        metric_keys = _known_first({key for row in rows for key in row.metrics})
        param_keys = sorted({key for row in rows for key in row.params})
        columns: dict[str, object] = {
            "trial_id": [row.trial_id for row in rows],
            "role": [row.role for row in rows],
            "baseline": [row.baseline for row in rows],
            "status": [row.status for row in rows],
            "counted": [row.is_counted for row in rows],
            "not_counted_because": [row.not_counted_because for row in rows],
            names.EPOCH: pd.array([row.epoch for row in rows], dtype="Int64"),
            names.BUDGET_FRACTION: pd.array([row.budget_fraction for row in rows], dtype="Float64"),
            "duration_seconds": pd.array([row.duration_seconds for row in rows], dtype="Float64"),
            "run_id": [row.run_id for row in rows],
        }
        for key in metric_keys:
            if key not in columns:
                columns[key] = pd.array([row.metrics.get(key) for row in rows], dtype="Float64")
        for key in (names.NUM_PARAMS, names.FLOPS):
            if key in columns:
                columns[key] = pd.array([_whole(row.metrics.get(key)) for row in rows], dtype="Int64")
        for key in param_keys:
            # One list of plain values a column: a column that mixes numbers and names stays as it was written.
            columns[key] = [row.params.get(key) for row in rows]
        return pd.DataFrame(columns)


def read_study(study: str, tracking_uri: str) -> StudyRecords:
    """Read the runs of one study.

    Args:
        study: name of the study, which is the name of its MLflow experiment.
        tracking_uri: where MLflow keeps it: ``sqlite:///mlflow.db``, ``http://host:5000``, ...

    Raises:
        RecordsError: the store is absent, unreadable or unreachable, holds no such study, or the study has no trial
            that was trained to its end.
    """
    check_local_store(tracking_uri)
    by_role: dict[str, list[StoredRun]] = {}
    for stored in fetch_runs(study, tracking_uri):
        by_role.setdefault(stored.run.data.tags.get(names.TAG_ROLE, ""), []).append(stored)
    notes: list[str] = []
    _note_roles(by_role, notes)
    teachers = [_record(stored) for stored in by_role.get(names.ROLE_TEACHER, [])]
    started = sorted(
        (stored for role in _TRAINED_ROLES for stored in by_role.get(role, [])),
        key=lambda stored: stored.run.info.start_time,
    )
    parents = [stored.run for stored in by_role.get(names.ROLE_STUDY, [])]
    trials = _one_record_a_trial([_record(stored) for stored in started], notes)
    if not any(trial.is_counted for trial in trials):
        raise RecordsError(_nothing_counts(study, trials))
    return StudyRecords(
        study=redacted_text(study),
        tracking_uri=redacted_uri(tracking_uri),
        trials=trials,
        teacher=_the_teacher(teachers, notes),
        settings=_redacted(parents[-1].data.params) if parents else {},
        tags=_readable_tags(parents[-1].data.tags) if parents else {},
        notes=tuple(notes),
    )


def parse_parameter(text: str) -> ParameterValue:
    """The plain value behind an MLflow parameter, which is always text. What is no number or constant stays text."""
    if text in ("None", "null"):
        return None
    if text in ("True", "true", "False", "false"):
        return text in ("True", "true")
    if _INTEGER.fullmatch(text):
        return int(text)
    if _NUMBER.fullmatch(text) and math.isfinite(float(text)):
        return float(text)
    return text


def _record(stored: StoredRun) -> TrialRecord:
    data, info, history = stored.run.data, stored.run.info, stored.miss_rate_history
    tags = _redacted(data.tags)
    metrics = {key: value for key, value in data.metrics.items() if _is_finite(value)}
    if history:
        metrics.pop(names.MR2_REASONABLE, None)
        if _is_finite(history[-1][1]):
            metrics[names.MR2_REASONABLE] = history[-1][1]
    params = {key: parse_parameter(text) for key, text in _redacted(data.params).items()}
    status = tags.get(names.TAG_STATUS) or _STATUS_OF_MLFLOW.get(info.status, info.status)
    epoch = history[-1][0] if history else None
    budget_fraction = metrics.get(names.BUDGET_FRACTION)
    return TrialRecord(
        trial_id=tags.get(names.TAG_TRIAL_ID) or redacted_text(info.run_name or info.run_id),
        run_id=info.run_id,
        role=tags[names.TAG_ROLE],
        baseline=tags.get(names.TAG_BASELINE),
        status=status,
        not_counted_because=(
            "it is what students are compared with"
            if tags[names.TAG_ROLE] == names.ROLE_TEACHER
            else _why_not_counted(status, tags.get(names.TAG_ERROR), epoch, metrics, params)
        ),
        epoch=epoch,
        budget_fraction=budget_fraction,
        duration_seconds=(info.end_time - info.start_time) / 1000 if info.end_time else None,
        metrics=metrics,
        params=params,
        history=history,
    )


def _why_not_counted(
    status: str,
    error: str | None,
    epoch: int | None,
    metrics: Mapping[str, float],
    params: Mapping[str, ParameterValue],
) -> str | None:
    """One reason, the first that holds: how the trial ended, how far it came, what it lacks."""
    budget_fraction = metrics.get(names.BUDGET_FRACTION)
    trained = "" if budget_fraction is None else f" after {100 * budget_fraction:.0f} % of its epochs"
    if status == names.STATUS_RUNNING:
        return f"not at its end{trained}: still running, or cut off"
    if status in (names.STATUS_STOPPED, names.STATUS_FAILED):
        what = f": {error[:_LONGEST_ERROR]}" if error else ""
        return f"{status}{trained}{what}"
    if status != names.STATUS_FINISHED:
        return f"its status {status!r} is none of {', '.join(_STATUSES)}"
    if budget_fraction != 1:
        found = "missing" if budget_fraction is None else f"{budget_fraction:g}"
        return f"{names.BUDGET_FRACTION} is {found}, not 1: it was not trained to its end"
    total_epochs = params.get(TOTAL_EPOCHS_PARAMETER)
    if isinstance(total_epochs, int) and epoch is not None and epoch != total_epochs:
        return f"its last evaluation is of epoch {epoch} of {total_epochs}"
    for name in names.DEFAULT_OBJECTIVES:
        value = metrics.get(name)
        if value is None:
            return f"{name} is missing or not finite"
        if name == names.MR2_REASONABLE and not 0 <= value <= 1:
            return f"{name} is {value:g}, outside [0, 1]"
        if name != names.MR2_REASONABLE and value <= 0:
            return f"{name} is {value:g}, not above 0"
    return None


def _one_record_a_trial(records: Iterable[TrialRecord], notes: list[str]) -> tuple[TrialRecord, ...]:
    """One record for each trial id: of several runs the one that counts, of several such the one that started last."""
    chosen: dict[str, TrialRecord] = {}
    counts: Counter[str] = Counter()
    for record in records:
        counts[record.trial_id] += 1
        before = chosen.get(record.trial_id)
        if before is None or record.is_counted or not before.is_counted:
            chosen[record.trial_id] = record
    for trial_id, count in counts.items():
        if count > 1:
            notes.append(f"Trial {trial_id} has {count} runs in MLflow; run {chosen[trial_id].run_id} is the one used.")
    return tuple(chosen.values())


def _the_teacher(teachers: list[TrialRecord], notes: list[str]) -> TrialRecord | None:
    finished = [teacher for teacher in teachers if teacher.status == names.STATUS_FINISHED]
    if not teachers:
        notes.append("The study has no teacher run: gaps and ratios to a teacher are not given.")
    elif not finished:
        notes.append(f"The teacher's run is {teachers[-1].status}, not finished: gaps and ratios to it are not given.")
    elif len(finished) > 1:
        notes.append(f"The study has {len(finished)} finished teacher runs; run {finished[-1].run_id} is the one used.")
    if not finished:
        return None
    missing = [name for name in names.DEFAULT_OBJECTIVES if name not in finished[-1].metrics]
    if missing:
        notes.append(f"The teacher's run has no finite {', '.join(missing)}: comparisons that need it are not given.")
    return finished[-1]


def _note_roles(by_role: Mapping[str, list[StoredRun]], notes: list[str]) -> None:
    if names.ROLE_STUDY not in by_role:
        notes.append("The study has no parent run: its settings are not known.")
    known = (names.ROLE_STUDY, names.ROLE_TEACHER, *_TRAINED_ROLES)
    foreign = sum(len(runs) for role, runs in by_role.items() if role not in known)
    if foreign:
        noun = "run" if foreign == 1 else "runs"
        notes.append(f"{foreign} {noun} of the experiment without a role of hkd's (tag {names.TAG_ROLE}) left aside.")


def _nothing_counts(study: str, trials: tuple[TrialRecord, ...]) -> str:
    if not trials:
        return (
            f"study {study!r} has no trials: no run of the experiment carries the tag {names.TAG_ROLE} = "
            f"{names.ROLE_TRIAL} or {names.ROLE_BASELINE}. Was it written by sweeps/run.py?"
        )
    reasons = Counter(trial.not_counted_because for trial in trials)
    listed = "; ".join(f"{count} x {reason}" for reason, count in reasons.most_common(5))
    return (
        f"study {study!r} has no finished trials to report on: of its {len(trials)} none was trained to its end "
        f"({listed}). Let it finish, or continue it with sweeps/run.py --resume."
    )


def _readable_tags(tags: Mapping[str, str]) -> dict[str, str]:
    return _redacted({k: text for k, text in tags.items() if not k.startswith("mlflow.") or k == _COMMIT_TAG})


def _redacted(texts: Mapping[str, str]) -> dict[str, str]:
    """Parameters or tags without credentials: whoever logged them may have written a URI with its password."""
    return {key: redacted_setting(key, text) for key, text in texts.items()}


def _known_first(keys: set[str]) -> list[str]:
    known = [
        *(names.MR2_REASONABLE, names.MR2_SMALL, names.MR2_HEAVY, names.MR2_ALL, names.AP, names.AP50),
        *(names.NUM_PARAMS, names.FLOPS, names.GMACS),
    ]
    return [key for key in known if key in keys] + sorted(keys - set(known))


def _is_finite(value: float) -> bool:
    # MLflow's SQL stores write the largest float for infinity.
    return math.isfinite(value) and abs(value) < sys.float_info.max


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)
