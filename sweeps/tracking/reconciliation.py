"""Brings MLflow up to date with the ledger, which is written first and is authoritative."""

from __future__ import annotations

import time
from pathlib import Path

from hkd.metric_names import EPOCH, STATUS_RUNNING
from sweeps.settings.space import trial_config
from sweeps.settings.study import StudyConfig
from sweeps.tracking.tracker import Tracker
from sweeps.trials.cost import student_cost
from sweeps.trials.records.ledger import Ledger
from sweeps.trials.records.trial import EpochRecord


def write_missing_ends(study: StudyConfig, study_folder: Path, ledger: Ledger, tracker: Tracker) -> None:
    """Write the epochs and ends of trials that the ledger has and MLflow lacks.

    Writes were pending, or the process was killed between the two. Interrupted trials are written when they resume.
    """
    for trial in (*ledger.trials(), *ledger.confirmations()):
        if trial.status == STATUS_RUNNING or tracker.has_end(trial):
            continue
        config = trial_config(study.base, trial.params)
        tracker.start_trial(trial, config, student_cost(config))
        if trial.metrics and not trial.epochs:  # recorded by an earlier version of hkd
            last = int(trial.metrics.get(EPOCH, 0))
            tracker.log_epoch(trial.trial_id, last, EpochRecord(trial.metrics, int(time.time() * 1000)))
        tracker.end_trial(trial, None if trial.checkpoint is None else study_folder / trial.checkpoint)


def close_runs(ledger: Ledger, tracker: Tracker, status: str) -> None:
    """End the runs of interrupted trials, and the run of the study with ``status``."""
    for trial in ledger.running():
        tracker.interrupt_trial(trial.trial_id)
    tracker.end_study(status)
