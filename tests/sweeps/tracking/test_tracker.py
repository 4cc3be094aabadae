"""What is written to MLflow: names and steps, each once and in order, while the server fails and studies resume."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, TEMPORARILY_UNAVAILABLE

from hkd.config import TrialConfig
from hkd.config_files.parsing import flatten
from hkd.models.cost import Cost
from sweeps.tracking import background
from sweeps.tracking.background import Write
from sweeps.tracking.tracker import Tracker
from sweeps.trials.confirmation import Confirmation, ConfirmedTrial
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


@pytest.fixture
def store() -> MlflowDouble:
    return MlflowDouble()


def started_tracker(store: MlflowDouble) -> Tracker:
    tracker = flushed(Tracker(store.client(), "sqlite:///mlflow.db", "study", None))
    tracker.start_study({"search.seed": 0}, {"hkd.num_trials": "3"}, "name: study\n")
    return tracker


def flushed(tracker: Tracker) -> Tracker:
    """The tracker; each of its writes is executed, or was attempted, when its method returns."""
    writer = tracker._writer
    add = writer.add

    def add_and_flush(write: Write) -> None:
        add(write)
        writer.flush()

    writer.add = add_and_flush  # type: ignore[method-assign]
    return tracker


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


def test_parent_run_has_tags_params_and_configuration(store: MlflowDouble) -> None:
    started_tracker(store)
    parent = store.named("study")
    assert parent.tags == {
        "hkd.study": "study",
        "hkd.role": "study",
        "hkd.status": "running",
        "hkd.num_trials": "3",
    }
    assert parent.params == {"search.seed": "0"}
    assert parent.artifacts == {"study.yaml": "name: study\n"}


def test_trial_run_has_configuration_costs_epochs_and_artifacts(store: MlflowDouble, tmp_path: Path) -> None:
    tracker = started_tracker(store)
    config = TrialConfig()
    tracker.start_trial(BASELINE, config, COST)
    for epoch in (1, 2):
        log_epoch(tracker, BASELINE, epoch, gradient_ratio_logits=float("inf"))
    (tmp_path / "metrics.json").write_text("{}", encoding="utf-8")
    (tmp_path / "training_state.pt").write_text("large", encoding="utf-8")
    tracker.end_trial(replace(BASELINE, status="finished"), tmp_path)
    run = store.named("baseline-undistilled")
    (parent_id,) = (run_id for run_id, run in store.runs.items() if run.name == "study")
    assert run.tags == {
        "hkd.study": "study",
        "hkd.role": "baseline",
        "hkd.trial_id": "baseline-undistilled",
        "hkd.baseline": "undistilled",
        "hkd.status": "finished",
        "mlflow.parentRunId": parent_id,
    }
    # The whole configuration by dotted name, absent sections as None.
    assert run.params == {name: str(value) for name, value in flatten(config).items()}
    assert run.params["student.width_multiplier"] == "0.5"
    assert run.params["teacher.checkpoint"] == "None"
    # Costs once, at step 0 (4 GFLOPs = 2 GMACs); epochs at their step; infinite values not at all.
    assert run.history == [
        ("num_params", 0, 1000.0),
        ("flops", 0, 4e9),
        ("gmacs", 0, 2.0),
        ("epoch", 1, 1.0),
        ("budget_fraction", 1, 0.25),
        ("mr2_reasonable", 1, 1.0),
        ("epoch", 2, 2.0),
        ("budget_fraction", 2, 0.5),
        ("mr2_reasonable", 2, 0.5),
    ]
    # The training state is not logged.
    assert run.artifacts == {"metrics.json": "{}"}
    assert run.status == "FINISHED"


@pytest.mark.parametrize(
    ("status", "mlflow_status"), [("finished", "FINISHED"), ("stopped", "KILLED"), ("failed", "FAILED")]
)
def test_trial_status_maps_to_run_status(store: MlflowDouble, status: str, mlflow_status: str) -> None:
    tracker = started_tracker(store)
    tracker.start_trial(TRIAL, TrialConfig(), COST)
    tracker.end_trial(replace(TRIAL, status=status), None)
    run = store.named("trial-001")
    assert (run.tags["hkd.status"], run.status) == (status, mlflow_status)


def test_only_a_trial_that_was_stopped_early_has_the_trials_because_of_which(store: MlflowDouble) -> None:
    tracker = started_tracker(store)
    tracker.start_trial(TRIAL, TrialConfig(), COST)
    tracker.interrupt_trial(TRIAL.trial_id)
    tracker.flush()
    run = store.named("trial-001")
    assert run.tags["hkd.status"] == "running"
    assert "hkd.stopped_because_of" not in run.tags
    tracker.start_trial(TRIAL, TrialConfig(), COST)
    tracker.end_trial(replace(TRIAL, status="stopped", dominators=("trial-003", "baseline-b")), None)
    tracker.flush()
    assert run.tags["hkd.stopped_because_of"] == "trial-003, baseline-b"


def test_failed_trial_has_error(store: MlflowDouble) -> None:
    tracker = started_tracker(store)
    tracker.start_trial(TRIAL, TrialConfig(), COST)
    tracker.end_trial(replace(TRIAL, status="failed", error="Traceback:\n  line\nValueError: boom\n"), None)
    run = store.named("trial-001")
    assert run.tags["hkd.error"] == "ValueError: boom"
    assert run.artifacts["error.txt"] == "Traceback:\n  line\nValueError: boom\n"


def test_resumed_study_continues_its_runs(store: MlflowDouble) -> None:
    first = started_tracker(store)
    first.start_trial(TRIAL, TrialConfig(), COST)
    log_epoch(first, TRIAL, 1)
    log_epoch(first, TRIAL, 2)
    first.interrupt_trial(TRIAL.trial_id)
    first.end_study("stopped")
    run, parent = store.named("trial-001"), store.named("study")
    assert (run.tags["hkd.status"], run.status, parent.status) == ("running", "KILLED", "KILLED")
    # Another process, which resumes the trial from its checkpoint of epoch 1 and repeats epoch 2.
    second = started_tracker(store)
    second.start_trial(replace(TRIAL, attempts=2), TrialConfig(), COST)
    assert (run.tags["hkd.status"], run.status) == ("running", "RUNNING")
    assert (parent.tags["hkd.status"], parent.status) == ("running", "RUNNING")
    for epoch in (2, 3):
        log_epoch(second, TRIAL, epoch)
    second.end_trial(replace(TRIAL, status="finished"), None)
    assert run.steps_of("mr2_reasonable") == [1, 2, 3]
    assert run.steps_of("num_params") == [0]
    assert sorted(run.name for run in store.runs.values()) == ["study", "trial-001"]


def test_teacher_is_logged_once(store: MlflowDouble) -> None:
    epochs = ({"loss_total": 3.0}, {"loss_total": 2.0})
    # The second session was killed before it set the status.
    for status in ("finished", "running", "finished"):
        started_tracker(store).log_teacher({"teacher.backbone": "resnet50"}, COST, epochs, {"ap": 0.5})
        store.named("teacher").tags["hkd.status"] = status
    run = store.named("teacher")
    assert (run.tags["hkd.role"], run.tags["hkd.status"], run.status) == ("teacher", "finished", "FINISHED")
    assert run.params == {"teacher.backbone": "resnet50"}
    assert run.steps_of("loss_total") == [1, 2]
    assert run.steps_of("flops") == [0]
    assert set(run.history) >= {("flops", 0, 4e9), ("ap", 2, 0.5), ("budget_fraction", 2, 1.0)}


def test_files_of_teacher_are_artifacts(store: MlflowDouble, tmp_path: Path) -> None:
    tracker = started_tracker(store)
    detections = tmp_path / "validation_detections.safetensors"
    detections.write_text("content")
    tracker.log_teacher({}, COST, (), {"ap": 0.5}, ["a.pth: one", "a.pth: two"], detections)
    assert store.named("teacher").artifacts.keys() == {"weights_origin.txt", "validation_detections.safetensors"}
    assert store.named("teacher").artifacts["weights_origin.txt"] == "a.pth: one\na.pth: two\n"


def test_pending_writes_are_written_later_in_order(store: MlflowDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    tracker = started_tracker(store)
    store.is_unreachable = True
    tracker.start_trial(TRIAL, TrialConfig(), COST)
    log_epoch(tracker, TRIAL, 1)
    assert (tracker.num_pending, tracker.last_error) == (2, "API request failed: connection refused")
    store.is_unreachable = False
    # Not before RETRY_SECONDS, because each attempt waits for a timeout. The second epoch joins the first.
    log_epoch(tracker, TRIAL, 2)
    assert tracker.num_pending == 2
    monkeypatch.setattr(background, "RETRY_SECONDS", 0.0)
    log_epoch(tracker, TRIAL, 3)
    wait_until(lambda: not tracker.num_pending)
    assert tracker.last_error is None
    run = store.named("trial-001")
    assert run.steps_of("epoch") == [1, 2, 3]
    assert store.num_metric_requests == 2  # the costs, and the three epochs


def test_store_that_does_not_answer_delays_no_method(store: MlflowDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    tracker = Tracker(store.client(), "http://host", "study", None)
    answers, create_run = threading.Event(), store.create_run

    def wait(*arguments: Any, **named: Any) -> Run:
        assert answers.wait(60)
        return create_run(*arguments, **named)

    monkeypatch.setattr(store, "create_run", wait)
    tracker.start_study({}, {}, "")
    tracker.start_trial(TRIAL, TrialConfig(), COST)
    log_epoch(tracker, TRIAL, 1)
    tracker.end_trial(replace(TRIAL, status="finished"), None)
    assert store.runs == {}
    answers.set()
    tracker.end_study("finished")
    assert store.named("trial-001").steps_of("epoch") == [1]
    assert store.named("study").status == "FINISHED"


def test_epochs_that_were_pending_when_the_process_ended_are_replayed(store: MlflowDouble) -> None:
    first = started_tracker(store)
    first.start_trial(TRIAL, TrialConfig(), COST)
    log_epoch(first, TRIAL, 1)
    store.is_unreachable = True
    for epoch in (2, 3, 4):
        log_epoch(first, TRIAL, epoch)
    assert store.named("trial-001").steps_of("epoch") == [1]
    store.is_unreachable = False
    in_ledger = replace(TRIAL, epochs={epoch: record(epoch) for epoch in (1, 2, 3, 4)})
    second = started_tracker(store)
    second.start_trial(in_ledger, TrialConfig(), COST)
    run = store.named("trial-001")
    assert run.steps_of("epoch") == run.steps_of("mr2_reasonable") == [1, 2, 3, 4]


def test_requests_have_whole_epochs_within_the_limit_of_mlflow(store: MlflowDouble) -> None:
    tracker = started_tracker(store)
    # 3 + 400 numbers: two epochs fit into a request of 1,000.
    many = {f"loss_{index}": 1.0 for index in range(400)}
    trial = replace(TRIAL, epochs={epoch: record(epoch, **many) for epoch in range(1, 6)})
    store.is_unreachable = True
    tracker.start_trial(trial, TrialConfig(), COST)
    store.is_unreachable = False
    tracker.end_study("finished")
    assert store.named("trial-001").steps_of("loss_399") == [1, 2, 3, 4, 5]
    assert store.num_metric_requests == 1 + 3


def test_end_of_study_retries_pending_writes(store: MlflowDouble) -> None:
    tracker = started_tracker(store)
    store.is_unreachable = True
    tracker.start_trial(TRIAL, TrialConfig(), COST)
    store.is_unreachable = False
    tracker.end_study("finished")
    assert tracker.num_pending == 0
    assert store.named("trial-001").params
    assert store.named("study").status == "FINISHED"


def test_run_is_created_once_if_response_is_lost(store: MlflowDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "RETRY_SECONDS", 0.0)
    tracker = started_tracker(store)
    create_run = store.create_run

    def lose_response(*arguments: Any, **named: Any) -> Run:
        store.loses_responses = True
        return create_run(*arguments, **named)

    monkeypatch.setattr(store, "create_run", lose_response)
    tracker.start_trial(TRIAL, TrialConfig(), COST)
    log_epoch(tracker, TRIAL, 1)
    tracker.end_study("finished")
    assert tracker.num_pending == 0
    run = store.named("trial-001")  # exactly one
    assert len(run.params) == len(flatten(TrialConfig()))
    assert run.steps_of("epoch") == [1]


def test_incomplete_run_is_completed(store: MlflowDouble) -> None:
    first = started_tracker(store)
    first.start_trial(TRIAL, TrialConfig(), COST)
    run = store.named("trial-001")
    run.params = dict(list(run.params.items())[:10])
    run.history.clear()
    started_tracker(store).start_trial(TRIAL, TrialConfig(), COST)
    assert len(run.params) == len(flatten(TrialConfig()))
    assert run.steps_of("flops") == [0]


def test_rejected_write_does_not_block_later_writes(store: MlflowDouble, caplog: pytest.LogCaptureFixture) -> None:
    started_tracker(store).start_trial(TRIAL, TrialConfig(), COST)
    store.named("trial-001").params = {"training.seed": "another"}
    tracker = started_tracker(store)
    tracker.start_trial(TRIAL, TrialConfig(), COST)
    log_epoch(tracker, TRIAL, 1)
    assert tracker.num_pending == 0
    assert "Changing param values is not allowed" in caplog.text
    assert store.named("trial-001").steps_of("epoch") == [1]


def test_artifacts_are_beside_sqlite_file_or_at_servers_location(
    store: MlflowDouble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Tracker(store.client(), "sqlite:///mlflow.db", "study", None)
    assert store.artifact_location == f"file://{tmp_path}/mlartifacts/study"
    Tracker(store.client(), f"sqlite:///{tmp_path}/elsewhere/x.db", "study", None)
    assert store.artifact_location == f"file://{tmp_path}/elsewhere/mlartifacts/study"
    Tracker(store.client(), "http://host:5000", "study", None)
    assert store.artifact_location is None


def test_epoch_is_logged_once_if_response_is_lost(store: MlflowDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "RETRY_SECONDS", 0.0)
    tracker = started_tracker(store)
    tracker.start_trial(TRIAL, TrialConfig(), COST)
    store.loses_responses = True
    log_epoch(tracker, TRIAL, 1)
    log_epoch(tracker, TRIAL, 2)
    tracker.end_study("finished")
    assert store.named("trial-001").steps_of("epoch") == [1, 2]


def test_parent_run_is_created_once_if_response_is_lost(store: MlflowDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "RETRY_SECONDS", 0.0)
    tracker = Tracker(store.client(), "sqlite:///mlflow.db", "study", None)
    create_run = store.create_run

    def lose_response(*arguments: object, **options: object) -> object:
        store.loses_responses = True
        return create_run(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(store, "create_run", lose_response)
    tracker.start_study({"search.seed": 0}, {}, "name: study\n")
    tracker.end_study("finished")
    run = store.named("study")  # exactly one
    assert (run.params, run.status) == ({"search.seed": "0"}, "FINISHED")


def test_run_with_incomplete_end_is_ended_on_resume(store: MlflowDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    first = started_tracker(store)
    first.start_trial(TRIAL, TrialConfig(), COST)

    def fail(*_: object, **__: object) -> None:
        raise MlflowException("API request failed", TEMPORARILY_UNAVAILABLE)

    log_batch = store.log_batch
    monkeypatch.setattr(store, "log_batch", fail)
    first.end_trial(replace(TRIAL, status="finished"), None)
    monkeypatch.setattr(store, "log_batch", log_batch)
    # The process is killed here.
    # A resumed study reads the tag, which still is "running".
    run = store.named("trial-001")
    assert (run.status, run.tags["hkd.status"]) == ("FINISHED", "running")
    second = started_tracker(store)
    assert second.trial_status("trial-001") == "running"
    second.start_trial(TRIAL, TrialConfig(), COST)
    assert run.status == "RUNNING"
    second.end_trial(replace(TRIAL, status="finished"), None)
    assert (run.status, run.tags["hkd.status"]) == ("FINISHED", "finished")


@pytest.mark.parametrize(
    "error", [ModuleNotFoundError("No module named 'boto3'"), PermissionError(13, "Permission denied", "/mlflow")]
)
def test_failing_artifact_store_loses_artifacts_only(
    store: MlflowDouble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(store, "log_text", fail)
    monkeypatch.setattr(store, "log_artifact", fail)
    (tmp_path / "metrics.json").write_text("{}", encoding="utf-8")
    tracker = started_tracker(store)
    tracker.start_trial(TRIAL, TrialConfig(), COST)
    log_epoch(tracker, TRIAL, 1)
    tracker.end_trial(replace(TRIAL, status="finished"), tmp_path)
    tracker.end_study("finished")
    assert tracker.num_pending == 0
    assert tracker.rejections == [str(error)] * 2  # study.yaml, and the trial's files
    run = store.named("trial-001")
    assert (run.status, run.tags["hkd.status"], run.steps_of("epoch")) == ("FINISHED", "finished", [1])
    assert store.named("study").status == "FINISHED"


def test_write_that_always_fails_is_dropped(
    store: MlflowDouble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "RETRY_SECONDS", 0.0)

    def fail(*_: object, **__: object) -> None:
        raise MlflowException("API request to endpoint failed with error code 500 != 200")

    monkeypatch.setattr(store, "log_artifact", fail)
    (tmp_path / "metrics.json").write_text("{}", encoding="utf-8")
    tracker = started_tracker(store)
    tracker.start_trial(TRIAL, TrialConfig(), COST)
    tracker.end_trial(replace(TRIAL, status="finished"), tmp_path)
    wait_until(lambda: not tracker.num_pending)
    assert len(tracker.rejections) == 1
    assert store.named("trial-001").status == "FINISHED"


def test_files_wait_for_an_object_storage_that_is_away(
    store: MlflowDouble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "RETRY_SECONDS", 0.0)
    # More failures than any other write may have while MLflow answers, which it does here.
    failures = [ConnectionError("no answer")] * (2 * background.MAX_ATTEMPTS)

    def fetch(folder: Path) -> None:
        if failures:
            raise failures.pop()
        (folder / "metrics.json").write_text("{}", encoding="utf-8")

    tracker = Tracker(store.client(), "sqlite:///mlflow.db", "study", None, fetch_artifacts=fetch)
    tracker.start_study({}, {}, "")
    tracker.start_trial(TRIAL, TrialConfig(), COST)
    tracker.end_trial(replace(TRIAL, status="finished"), tmp_path)
    wait_until(lambda: not tracker.num_pending)
    assert tracker.rejections == []
    assert store.named("trial-001").artifacts == {"metrics.json": "{}"}


def test_trial_without_run_is_skipped(store: MlflowDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    tracker = started_tracker(store)

    def reject(*_: object, **__: object) -> None:
        raise MlflowException("The experiment must be active", INVALID_PARAMETER_VALUE)

    monkeypatch.setattr(store, "create_run", reject)
    tracker.start_trial(TRIAL, TrialConfig(), COST)
    log_epoch(tracker, TRIAL, 1)
    tracker.end_trial(replace(TRIAL, status="finished"), None)
    tracker.end_study("finished")
    assert (tracker.num_pending, len(tracker.rejections)) == (0, 1)
    assert store.named("study").status == "FINISHED"
    # A resumed study writes the trial again.
    assert tracker.trial_status("trial-001") is None


def test_error_has_no_password(store: MlflowDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = "http://me:SECRET@host:5000"
    tracker = flushed(Tracker(store.client(), uri, "study", None))

    def fail(*_: object, **__: object) -> None:
        raise MlflowException(f"API request to {uri}/api/2.0/mlflow/runs/create failed with exception")

    monkeypatch.setattr(store, "create_run", fail)
    tracker.start_study({}, {}, "")
    assert tracker.last_error == "API request to http://***@host:5000/api/2.0/mlflow/runs/create failed with exception"


def test_confirmation_is_logged_once(store: MlflowDouble) -> None:
    tracker = started_tracker(store)
    tracker.log_teacher({}, COST, ({"loss": 1.0}, {"loss": 0.5}), {"mr2_reasonable": 0.25})
    tracker.start_trial(TRIAL, TrialConfig(), COST)
    log_epoch(tracker, TRIAL, 4)
    finished = replace(TRIAL, status="finished", metrics=record(4).metrics)
    means = {"mr2_reasonable": 0.375, "test_mr2_reasonable": 0.5}
    confirmed = ConfirmedTrial(finished, 2, means, {"test_mr2_reasonable": 0.125}, {"mr2_reasonable": 0.5})
    for _ in range(2):
        tracker.log_confirmation(Confirmation(True, (confirmed,), frozenset({"trial-001"})), {"test_mr2_all": 0.75})
    logged = {entry for entry in store.named("trial-001").history if entry[0].startswith("confirmed_")}
    assert logged == {
        ("confirmed_mr2_reasonable", 4, 0.375),
        ("confirmed_test_mr2_reasonable", 4, 0.5),
        ("confirmed_test_mr2_reasonable_std", 4, 0.125),
        ("confirmed_seeds", 4, 2),
    }
    assert store.named("trial-001").steps_of("confirmed_seeds") == [4]
    assert store.named("teacher").steps_of("test_mr2_all") == [2]
    assert store.named("study").tags["hkd.confirmed_on"] == "test"
    (entry,) = json.loads(store.named("study").artifacts["confirmation.json"])["trials"]
    assert entry["search"] == {"mr2_reasonable": 0.25}
    assert entry["is_on_front"]
