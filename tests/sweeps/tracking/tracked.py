"""A study whose tracker writes to a double of MLflow."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from hkd.models.cost import Cost
from sweeps.tracking.background import BackgroundWriter, Write
from sweeps.tracking.tracker import Tracker
from sweeps.trials.records.trial import EpochRecord, LedgerTrial
from tests.sweeps.mlflow_double import MlflowDouble

COST = Cost(num_params=1000, flops=4_000_000_000)
TRIAL = LedgerTrial(
    trial_id="trial-001",
    role="trial",
    baseline=None,
    params={},
    status="running",
    attempts=1,
    checkpoint=None,
    epoch=0,
    metrics={},
    error=None,
    number=0,
)
BASELINE = replace(TRIAL, trial_id="baseline-undistilled", role="baseline", baseline="undistilled")


def started_tracker(store: MlflowDouble) -> Tracker:
    tracker = flushed(Tracker(store.client(), "sqlite:///mlflow.db", "study", None))
    tracker.start_study({"search.seed": 0}, {"hkd.num_trials": "3"}, "name: study\n")
    return tracker


def flushed(tracker: Tracker) -> Tracker:
    """The tracker; each of its writes is executed, or was attempted, when its method returns."""
    writer = tracker._writer
    tracker._writer = FlushedWriter(writer._uri, writer._answers)
    return tracker


class FlushedWriter(BackgroundWriter):
    def add(self, write: Write) -> None:
        super().add(write)
        self.flush()


def log_epoch(tracker: Tracker, trial: LedgerTrial, epoch: int, **more: float) -> None:
    tracker.log_epoch(trial.trial_id, epoch, record(epoch, **more))


def record(epoch: int, **more: float) -> EpochRecord:
    metrics = {"epoch": epoch, "budget_fraction": epoch / 4, "mr2_reasonable": 1 / epoch, **more}
    return EpochRecord(metrics, time_ms=1000 * epoch)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
