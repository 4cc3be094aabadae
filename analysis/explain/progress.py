"""How a study went: learning curves, hypervolume over trials and compute, and what early stopping saved."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.records.study_records import StudyRecords, TrialRecord
from hkd import metric_names as names
from hkd.dominance import hypervolume, non_dominated


@dataclass(frozen=True)
class LearningCurve:
    """The first miss rate of the objectives over the epochs of a trial."""

    trial_id: str
    status: str
    points: tuple[tuple[int, float], ...]
    """(epoch, miss rate) of every evaluation."""
    stopped_at: int | None
    """The last evaluated epoch of a trial that was stopped before its planned epochs; else None."""


@dataclass(frozen=True)
class HypervolumeStep:
    """The hypervolume of all objectives after a trial."""

    trial_id: str
    num_trials: int
    """Counted trials and baselines so far, this one included."""
    epochs: int
    """Epochs trained so far, by all trials that ended before this one or with it."""
    seconds: float
    """Time that these trials took, summed over workers."""
    value: float
    """Share of the box below the front's reference point, in [0, 1]."""


@dataclass(frozen=True)
class Compute:
    """What a study's trials and baselines trained, and what early stopping saved."""

    epochs: int
    """Epochs trained."""
    seconds: float
    """Wall-clock time of all runs, summed over workers; a run that has not ended is left out."""
    num_stopped: int
    """Trials that were stopped before their planned epochs."""
    saved_epochs: int
    """Epochs that the stopped trials would have trained besides."""
    saved_seconds: float
    """Those epochs, by each trial's own time for an epoch."""
    stops: tuple[tuple[int, int], ...]
    """(epoch, number of trials that were stopped after it), ascending: the rungs at which trials were stopped."""

    @property
    def saved_share(self) -> float:
        """Saved epochs over those of a study that trains every trial to its end, in [0, 1]."""
        planned = self.epochs + self.saved_epochs
        return self.saved_epochs / planned if planned else 0.0


@dataclass(frozen=True)
class Progress:
    """How a study went."""

    curves: tuple[LearningCurve, ...]
    """Of all trials and baselines with an evaluation, in the order of the records."""
    hypervolume: tuple[HypervolumeStep, ...]
    """After each counted trial, in the order in which they ended."""
    compute: Compute


def progress_of(records: StudyRecords, reference_point: Sequence[float]) -> Progress:
    """Curves, hypervolume over trials, and compute of a study.

    Args:
        records: Of one study.
        reference_point: Of the hypervolume, one value for each objective.
    """
    curves = tuple(
        LearningCurve(
            trial.trial_id,
            trial.status,
            trial.history,
            trial.epoch if trial.status == names.STATUS_STOPPED else None,
        )
        for trial in records.trials
        if trial.history
    )
    return Progress(curves, _hypervolume_steps(records, reference_point), _compute(records))


def trained_epochs(trial: TrialRecord) -> int:
    """Epochs that a trial trained: by its budget fraction where that is known, else by its last evaluation."""
    planned = _planned(trial)
    if planned is not None and trial.budget_fraction is not None:
        return round(planned * trial.budget_fraction)
    return trial.epoch or 0


def _planned(trial: TrialRecord) -> int | None:
    planned = trial.params.get(names.PARAM_TOTAL_EPOCHS)
    return planned if isinstance(planned, int) and not isinstance(planned, bool) and planned > 0 else None


def _hypervolume_steps(records: StudyRecords, reference_point: Sequence[float]) -> tuple[HypervolumeStep, ...]:
    # Runs that have not ended come last; they are not counted.
    ended = sorted(records.trials, key=lambda trial: math.inf if trial.ended_at is None else trial.ended_at)
    reference = np.array(reference_point)
    front = np.empty((0, len(reference)))
    steps: list[HypervolumeStep] = []
    epochs, seconds, value = 0, 0.0, 0.0
    for trial in ended:
        epochs += trained_epochs(trial)
        seconds += trial.duration_seconds or 0.0
        if not trial.is_counted:
            continue
        point = np.array([trial.metrics[objective.name] for objective in records.objectives]) / reference
        if not (front <= point).all(axis=1).any():
            front = np.concatenate([front, point[None]])
            front = front[non_dominated(front)]
            value = hypervolume(front, np.ones(len(reference)))
        steps.append(HypervolumeStep(trial.trial_id, len(steps) + 1, epochs, seconds, value))
    return tuple(steps)


def _compute(records: StudyRecords) -> Compute:
    saved_epochs, saved_seconds = 0, 0.0
    stops: Counter[int] = Counter()
    for trial in records.trials:
        planned, trained = _planned(trial), trained_epochs(trial)
        if trial.status != names.STATUS_STOPPED:
            continue
        stops[trained] += 1
        if planned is not None and trained:
            saved_epochs += max(0, planned - trained)
            saved_seconds += max(0, planned - trained) * (trial.duration_seconds or 0.0) / trained
    return Compute(
        epochs=sum(map(trained_epochs, records.trials)),
        seconds=sum(trial.duration_seconds or 0.0 for trial in records.trials),
        num_stopped=sum(stops.values()),
        saved_epochs=saved_epochs,
        saved_seconds=saved_seconds,
        stops=tuple(sorted(stops.items())),
    )
