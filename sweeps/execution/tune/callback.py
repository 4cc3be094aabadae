"""Records what Ray Tune reports of trials: in the ledger, in MLflow and on the console."""

# Tune passes every argument by name.
# ruff: noqa: ARG002

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ray.tune import Callback, Checkpoint
from ray.tune.experiment import Trial

from hkd import metric_names as names
from hkd.own_folders import read_own_file
from sweeps.console.display import TrialBoard
from sweeps.execution.cluster.waiting import Waiting
from sweeps.execution.tune.early_stopping import StudyStopping
from sweeps.execution.tune.exhausted_memory import describe_exhausted_memory
from sweeps.folder import StudyError, StudyFolder
from sweeps.tracking.tracker import Tracker
from sweeps.trials.cost import student_cost
from sweeps.trials.error_notes import DISK_FULL_NOTE, NODE_NOTE, RAISED_NOTE, STORAGE_AWAY_NOTE
from sweeps.trials.node_files import NodeError
from sweeps.trials.records.ledger import Ledger
from sweeps.trials.records.trial import LedgerTrial
from sweeps.trials.worker import NOTE, SPEC, TrialSpec, reported_metrics

_TUNE_HEADING = "Failure # "
"""Of each error in Tune's file, with its number and time."""
_AWAY = "StorageAwayError: "
"""Before the reason, in the text of this error."""
_NO_ERROR_TEXT = "Ray Tune reported no error message"
_MAX_ERROR_BYTES = 2**20
MAX_LOST_WORKERS = 3
"""How often in a row a trial is queued again after its worker was lost (spot instance reclaimed, memory exhausted).

A checkpoint of another epoch, or a resumed study, counts from 0: a long trial may lose many spot instances, but one
whose memory does not suffice loses its workers in the same epoch."""
MAX_IDENTICAL_FAILURES = 5
"""After which a study stops, if none of its trials has finished."""


class ResultsNotReadError(Exception):
    """Ends ``Tuner.fit`` after the last trial.

    Tune would now unpickle errors, and without trials its own state, from the study's folder, which others may be able
    to write to. The ledger has everything that a study needs.
    """


class Recorder(Callback):
    """Tune's callbacks for the trials of a study.

    The ledger is complete on disk before a method returns; MLflow follows.

    Args:
        put_back: Called with a trial whose worker was lost, which is to run again.
        is_interrupted: Whether to stop between two steps of Tune's loop.
        waiting: Reports that no trial has started.
        stopping: Stops trials early; None stops none.
    """

    def __init__(
        self,
        folder: StudyFolder,
        objectives: Sequence[str],
        ledger: Ledger,
        tracker: Tracker,
        board: TrialBoard,
        *,
        put_back: Callable[[LedgerTrial], None],
        is_interrupted: Callable[[], bool],
        waiting: Waiting | None = None,
        stopping: StudyStopping | None = None,
    ) -> None:
        self._folder = folder
        self._objectives = tuple(objectives)
        self._ledger = ledger
        self._tracker = tracker
        self._board = board
        self._put_back = put_back
        self._is_interrupted = is_interrupted
        self._waiting = waiting
        self._reason_to_stop: StudyError | None = None
        self._failures: list[str] = []
        """Last lines of the errors of the last trials, while each of them fails."""
        self._stopping = stopping
        self._known: dict[str, LedgerTrial] = {}
        self._lost_workers: dict[str, tuple[int, int]] = {}
        """By trial: epochs of its last checkpoint when its worker was lost, and how often in a row at that one."""
        self._on_workers: set[str] = set()
        self.max_concurrent = 0
        """The largest number of trials that were on workers at the same time."""

    def expect(self, trial: LedgerTrial) -> None:
        """Register a trial that is handed to Tune."""
        self._known[trial.trial_id] = trial

    @property
    def num_running(self) -> int:
        """Trials handed to Tune that have not ended."""
        return len(self._known)

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Called by Tune several times a second."""
        if self._is_interrupted():
            # Tune's own stop waits for workers, whose checkpoints are complete already. Tune does not catch this
            # exception, and nothing is partially written at this point.
            raise KeyboardInterrupt
        self._ledger.raise_if_unwritable()
        self._folder.raise_if_lost()
        if self._reason_to_stop is not None:
            raise self._reason_to_stop
        if self._waiting is not None:
            self._waiting.update(is_waiting=bool(self._known) and not self._on_workers)
        self._board.update()

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Called by Tune when a worker starts the trial."""
        spec = _spec(trial)
        known = self._known[spec.trial_id]
        self._on_workers.add(spec.trial_id)
        self.max_concurrent = max(self.max_concurrent, len(self._on_workers))
        self._tracker.start_trial(known, spec.config, student_cost(spec.config))
        self._board.start(spec.trial_id, known.epoch, spec.config.training.total_epochs)

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """Called by Tune after each epoch."""
        trial_id, metrics = _spec(trial).trial_id, reported_metrics(result)
        known = self._ledger.record_metrics(self._known[trial_id], metrics)
        epoch = int(metrics[names.EPOCH])
        self._known[trial_id] = known
        self._tracker.log_epoch(trial_id, epoch, known.epochs[epoch])
        self._board.epoch(trial_id, epoch, metrics)
        if result.get(NOTE):
            self._board.note(trial_id, str(result[NOTE]))

    def on_checkpoint(
        self, iteration: int, trials: list[Trial], trial: Trial, checkpoint: Checkpoint, **info: Any
    ) -> None:
        """Called by Tune when a checkpoint is complete. The one before it stays until the next."""
        known = self._known[_spec(trial).trial_id]
        path = Path(checkpoint.path).relative_to(self._folder.path)
        epoch = int(known.metrics[names.EPOCH])
        known = self._known[known.trial_id] = self._ledger.record_checkpoint(known, path, epoch)
        self._folder.remove_checkpoints(known.trial_id, known.attempts, keep=known.checkpoints)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Called by Tune when a trial reported ``done``, or a scheduler stopped it."""
        spec = _spec(trial)
        known = self._known[spec.trial_id]
        wanted = list(self._objectives)
        if known.test_images is not None:
            wanted += [f"{names.TEST_PREFIX}{name}" for name in wanted if name in names.MISS_RATES]
        missing = [name for name in wanted if name not in known.metrics]
        if known.metrics.get(names.BUDGET_FRACTION) != 1:
            # Only a trial's last result has its costs.
            known = self._ledger.record_metrics(known, student_cost(spec.config).as_metrics())
            verdict = None if self._stopping is None else self._stopping.verdict_on(spec.trial_id)
            self._close(self._ledger.stop(known, () if verdict is None else verdict.dominators))
        elif missing:
            self._close(self._ledger.fail(known, f"the trial ended without a value of {', '.join(missing)}"))
        else:
            self._close(self._ledger.finish(known))

    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
        """Called by Tune after the last trial, or when it stops because of an exception, which it raises again."""
        if sys.exception() is None:
            raise ResultsNotReadError

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Called by Tune when a trial raised, or its worker was lost."""
        known = self._known[_spec(trial).trial_id]
        self._on_workers.discard(known.trial_id)
        lines = _error_text(trial).splitlines()
        if DISK_FULL_NOTE in lines:
            # Not an end of the trial: it resumes from its last checkpoint once there is space.
            del self._known[known.trial_id]
            is_local = self._folder.storage is None
            place = str(self._folder.path) if is_local else "a node's temporary files"
            self._reason_to_stop = StudyError(
                f"the disk of {place} is full: trial {known.trial_id} could not write its checkpoint. Free "
                "space, then run the same command with --resume: trials continue from their last checkpoint"
            )
            return
        if STORAGE_AWAY_NOTE in lines:
            # Not counted: the storage may be away for longer than a trial may lose workers.
            reasons = [line.partition(_AWAY)[2] for line in lines if _AWAY in line]
            reason = " ".join(reasons) or "its worker could not use the storage"
            self._board.note(known.trial_id, f"queued again: {reason}")
            del self._known[known.trial_id]
            self._put_back(known)
            return
        epoch, num_lost = self._lost_workers.get(known.trial_id, (known.epoch, 0))
        num_lost = num_lost + 1 if epoch == known.epoch else 1
        if NODE_NOTE in lines:
            self._put_back_from(_message(lines, NodeError), known, num_lost)
            return
        if RAISED_NOTE in lines or num_lost > MAX_LOST_WORKERS:
            text = "\n".join(line for line in lines if line != RAISED_NOTE)
            self._close(self._ledger.fail(known, text))
            return
        self._lost_workers[known.trial_id] = (known.epoch, num_lost)
        self._board.lose_worker(known.trial_id, lines[0].rstrip("."), num_lost, MAX_LOST_WORKERS)
        del self._known[known.trial_id]
        self._put_back(known)

    def _put_back_from(self, reason: str, known: LedgerTrial, num_lost: int) -> None:
        """Queue a trial again whose node does not see the files, or end the study: such a node is always free."""
        del self._known[known.trial_id]
        if num_lost > MAX_LOST_WORKERS:
            self._reason_to_stop = StudyError(
                f"trial {known.trial_id} was not started, {num_lost} times in a row: {reason}; then run the same "
                "command with --resume: no trial has failed"
            )
            return
        self._lost_workers[known.trial_id] = (known.epoch, num_lost)
        self._board.note(known.trial_id, f"queued again ({num_lost} of {MAX_LOST_WORKERS}): {reason}")
        self._put_back(known)

    def _close(self, trial: LedgerTrial) -> None:
        del self._known[trial.trial_id]
        if trial.status == names.STATUS_FAILED and self._stopping is not None:
            self._stopping.fail(trial.trial_id)
        self._on_workers.discard(trial.trial_id)
        self._folder.remove_checkpoints(trial.trial_id, trial.attempts, keep=trial.checkpoints[:1])
        artifacts = None if trial.checkpoint is None else self._folder.path / trial.checkpoint
        self._tracker.end_trial(trial, artifacts)
        self._board.end(trial)
        self._count_identical_failures(trial)

    def _count_identical_failures(self, trial: LedgerTrial) -> None:
        if trial.status != names.STATUS_FAILED or trial.error is None:
            self._failures = []
            return
        reason = (trial.error.strip().splitlines() or [_NO_ERROR_TEXT])[-1]
        last = self._failures = [*self._failures[1 - MAX_IDENTICAL_FAILURES :], reason]
        # Paths and numbers of the trial differ.
        is_identical = len({re.sub(r"trial-\d+|\d+", "N", each) for each in last}) == 1
        is_any_finished = any(each.status == names.STATUS_FINISHED for each in self._ledger.trials())
        if len(last) == MAX_IDENTICAL_FAILURES and is_identical and not is_any_finished:
            # Raised between two steps: Tune may turn exceptions of callbacks into failures of trials.
            self._reason_to_stop = StudyError(
                f"the last {MAX_IDENTICAL_FAILURES} trials failed with one error, and none has finished: {reason}. "
                "Remove its cause, then start the study under another name (--name NAME), or run its remaining trials "
                "(--resume)"
            )

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles its callbacks for Tuner.restore, which is not used.
        return {}


def _spec(trial: Trial) -> TrialSpec:
    spec = trial.config[SPEC]
    assert isinstance(spec, TrialSpec)
    return spec


def _message(lines: Sequence[str], kind: type[Exception]) -> str:
    """The message of an exception in Ray's text of it."""
    heading = f"{kind.__module__}.{kind.__qualname__}: "
    return next((line.partition(heading)[2] for line in lines if heading in line), lines[-1])


def _error_text(trial: Trial) -> str:
    """Ray's text of the trial's error, with :data:`RAISED_NOTE` if the trial raised it.

    Ray Tune hands the exception over only as a pickle, which is not read: in the folder of a cluster that this study
    joined, other users can replace it.
    """
    try:
        content = read_own_file(Path(trial.error_file or ""), _MAX_ERROR_BYTES)
    except OSError:
        return _NO_ERROR_TEXT
    lines = content.decode("utf-8", errors="replace").strip().splitlines()
    text = "\n".join(line for line in lines if not line.startswith(_TUNE_HEADING)).strip()
    return describe_exhausted_memory(text) or text or _NO_ERROR_TEXT
