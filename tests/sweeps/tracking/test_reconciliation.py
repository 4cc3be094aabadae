"""MLflow after a process was killed between the ledger and MLflow."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweeps.settings.study import StudyConfig
from sweeps.tracking.reconciliation import close_runs, write_missing_ends
from sweeps.tracking.tracker import Tracker
from sweeps.trials.cost import student_cost
from sweeps.trials.records.ledger import Ledger, open_ledger
from sweeps.trials.records.trial import LedgerTrial
from tests.sweeps.mlflow_double import MlflowDouble
from tests.sweeps.tiny import tiny_trial
from tests.sweeps.tracking.tracked import flushed

METRICS = {"mr2_reasonable": 0.5, "num_params": 10.0, "flops": 100.0, "epoch": 2.0, "budget_fraction": 1.0}


class Scene:
    """A study with a real ledger and the double of MLflow."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        base = {**tiny_trial(folder / "cache"), "teacher": None}
        self.study = StudyConfig.model_validate({"name": "x", "base": base, "storage_path": folder})
        self.ledger: Ledger = open_ledger(self.study, folder / "trials.journal")
        self.store = MlflowDouble()
        self.tracker = flushed(Tracker(self.store.client(), "http://host", "x", None))
        self.tracker.start_study({}, {}, "")

    def started(self, name: str) -> LedgerTrial:
        trial = self.ledger.start_baseline(name, {})
        self.tracker.start_trial(trial, self.study.base, student_cost(self.study.base))
        return trial

    def statuses(self) -> dict[str, tuple[str, str]]:
        return {run.name: (run.tags["hkd.status"], run.status) for run in self.store.runs.values()}


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_ends_that_mlflow_lacks_are_written(scene: Scene) -> None:
    checkpoint = scene.folder / "a" / "checkpoint_000001"
    checkpoint.mkdir(parents=True)
    (checkpoint / "metrics.json").write_text("{}", encoding="utf-8")
    trial = scene.ledger.record_metrics(scene.started("a"), METRICS)
    scene.ledger.finish(scene.ledger.record_checkpoint(trial, Path("a/checkpoint_000001"), 2))
    scene.ledger.fail(scene.ledger.start_baseline("b", {}), "ValueError: boom")  # not even its start was written
    scene.started("c")  # still running
    write_missing_ends(scene.study, scene.folder, scene.ledger, scene.tracker)
    assert scene.statuses() == {
        "x": ("running", "RUNNING"),
        "baseline-a": ("finished", "FINISHED"),
        "baseline-b": ("failed", "FAILED"),
        "baseline-c": ("running", "RUNNING"),
    }
    finished = scene.store.named("baseline-a")
    assert finished.steps_of("mr2_reasonable") == [2]
    assert finished.artifacts == {"metrics.json": "{}"}
    assert scene.store.named("baseline-b").tags["hkd.error"] == "ValueError: boom"


def test_written_ends_are_not_written_again(scene: Scene) -> None:
    scene.ledger.finish(scene.ledger.record_metrics(scene.started("a"), METRICS))
    write_missing_ends(scene.study, scene.folder, scene.ledger, scene.tracker)
    scene.store.is_unreachable = True
    write_missing_ends(scene.study, scene.folder, scene.ledger, scene.tracker)
    assert scene.tracker.num_pending == 0


def test_early_stop_of_a_trial_that_was_interrupted_before_is_written(scene: Scene) -> None:
    trial = scene.started("a")
    close_runs(scene.ledger, scene.tracker, "stopped")
    # The next session could not reach MLflow.
    stopped = scene.ledger.stop(scene.ledger.record_metrics(trial, {**METRICS, "budget_fraction": 0.5}), ["trial-001"])
    write_missing_ends(scene.study, scene.folder, scene.ledger, scene.tracker)
    run = scene.store.named("baseline-a")
    assert (run.tags["hkd.status"], run.tags["hkd.stopped_because_of"]) == (stopped.status, "trial-001")
    assert run.steps_of("mr2_reasonable") == [2]
    scene.store.is_unreachable = True
    write_missing_ends(scene.study, scene.folder, scene.ledger, scene.tracker)
    assert scene.tracker.num_pending == 0


def test_interrupted_runs_are_closed(scene: Scene) -> None:
    scene.started("a")
    scene.ledger.start_baseline("b", {})  # no run yet
    scene.ledger.finish(scene.ledger.record_metrics(scene.started("c"), METRICS))
    write_missing_ends(scene.study, scene.folder, scene.ledger, scene.tracker)
    close_runs(scene.ledger, scene.tracker, "failed")
    assert scene.statuses() == {
        "x": ("failed", "FAILED"),
        "baseline-a": ("running", "KILLED"),
        "baseline-c": ("finished", "FINISHED"),
    }


def test_trial_that_was_interrupted_and_later_stopped_early_is_written(scene: Scene) -> None:
    trial = scene.ledger.record_metrics(scene.started("a"), {**METRICS, "epoch": 1.0, "budget_fraction": 0.5})
    close_runs(scene.ledger, scene.tracker, "stopped")
    # Resumed and stopped while MLflow did not answer; then the process ended.
    scene.ledger.stop(scene.ledger.record_metrics(trial, METRICS))
    later = flushed(Tracker(scene.store.client(), "http://host", "x", None))
    later.start_study({}, {}, "")
    write_missing_ends(scene.study, scene.folder, scene.ledger, later)
    run = scene.store.named("baseline-a")
    assert (run.tags["hkd.status"], run.status) == ("stopped", "KILLED")
    assert run.steps_of("mr2_reasonable") == [1, 2]
