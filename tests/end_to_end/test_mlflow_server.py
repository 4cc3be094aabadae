"""A study tracked on a real MLflow server that is killed and restarted meanwhile."""

from __future__ import annotations

import signal
import socket
import time
from dataclasses import replace
from pathlib import Path

import pytest

from analysis.records.reader import read_study
from hkd.config import TrainingConfig, TrialConfig
from hkd.config_files.parsing import flatten
from hkd.metric_names import TEACHER_TRIAL_ID
from hkd.models.cost import Cost
from sweeps.tracking.store import TrackingError, connect, find_experiment
from sweeps.tracking.tracker import Tracker
from sweeps.trials.records.trial import EpochRecord, LedgerTrial
from tests.end_to_end.processes import Command

CONFIG = TrialConfig(training=TrainingConfig(total_epochs=3))
COST = Cost(num_params=1000, flops=4_000_000_000)
TRIAL = LedgerTrial("trial-001", "trial", None, {}, "running", 1, None, 0, {}, None, 0)


def serve(folder: Path, port: int) -> Command:
    options = {
        "host": "127.0.0.1",
        "port": str(port),
        "workers": "1",
        "backend-store-uri": f"sqlite:///{folder / 'mlflow.db'}",
        "artifacts-destination": str(folder / "artifacts"),
    }
    given = [word for name, value in options.items() for word in (f"--{name}", value)]
    server = Command(["-m", "mlflow", "server", *given], folder)
    server.wait_for("Uvicorn running on")
    return server


def measured(epoch: int) -> dict[str, float]:
    return {"epoch": epoch, "budget_fraction": epoch / 3, "mr2_reasonable": 1 / epoch, "num_params": 1000, "flops": 4e9}


def test_pending_results_are_written_after_server_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sweeps.tracking.background.RETRY_SECONDS", 0.0)
    # MLflow's own retries would make the test wait.
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
    uri = f"http://127.0.0.1:{port}"
    files = tmp_path / "checkpoint"
    files.mkdir()
    (files / "metrics.json").write_text("{}", encoding="utf-8")

    with serve(tmp_path, port) as server:
        client = connect(uri)
        assert find_experiment(client, uri, "study", study_exists=False) is None
        tracker = Tracker(client, uri, "study", None)
        tracker.start_study({"objectives": "mr2_reasonable, num_params, flops", "search.seed": 0}, {}, "name: study\n")
        tracker.log_teacher({"teacher.backbone": "resnet18"}, COST, ({"loss_total": 2.0},), {"mr2_reasonable": 0.1})
        tracker.start_trial(TRIAL, CONFIG, COST)
        tracker.log_epoch("trial-001", 1, EpochRecord(measured(1), 1000 * 1))
        tracker.flush()
        assert (tracker.num_pending, tracker.rejections) == (0, [])
        server.send(signal.SIGKILL, to_group=True)
        server.end()
    tracker.log_epoch("trial-001", 2, EpochRecord(measured(2), 1000 * 2))
    while tracker.last_error is None:
        time.sleep(0.05)
    assert tracker.num_pending == 1
    with pytest.raises(TrackingError, match="cannot reach the MLflow server"):
        connect(uri)

    with serve(tmp_path, port):
        tracker.log_epoch("trial-001", 3, EpochRecord(measured(3), 1000 * 3))
        tracker.end_trial(replace(TRIAL, status="finished"), files)
        tracker.end_study("finished")
        assert (tracker.num_pending, tracker.rejections) == (0, [])

        experiment = find_experiment(client, uri, "study", study_exists=True)
        resumed = Tracker(client, uri, "study", experiment)
        assert resumed.trial_status("trial-001") == resumed.trial_status(TEACHER_TRIAL_ID) == "finished"
        with pytest.raises(TrackingError, match='has runs of a study "study"'):
            find_experiment(client, uri, "study", study_exists=False)

        records = read_study("study", uri)
        (trial,) = records.counted
        assert trial.trial_id == "trial-001"
        assert trial.metrics["mr2_reasonable"] == pytest.approx(1 / 3)
        assert trial.params.keys() >= flatten(CONFIG).keys()
        assert records.teacher is not None
        assert records.teacher.metrics["mr2_reasonable"] == 0.1
        assert experiment is not None
        runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
        assert sorted(runs) == ["study", "teacher", "trial-001"]
        assert {run.info.status for run in runs.values()} == {"FINISHED"}
        run_id = runs["trial-001"].info.run_id
        history = client.get_metric_history(run_id, "mr2_reasonable")
        assert sorted(point.step for point in history) == [1, 2, 3]
        # Listed through the server, which stores them.
        assert [entry.path for entry in client.list_artifacts(run_id)] == ["metrics.json"]
    # MLflow prints a line for every run that ends, unless it is silenced.
    assert capsys.readouterr().out == ""
