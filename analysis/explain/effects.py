"""How the miss rate depends on each searched setting, and on each distillation stage."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from analysis.objectives import Objective
from analysis.records.study_records import ParameterValue, StudyRecords, TrialRecord, distillation_config
from hkd import metric_names as names

_LOGARITHMIC_SPAN = 50.0
"""Largest over smallest value from which positive numbers are shown on a logarithmic axis."""


@dataclass(frozen=True)
class SlicePoint:
    """One trial in a slice."""

    trial_id: str
    value: ParameterValue
    """Of the setting."""
    miss_rate: float


@dataclass(frozen=True)
class Slice:
    """The first miss rate of the objectives over one searched setting."""

    setting: str
    """Dotted name."""
    points: tuple[SlicePoint, ...]
    """Counted trials, by value: numbers ascending, others by text."""
    is_numeric: bool
    is_logarithmic: bool
    """Whether the values are best shown on a logarithmic axis."""


@dataclass(frozen=True)
class StageAblation:
    """Trials and baselines with a distillation stage against those without."""

    stage: str
    """Section of ``distillation``: ``pyramid``, ``region``, ``embedding`` or ``logits``."""
    num_with: int
    """Counted students whose weight of the stage is above 0."""
    num_without: int
    median_with: float | None
    """Median miss rate; None without such a student."""
    median_without: float | None
    matched: tuple[tuple[str, str, float], ...]
    """(with, without, difference of miss rates) of students that are equal in all other settings: the only fair
    comparison. Below 0 the stage helps."""


def slices_of(records: StudyRecords) -> tuple[Slice, ...]:
    """A slice for each searched setting, in alphabetical order, over trials (not baselines) that are counted."""
    metric = records.objectives[0].name
    trials = [trial for trial in records.counted if trial.role == names.ROLE_TRIAL]
    return tuple(_slice(key, trials, metric) for key in records.searched_parameters())


def ablations_of(records: StudyRecords) -> tuple[StageAblation, ...]:
    """An ablation for each distillation stage that some counted students use and others do not."""
    counted = [trial for trial in records.counted if distillation_config(trial.params) is not None]
    weights = {trial.trial_id: stage_weights(trial) for trial in counted}
    stages = list(dict.fromkeys(stage for of_trial in weights.values() for stage in of_trial))
    found = [_ablation(stage, counted, weights, records.objectives[0]) for stage in stages]
    return tuple(each for each in found if each.num_with and each.num_without)


def stage_weights(trial: TrialRecord) -> dict[str, float]:
    """Stage -> weight, of all stages; empty where the settings are not recorded. A trial without a teacher has none."""
    config = distillation_config(trial.params)
    if config is None:
        return {}
    stages = {name: section.weight for name, section in config.distillation if hasattr(section, "weight")}
    return stages if config.teacher is not None else dict.fromkeys(stages, 0.0)


def _slice(setting: str, trials: Sequence[TrialRecord], metric: str) -> Slice:
    points = [SlicePoint(trial.trial_id, trial.params.get(setting), trial.metrics[metric]) for trial in trials]
    numbers = [float(p.value) for p in points if isinstance(p.value, int | float) and not isinstance(p.value, bool)]
    is_numeric = len(numbers) == len(points) and len(points) > 0
    spans_decades = is_numeric and min(numbers) > 0 and max(numbers) / min(numbers) >= _LOGARITHMIC_SPAN

    def order(point: SlicePoint) -> tuple[float, str, str]:
        number = float(point.value) if is_numeric and isinstance(point.value, int | float) else 0.0
        return number, str(point.value), point.trial_id

    return Slice(setting, tuple(sorted(points, key=order)), is_numeric, spans_decades)


def _ablation(
    stage: str, trials: Sequence[TrialRecord], weights: dict[str, dict[str, float]], miss_rate: Objective
) -> StageAblation:
    prefix = f"{names.PARAM_DISTILLATION}.{stage}"
    with_stage = [trial for trial in trials if weights[trial.trial_id].get(stage, 0.0) > 0]
    without = [trial for trial in trials if weights[trial.trial_id].get(stage, 0.0) == 0]

    def others(trial: TrialRecord) -> tuple[tuple[str, ParameterValue], ...]:
        return tuple(sorted((key, value) for key, value in trial.params.items() if not key.startswith(prefix)))

    partners = {others(trial): trial for trial in reversed(without)}
    pairs = [(trial, partners[others(trial)]) for trial in with_stage if others(trial) in partners]
    values_with = [trial.metrics[miss_rate.name] for trial in with_stage]
    values_without = [trial.metrics[miss_rate.name] for trial in without]
    return StageAblation(
        stage=stage,
        num_with=len(with_stage),
        num_without=len(without),
        median_with=statistics.median(values_with) if values_with else None,
        median_without=statistics.median(values_without) if values_without else None,
        matched=tuple(
            (one.trial_id, other.trial_id, one.metrics[miss_rate.name] - other.metrics[miss_rate.name])
            for one, other in pairs
        ),
    )
