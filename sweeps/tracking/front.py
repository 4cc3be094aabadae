"""Writes to MLflow what a study has found so far: best values, hypervolume and front, as trials end."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from mlflow.tracking import MlflowClient

from hkd import metric_names as names
from hkd.dominance import hypervolume
from sweeps.tracking import runs
from sweeps.tracking.background import BackgroundWriter
from sweeps.tracking.study_runs import StudyRuns
from sweeps.trials.records.trial import LedgerTrial

_MOST_STEPS = 20
"""That wait for other writes."""


class GrowingFront:
    """The front of the trials that were added, and its hypervolume.

    Args:
        objectives: Metrics that are minimised together.
        reference: Reference point by objective; without one of them, there is no hypervolume.
    """

    def __init__(self, objectives: Sequence[str], reference: Mapping[str, float]) -> None:
        self._objectives = tuple(objectives)
        has_reference = all(name in reference for name in objectives)
        self._reference = np.array([reference[name] for name in objectives]) if has_reference else None
        self._points = np.empty((0, len(self._objectives)))
        self._volume = 0.0
        self._best: dict[str, float] = {}
        self.members: list[str] = []
        """Trial ids of the front. Of equal trials, each is one."""
        self.num_added = 0

    def add(self, trial: LedgerTrial) -> set[str]:
        """Add a finished trial; returns the ids of those that entered or left the front."""
        point = np.array([float(trial.metrics[name]) for name in self._objectives])
        self.num_added += 1
        for name, value in zip(self._objectives, point.tolist(), strict=True):
            if name in names.MISS_RATES:
                self._best[name] = min(value, self._best.get(name, value))
        at_most, less = (self._points <= point).all(axis=1), (self._points < point).any(axis=1)
        if (at_most & less).any():
            return set()
        worse = (self._points >= point).all(axis=1) & (self._points > point).any(axis=1)
        left = {self.members[index] for index in np.flatnonzero(worse).tolist()}
        self.members = [*(member for member in self.members if member not in left), trial.trial_id]
        self._points = np.vstack([self._points[~worse], point])
        if self._reference is not None:
            # As a share of the box below the reference point, like the report's.
            self._volume = hypervolume(self._points / self._reference, np.ones(len(self._reference)))
        return {*left, trial.trial_id}

    def metrics(self) -> dict[str, float]:
        """Of the trials so far, by metric name."""
        best = {f"{names.BEST_PREFIX}{name}": value for name, value in self._best.items()}
        volume = {} if self._reference is None else {names.HYPERVOLUME: self._volume}
        return {names.FINISHED_TRIALS: float(self.num_added), **best, **volume}


class FrontWriter:
    """Logs the front of a study on its run and as tags of its trials; the step is the number of finished trials.

    Steps of trials that end one after the other are written together.

    Args:
        study_runs: The runs of the study.
        front: Of the trials that were added before.
    """

    def __init__(
        self, client: MlflowClient, writer: BackgroundWriter, study_runs: StudyRuns, front: GrowingFront
    ) -> None:
        self._client, self._writer = client, writer
        self._study_runs, self._front = study_runs, front
        self._lock = threading.Lock()
        self._is_requested = False
        """Whether a write is pending. What follows is used by the writer's thread only."""
        self._entered: set[str] = set()
        self._steps: list[runs.Step] = []
        """That MLflow lacks."""
        self._changed: set[str] = set()
        """Trials whose tag MLflow lacks."""

    def add(self, trials: Iterable[LedgerTrial]) -> None:
        """Add trials whose ends are written."""
        ended = sorted((trial for trial in trials if _counts(trial)), key=_end_ms)

        def enter() -> None:
            for trial in ended:
                self._enter(trial)

        if ended:
            self._writer.add(enter)
            self.request()

    def tags_of(self, trial: LedgerTrial) -> dict[str, str]:
        """Tags of a trial whose end is written now, by the writer's thread; afterwards call :meth:`request`.

        Trials that were not trained to their end, and confirmations, have none.
        """
        if not _counts(trial):
            return {}
        self._enter(trial)
        self._changed.discard(trial.trial_id)
        return self._tags(trial.trial_id)

    def request(self) -> None:
        """Let the writer log what MLflow lacks, unless that is requested."""
        with self._lock:
            is_requested, self._is_requested = self._is_requested, True
        if not is_requested:
            self._writer.add(self._write)

    def _enter(self, trial: LedgerTrial) -> None:
        if trial.trial_id not in self._entered:
            self._entered.add(trial.trial_id)
            self._changed |= {*self._front.add(trial), trial.trial_id}
            self._steps.append(runs.Step(self._front.num_added, _end_ms(trial), self._front.metrics()))

    def _write(self) -> None:
        with self._lock:
            self._is_requested = False
        if self._writer.num_pending > 1 and len(self._steps) < _MOST_STEPS:
            self.request()  # after the ends that are pending
            return
        if (parent := self._study_runs.parent) is not None:
            runs.log_steps(self._client, parent, self._steps, names.FINISHED_TRIALS)
            self._steps = []
        for trial_id in sorted(self._changed):
            if (run := self._study_runs.of(trial_id)) is not None:  # else MLflow rejected it
                runs.set_tags(self._client, run, self._tags(trial_id))
            self._changed.discard(trial_id)

    def _tags(self, trial_id: str) -> dict[str, str]:
        return {names.TAG_ON_FRONT: str(trial_id in self._front.members).lower()}


def _counts(trial: LedgerTrial) -> bool:
    return trial.status == names.STATUS_FINISHED and trial.role != names.ROLE_CONFIRMATION


def _end_ms(trial: LedgerTrial) -> int:
    """When its last epoch was recorded; 0 for a trial that an earlier version recorded."""
    return max((record.time_ms for record in trial.epochs.values()), default=0)
