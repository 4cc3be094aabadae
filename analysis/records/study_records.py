"""Typed records of one study: what was trained, for how many epochs, and how well."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import pandas as pd
from pydantic import ValidationError

from analysis.objectives import Objective
from hkd import metric_names as names
from hkd.config import DistillationConfig, Section, TrialConfig

ParameterValue = bool | int | float | str | None


@dataclass(frozen=True)
class TrialRecord:
    """One detector of a study (a trial, a baseline or the teacher) as recorded in MLflow."""

    trial_id: str
    run_id: str
    """MLflow's."""
    role: str
    """``trial``, ``baseline`` or ``teacher``."""
    baseline: str | None
    """Name of the baseline; None for other trials."""
    status: str
    """``running``, ``finished``, ``stopped`` or ``failed``."""
    not_counted_because: str | None
    """Why the trial is not counted; None if it was trained for all its epochs and has all objectives."""
    epoch: int | None
    """The epoch of the last evaluation, counted from 1."""
    budget_fraction: float | None
    """Epochs trained over epochs planned."""
    duration_seconds: float | None
    """Wall-clock time between start and end of the run; None while it runs."""
    metrics: Mapping[str, float]
    """Last value of every metric that is finite."""
    params: Mapping[str, ParameterValue]
    """The resolved configuration by dotted name."""
    history: tuple[tuple[int, float], ...]
    """(epoch, first miss rate of the study's objectives) of every evaluation with a finite one, oldest first."""
    ended_at: float | None = None
    """Time at which the run ended, seconds since 1970; None while it runs."""

    @property
    def is_counted(self) -> bool:
        """Whether the trial is compared with others: it was trained for all its epochs and has all objectives."""
        return self.not_counted_because is None

    @property
    def is_distilled(self) -> bool:
        """Whether the student learned from a teacher; by the baseline's name where the settings are not recorded."""
        config = distillation_config(self.params)
        return self.baseline != names.BASELINE_UNDISTILLED if config is None else config.is_distilled


@dataclass(frozen=True)
class StudyRecords:
    """Everything that MLflow has of one study. No trial is dropped: one that is not counted has a reason."""

    study: str
    tracking_uri: str
    """Redacted."""
    objectives: tuple[Objective, ...]
    """Miss rates, then costs."""
    trials: tuple[TrialRecord, ...]
    """Baselines and trials in the order in which they started."""
    teacher: TrialRecord | None
    settings: Mapping[str, str]
    """Parameters of the study's parent run."""
    tags: Mapping[str, str]
    """Tags of the parent run; of MLflow's own, only the commit."""
    notes: tuple[str, ...]
    """Peculiarities of the records that a reader of the report should know: duplicate runs, a missing parent run."""
    run_id: str | None = None
    """Of the parent run; None if it is missing."""

    @property
    def counted(self) -> tuple[TrialRecord, ...]:
        """Trials and baselines that are counted."""
        return tuple(trial for trial in self.trials if trial.is_counted)

    @property
    def not_counted(self) -> tuple[TrialRecord, ...]:
        """All others: failed, stopped, still running, or incomplete."""
        return tuple(trial for trial in self.trials if not trial.is_counted)

    @property
    def is_running(self) -> bool:
        """Whether the study runs now, or its process was killed."""
        return self.tags.get(names.TAG_STATUS) == names.STATUS_RUNNING

    def searched_parameters(self) -> tuple[str, ...]:
        """Dotted names of the settings in which the trials (without baselines) differ, in alphabetical order."""
        return self._searched_parameters

    @cached_property
    def _searched_parameters(self) -> tuple[str, ...]:
        trials = [trial for trial in self.trials if trial.role == names.ROLE_TRIAL]
        keys = sorted({key for trial in trials for key in trial.params})
        return tuple(key for key in keys if len({trial.params.get(key) for trial in trials}) > 1)

    def table(self) -> pd.DataFrame:
        """One row per detector, the teacher first: identity, status, metrics by name, parameters by dotted name."""
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
                columns[key] = pd.array([_integer(row.metrics.get(key)) for row in rows], dtype="Int64")
        for key in param_keys:
            # A list of plain values: a column that mixes numbers and names stays as it was logged.
            # A parameter may have the name of another column.
            columns[f"params.{key}" if key in columns else key] = [row.params.get(key) for row in rows]
        return pd.DataFrame(columns)


def distillation_config(params: Mapping[str, ParameterValue]) -> TrialConfig | None:
    """The settings that decide whether a trial is distilled; None where they are not recorded, or not readable.

    A stage without recorded settings has weight 0: it did not exist in the version that ran the trial.
    """
    prefix = f"{names.PARAM_DISTILLATION}."
    recorded = tuple((key.removeprefix(prefix), value) for key, value in params.items() if key.startswith(prefix))
    has_no_teacher = "teacher" in params and params["teacher"] is None
    return _distillation_config(recorded, has_no_teacher) if recorded else None


# It is asked for several times for each trial, and validation takes longer than all else.
@lru_cache(maxsize=100_000, typed=True)
def _distillation_config(recorded: tuple[tuple[str, ParameterValue], ...], has_no_teacher: bool) -> TrialConfig | None:
    sections: dict[str, Any] = {
        name: {"weight": 0.0} for name, section in DistillationConfig() if isinstance(section, Section)
    }
    # Keys with a dot first, so that a plain value recorded for a stage replaces its section and fails validation.
    for key, value in sorted(recorded, key=lambda item: "." not in item[0]):
        stage, _, setting = key.partition(".")
        if setting:
            sections.setdefault(stage, {})[setting] = value
        else:
            sections[stage] = value
    try:
        config = TrialConfig(distillation=DistillationConfig.model_validate(sections))
    except ValidationError:
        return None
    return config.model_copy(update={"teacher": None}) if has_no_teacher else config


def _known_first(keys: set[str]) -> list[str]:
    known = [
        *names.MISS_RATES,
        *(names.AP, names.AP50),
        *names.COSTS,
    ]
    return [key for key in known if key in keys] + sorted(keys - set(known))


def _integer(value: float | None) -> int | None:
    return None if value is None else round(value)
