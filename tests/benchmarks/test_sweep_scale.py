"""The measurement of a driver, on a few simulated trials."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.sweep_scale.__main__ import _heading, _row, measure
from benchmarks.sweep_scale.proposals import seconds_of_proposals
from benchmarks.sweep_scale.trivial import trivial_study
from sweeps.tracking import store
from sweeps.trials.records.ledger import open_ledger
from tests.sweeps.mlflow_double import MlflowDouble


def test_all_trials_are_run_recorded_and_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = MlflowDouble()
    monkeypatch.setattr(store, "connect", lambda _: mlflow.client())
    study = trivial_study("http://host", tmp_path, num_trials=3, epochs=2, sampler="random")
    cost = measure(study, is_simulated=True)
    trials = open_ledger(study, tmp_path / "runs" / "scale" / "trials.journal").trials()
    # Three proposed trials and a baseline.
    assert [trial.status for trial in trials] == ["finished"] * cost.num_trials == ["finished"] * 4
    assert {run.status for run in mlflow.runs.values()} == {"FINISHED"}
    assert mlflow.named("trial-003").steps_of("loss_0") == [1, 2]
    assert all(cost.seconds[part] > 0 for part in ("ask", "ledger", "tracking", "MLflow's thread"))
    assert 0 < cost.tracking_share < 1
    heading, line = _heading()
    assert heading.count("|") == line.count("|") == _row(cost).count("|")


def test_proposals_are_timed_after_the_trials() -> None:
    taken = seconds_of_proposals("tpe", num_trials=12, num_proposals=3)
    assert len(taken) == 3
    assert min(taken) > 0
