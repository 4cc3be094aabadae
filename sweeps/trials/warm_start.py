"""Finished trials of another study, as far as they are trials of this one, too (``search.warm_start``)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hkd.config_files.parsing import flatten, parse_config
from hkd.config_files.problems import ConfigError
from hkd.config_files.yaml_format import load_yaml
from hkd.metric_names import COSTS, LATENCY_MS, STATUS_FINISHED
from hkd.training.resume_settings import FREE_SETTINGS
from sweeps.folder import StudyError, StudyFolder
from sweeps.settings.enqueued import value_mistake
from sweeps.settings.space import distributions, trial_config
from sweeps.settings.study import StudyConfig
from sweeps.trials.cost import student_cost
from sweeps.trials.records.teacher import read_teacher
from sweeps.trials.records.trial import GivenResult, LedgerTrial, read_trials

_FREE = FREE_SETTINGS | {"data.cache_dir", "data.test_annotations", "evaluation.batch_size"}
"""Settings of a trial that change neither its result nor its costs."""
_LATENCY = "evaluation.latency"
"""Settings of a cost, whose value is compared where it is an objective."""
_MOST_REASONS = 3


@dataclass(frozen=True)
class WarmStart:
    """What a study learns from another one before its first trial."""

    study: str
    """Name of the other study."""
    results: tuple[GivenResult, ...]
    left_out: Counter[str]
    """Reason -> how many finished trials of the other study are no trials of this one."""
    teacher: Path | None
    """Weights of its teacher."""

    def describe(self) -> str:
        """One line for the console."""
        total = len(self.results) + self.left_out.total()
        text = f"Warm start: {len(self.results)} of {total} finished trials of the study {self.study}"
        return f"{text}; left out: {_reasons(self.left_out)}" if self.left_out else text


def find_warm_start(study: StudyConfig) -> WarmStart | None:
    """Read the other study; None where none is configured.

    A finished trial is used if this study would train and evaluate the same student in the same way: if the values of
    all searched settings are in their ranges, and all other settings are equal. Its costs must be those that this
    version of hkd computes. That both studies have the same images is checked by their teachers, see
    :func:`check_same_teacher`.

    Raises:
        StudyError: there is no such study, it cannot be read, or it has no such trial.
    """
    name = study.search.warm_start
    if name is None:
        return None
    folder = Path(name) if "/" in name else study.storage_folder / name
    config_file, journal = folder / "study.yaml", folder / "trials.journal"
    if folder.absolute() == StudyFolder(study).path:
        raise StudyError(f"search.warm_start: {name} is this study; it has its own trials already")
    if not config_file.is_file() or not journal.is_file():
        raise StudyError(
            f"search.warm_start: there is no study in {folder}; name one in {study.storage_path}, or the folder of one"
        )
    try:
        other = parse_config(StudyConfig, load_yaml(config_file), source=str(config_file))
    except ConfigError as error:
        raise StudyError(
            *str(error).split("\n"), "search.warm_start: another version of hkd wrote this file, or it was edited"
        ) from error
    if LATENCY_MS in study.objectives and LATENCY_MS not in student_cost(study.base).as_metrics():
        raise StudyError(
            f"search.warm_start: {LATENCY_MS} is an objective, and this study would measure its own; give it those of "
            f"the other study (--set base.evaluation.latency.table=FILE, such as {folder / 'latency.json'}), or remove "
            "the setting"
        )
    results, left_out = [], Counter[str]()
    for trial in read_trials(journal):
        if trial.status == STATUS_FINISHED:
            params = _params_here(study, other, trial)
            if isinstance(params, str):
                left_out[params] += 1
            else:
                values = [trial.metrics[objective] for objective in study.objectives]
                results.append(GivenResult(f"{other.name}/{trial.trial_id}", params, values))
    if not results:
        reason = f"none of its {left_out.total()} finished trials is one of this study: {_reasons(left_out)}"
        raise StudyError(
            f"search.warm_start: {folder}: {reason if left_out else 'it has no finished trial'}; remove the setting"
        )
    teacher = read_teacher(folder / "teacher.json")
    return WarmStart(other.name, tuple(results), left_out, None if teacher is None else teacher.path)


def check_same_teacher(warm_start: WarmStart, teacher: Path | None) -> None:
    """Check that both studies have the same teacher.

    The folder of a teacher is named by the hash of all that determines it, training and validation images among them.

    Raises:
        StudyError: they differ.
    """
    before, now = (None if path is None else path.parent.name for path in (warm_start.teacher, teacher))
    if before != now:
        raise StudyError(
            f"search.warm_start: the teacher of the study {warm_start.study} ({warm_start.teacher}) is not that of "
            f"this one ({teacher}): its settings are the same, but training or validation images differ, or its "
            "weights; remove the setting"
        )


def _params_here(study: StudyConfig, other: StudyConfig, trial: LedgerTrial) -> dict[str, Any] | str:
    """The searched values of this study for another study's trial, or why it is no trial of this one."""
    try:
        config = trial_config(other.base, trial.params)
        settings = flatten(config)
        space = distributions(study.space)
        params = {key: settings.get(key) for key in space}
        for key, value in params.items():
            if mistake := value_mistake(key, value, space):
                return mistake
        config_here = trial_config(study.base, params)
        here = flatten(config_here)
    except ConfigError as error:
        return error.problems[0]
    if difference := _difference(settings, here):
        return difference
    # Of this study: the other one's configuration does not name the latencies that it measured itself.
    costs = student_cost(config_here).as_metrics()
    for name in study.objectives:
        if name not in trial.metrics:
            return f"{name} was not measured"
        if name in COSTS and trial.metrics[name] != costs[name]:
            return f"{name} was {'measured' if name == LATENCY_MS else 'counted'} in another way"
    return params


def _difference(there: Mapping[str, Any], here: Mapping[str, Any]) -> str | None:
    for key in sorted(there.keys() | here.keys()):
        if key not in _FREE and not key.startswith(_LATENCY) and there.get(key) != here.get(key):
            return f"{key} is {there.get(key)}, and {here.get(key)} in this study"
    return None


def _reasons(left_out: Counter[str]) -> str:
    listed = [f"{count} ({reason})" for reason, count in left_out.most_common(_MOST_REASONS)]
    others = len(left_out) - len(listed)
    return ", ".join([*listed, *([f"and others for {others} more reasons"] if others else [])])
