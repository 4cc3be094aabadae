"""Writes down what happens to trials while Ray Tune runs them: in the ledger, in MLflow and for who watches."""

# Tune passes everything by name, whether or not it is of use.
# ruff: noqa: ARG002

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ray import cloudpickle
from ray.exceptions import NodeDiedError, OutOfMemoryError, RayActorError
from ray.tune import Callback, Checkpoint
from ray.tune.experiment import Trial

from hkd import metric_names as names
from hkd.models.cost import Cost
from sweeps.console.display import TrialBoard
from sweeps.folder import StudyFolder
from sweeps.tracking.tracker import Tracker
from sweeps.trials.ledger import Ledger, LedgerTrial
from sweeps.trials.worker import SPEC, TrialSpec, plain_metrics

LOSSES = (RayActorError, OutOfMemoryError, NodeDiedError)
"""Ray's words for a worker that is gone; the latter two are no kinds of the first."""
MAX_LOSSES = 3
"""A trial whose worker is lost (a spot machine taken away, memory exhausted) is begun again this often."""


class Recorder(Callback):
    """Tune's news of trials. All that is written survives a kill the moment after.

    Args:
        cost_of: Cost of a trial's student.
        again: Called with a trial whose worker was lost, to be run again.
        is_interrupted: Asked between two steps of Tune's; whether to leave everything as it is.
    """

    def __init__(
        self,
        folder: StudyFolder,
        objectives: Sequence[str],
        ledger: Ledger,
        tracker: Tracker,
        board: TrialBoard,
        *,
        cost_of: Callable[[TrialSpec], Cost],
        again: Callable[[LedgerTrial], None],
        is_interrupted: Callable[[], bool],
    ) -> None:
        self._folder = folder
        self._objectives = tuple(objectives)
        self._ledger = ledger
        self._tracker = tracker
        self._board = board
        self._cost_of = cost_of
        self._again = again
        self._is_interrupted = is_interrupted
        self._known: dict[str, LedgerTrial] = {}
        self._losses: dict[str, int] = {}
        self._on_workers: set[str] = set()
        self.most_at_a_time = 0
        """Trials that were on workers at the same time, at the most."""

    def running(self, trial: LedgerTrial) -> None:
        """Take note of a trial that Tune is about to start."""
        self._known[trial.trial_id] = trial

    @property
    def num_running(self) -> int:
        """Trials handed to Tune that have not ended."""
        return len(self._known)

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Called by Tune several times a second."""
        if self._is_interrupted():
            # Not Tune's way of stopping, which waits for workers; their checkpoints are safe. No exception that Tune
            # would catch, at a point where nothing is half written.
            raise KeyboardInterrupt
        self._board.update()

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Called by Tune when a worker has taken the trial."""
        spec = _spec(trial)
        self._on_workers.add(spec.trial_id)
        self.most_at_a_time = max(self.most_at_a_time, len(self._on_workers))
        self._tracker.start_trial(self._known[spec.trial_id], spec.config, self._cost_of(spec))
        self._board.start(spec.trial_id, self._known[spec.trial_id].epoch, spec.config.training.total_epochs)

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """Called by Tune after each epoch."""
        trial_id, metrics = _spec(trial).trial_id, plain_metrics(result)
        self._known[trial_id] = self._ledger.note_result(self._known[trial_id], metrics)
        self._tracker.log_epoch(trial_id, metrics)
        self._board.epoch(trial_id, int(metrics[names.EPOCH]))

    def on_checkpoint(
        self, iteration: int, trials: list[Trial], trial: Trial, checkpoint: Checkpoint, **info: Any
    ) -> None:
        """Called by Tune when a checkpoint is whole, before it removes the one before."""
        known = self._known[_spec(trial).trial_id]
        place = Path(checkpoint.path).relative_to(self._folder.path)
        epoch = int(known.metrics[names.EPOCH])
        self._known[known.trial_id] = self._ledger.note_checkpoint(known, place, epoch)
        self._folder.remove_earlier_attempts(known.trial_id, known.attempts)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Called by Tune when a trial has come to its end, or was stopped by the scheduler."""
        known = self._known[_spec(trial).trial_id]
        missing = [name for name in self._objectives if name not in known.metrics]
        if known.metrics.get(names.BUDGET_FRACTION) != 1:
            self._close(self._ledger.stop(known))
        elif missing:
            self._close(self._ledger.fail(known, f"the trial ended without a value of {', '.join(missing)}"))
        else:
            self._close(self._ledger.finish(known))

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Called by Tune when a trial raised, or its worker was lost."""
        known = self._known[_spec(trial).trial_id]
        self._on_workers.discard(known.trial_id)
        self._losses[known.trial_id] = self._losses.get(known.trial_id, 0) + _is_lost(trial)
        if _is_lost(trial) and self._losses[known.trial_id] <= MAX_LOSSES:
            del self._known[known.trial_id]
            self._again(known)
        else:
            self._close(self._ledger.fail(known, _error_text(trial)))

    def _close(self, trial: LedgerTrial) -> None:
        del self._known[trial.trial_id]
        self._on_workers.discard(trial.trial_id)
        artifacts = None if trial.checkpoint is None else self._folder.path / trial.checkpoint
        self._tracker.end_trial(trial, artifacts)
        self._board.end(trial)

    def __getstate__(self) -> dict[str, Any]:
        # As of Proposals: pickled by Tune and never read.
        return {}


def _spec(trial: Trial) -> TrialSpec:
    spec = trial.config[SPEC]
    assert isinstance(spec, TrialSpec)
    return spec


def _error_text(trial: Trial) -> str:
    file = Path(trial.error_file or "")
    return file.read_text(encoding="utf-8", errors="replace") if file.is_file() else "no reason is known"


def _is_lost(trial: Trial) -> bool:
    """Whether the worker died, rather than the training raised."""
    file = Path(trial.pickled_error_file or "")
    # Written by this process, a moment ago.
    return file.is_file() and isinstance(cloudpickle.loads(file.read_bytes()), LOSSES)
