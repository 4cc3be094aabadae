"""While MLflow cannot be reached, loses responses or rejects writes, the others are written once and in order."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, TEMPORARILY_UNAVAILABLE

from hkd.config import TrialConfig
from hkd.config_files.parsing import flatten
from sweeps.tracking import background
from sweeps.tracking.tracker import Tracker
from tests.sweeps.mlflow_double import MlflowDouble
from tests.sweeps.tracking.tracked import COST, TRIAL, flushed, log_epoch, record, started_tracker, wait_until


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


def test_pending_epochs_are_written_in_one_request_with_the_end(
    store: MlflowDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests: list[tuple[int, int]] = []
    log_batch = store.log_batch

    def counted(run_id: str, metrics: Any = (), params: Any = (), tags: Any = (), **more: Any) -> None:
        log_batch(run_id, metrics=metrics, params=params, tags=tags, **more)
        requests.append((len(metrics), len(tags)))

    tracker = started_tracker(store)
    store.is_unreachable = True
    tracker.start_trial(TRIAL, TrialConfig(), COST)
    log_epoch(tracker, TRIAL, 1)
    log_epoch(tracker, TRIAL, 2)
    tracker.end_trial(replace(TRIAL, status="finished"), None)
    store.is_unreachable = False
    monkeypatch.setattr(background, "RETRY_SECONDS", 0.0)
    monkeypatch.setattr(store, "log_batch", counted)
    tracker.flush()
    wait_until(lambda: not tracker.num_pending)
    # Two epochs of three metrics each, and the tag of the status. What comes before them are parameters and costs.
    assert requests[-1] == (6, 1)
    assert all(num_tags == 0 for _, num_tags in requests[:-1])
    assert store.named("trial-001").steps_of("epoch") == [1, 2]


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


def test_end_of_study_retries_pending_writes(store: MlflowDouble) -> None:
    tracker = started_tracker(store)
    store.is_unreachable = True
    tracker.start_trial(TRIAL, TrialConfig(), COST)
    store.is_unreachable = False
    tracker.end_study("finished")
    assert tracker.num_pending == 0
    assert store.named("trial-001").params
    assert store.named("study").status == "FINISHED"


def lose_responses_to_create_run(store: MlflowDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    create_run = store.create_run

    def lose_response(*arguments: Any, **named: Any) -> Run:
        store.loses_responses = True
        return create_run(*arguments, **named)

    monkeypatch.setattr(store, "create_run", lose_response)


def test_run_is_created_once_if_response_is_lost(store: MlflowDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "RETRY_SECONDS", 0.0)
    tracker = started_tracker(store)
    lose_responses_to_create_run(store, monkeypatch)
    tracker.start_trial(TRIAL, TrialConfig(), COST)
    log_epoch(tracker, TRIAL, 1)
    tracker.end_study("finished")
    assert tracker.num_pending == 0
    run = store.named("trial-001")  # exactly one
    assert len(run.params) == len(flatten(TrialConfig()))
    assert run.steps_of("epoch") == [1]


def test_rejected_write_does_not_block_later_writes(store: MlflowDouble, caplog: pytest.LogCaptureFixture) -> None:
    started_tracker(store).start_trial(TRIAL, TrialConfig(), COST)
    store.named("trial-001").params = {"training.seed": "another"}
    tracker = started_tracker(store)
    tracker.start_trial(TRIAL, TrialConfig(), COST)
    log_epoch(tracker, TRIAL, 1)
    assert tracker.num_pending == 0
    assert "Changing param values is not allowed" in caplog.text
    assert store.named("trial-001").steps_of("epoch") == [1]


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
    lose_responses_to_create_run(store, monkeypatch)
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
