"""What is written to MLflow: by the contract, once, and in order, even if the server goes away in between."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

from hkd.config import TrialConfig
from hkd.config_io import flatten
from hkd.models.cost import Cost
from sweeps.tracking import tracker as tracking
from sweeps.tracking.tracker import Tracker
from sweeps.trials.ledger import LedgerTrial
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


def begun(store: MlflowDouble) -> Tracker:
    tracker = Tracker(store.client(), "sqlite:///mlflow.db", "study", None)
    tracker.start_study({"search.seed": 0}, {"hkd.num_trials": "3"}, "name: study\n")
    return tracker


def epoch_metrics(epoch: int, **more: float) -> dict[str, float]:
    return {"epoch": epoch, "budget_fraction": epoch / 4, "mr2_reasonable": 1 / epoch, **more}


def test_parent_run(store: MlflowDouble) -> None:
    begun(store)
    parent = store.named("study")
    assert parent.tags == {
        "hkd.study": "study",
        "hkd.role": "study",
        "hkd.status": "running",
        "hkd.num_trials": "3",
    }
    assert parent.params == {"search.seed": "0"}
    assert parent.artifacts == {"study.yaml": "name: study\n"}


def test_a_trials_run(store: MlflowDouble, tmp_path: Path) -> None:
    tracker = begun(store)
    config = TrialConfig()
    tracker.start_trial(BASELINE, config, COST)
    for epoch in (1, 2):
        tracker.log_epoch(BASELINE.trial_id, epoch_metrics(epoch, gradient_ratio_logits=float("inf")))
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
    # Cost once, at step 0 (4 GFLOPs are 2 GMACs); the rest with the epoch as step; what is no number not at all.
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
    # The state to go on from is no result.
    assert run.artifacts == {"metrics.json": "{}"}
    assert run.status == "FINISHED"


@pytest.mark.parametrize(
    ("status", "mlflow_status"), [("finished", "FINISHED"), ("stopped", "KILLED"), ("failed", "FAILED")]
)
def test_how_a_trial_ended(store: MlflowDouble, status: str, mlflow_status: str) -> None:
    tracker = begun(store)
    tracker.start_trial(TRIAL, TrialConfig(), COST)
    tracker.end_trial(replace(TRIAL, status=status), None)
    run = store.named("trial-001")
    assert (run.tags["hkd.status"], run.status) == (status, mlflow_status)


def test_a_failed_trial_says_why(store: MlflowDouble) -> None:
    tracker = begun(store)
    tracker.start_trial(TRIAL, TrialConfig(), COST)
    tracker.end_trial(replace(TRIAL, status="failed", error="Traceback:\n  line\nValueError: boom\n"), None)
    run = store.named("trial-001")
    assert run.tags["hkd.error"] == "ValueError: boom"
    assert run.artifacts["error.txt"] == "Traceback:\n  line\nValueError: boom\n"


def test_a_resumed_study_writes_into_the_same_runs(store: MlflowDouble) -> None:
    first = begun(store)
    first.start_trial(TRIAL, TrialConfig(), COST)
    first.log_epoch(TRIAL.trial_id, epoch_metrics(1))
    first.log_epoch(TRIAL.trial_id, epoch_metrics(2))
    first.interrupt_trial(TRIAL.trial_id)
    first.end_study("stopped")
    run, parent = store.named("trial-001"), store.named("study")
    assert (run.tags["hkd.status"], run.status, parent.status) == ("stopped", "KILLED", "KILLED")
    # Another process; the trial goes on from its checkpoint of epoch 1 and trains epoch 2 once more.
    second = begun(store)
    assert second.trial_status("trial-001") == "stopped"
    second.start_trial(replace(TRIAL, attempts=2), TrialConfig(), COST)
    assert (run.tags["hkd.status"], run.status) == ("running", "RUNNING")
    assert (parent.tags["hkd.status"], parent.status) == ("running", "RUNNING")
    for epoch in (2, 3):
        second.log_epoch(TRIAL.trial_id, epoch_metrics(epoch))
    second.end_trial(replace(TRIAL, status="finished"), None)
    assert run.steps_of("mr2_reasonable") == [1, 2, 3]
    assert run.steps_of("num_params") == [0]
    assert sorted(run.name for run in store.runs.values()) == ["study", "trial-001"]


def test_the_teacher_is_written_once(store: MlflowDouble) -> None:
    epochs = ({"loss_total": 3.0}, {"loss_total": 2.0})
    # The second session was cut off before its end: all there is but the status.
    for status in ("finished", "running", "finished"):
        begun(store).log_teacher({"teacher.backbone": "resnet50"}, COST, epochs, {"ap": 0.5})
        store.named("teacher").tags["hkd.status"] = status
    run = store.named("teacher")
    assert (run.tags["hkd.role"], run.tags["hkd.status"], run.status) == ("teacher", "finished", "FINISHED")
    assert run.params == {"teacher.backbone": "resnet50"}
    assert run.steps_of("loss_total") == [1, 2]
    assert run.steps_of("flops") == [0]
    assert set(run.history) >= {("flops", 0, 4e9), ("ap", 2, 0.5), ("budget_fraction", 2, 1.0)}


def test_what_cannot_be_written_now_is_written_later_in_order(
    store: MlflowDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = begun(store)
    store.is_away = True
    tracker.start_trial(TRIAL, TrialConfig(), COST)
    tracker.log_epoch(TRIAL.trial_id, epoch_metrics(1))
    assert (tracker.num_pending, tracker.last_error) == (2, "API request failed: connection refused")
    store.is_away = False
    # Not at once: a server that is away makes each attempt wait.
    tracker.log_epoch(TRIAL.trial_id, epoch_metrics(2))
    assert tracker.num_pending == 3
    monkeypatch.setattr(tracking, "RETRY_SECONDS", 0.0)
    tracker.log_epoch(TRIAL.trial_id, epoch_metrics(3))
    assert (tracker.num_pending, tracker.last_error) == (0, None)
    assert store.named("trial-001").steps_of("epoch") == [1, 2, 3]


def test_the_end_tries_once_more(store: MlflowDouble) -> None:
    tracker = begun(store)
    store.is_away = True
    tracker.start_trial(TRIAL, TrialConfig(), COST)
    store.is_away = False
    tracker.end_study("finished")
    assert tracker.num_pending == 0
    assert store.named("trial-001").params
    assert store.named("study").status == "FINISHED"


def test_a_run_whose_making_was_not_answered_is_not_made_twice(
    store: MlflowDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "RETRY_SECONDS", 0.0)
    tracker = begun(store)
    search_runs = store.search_runs

    def lose_the_next_answer(*arguments: object, **options: object) -> object:
        found = search_runs(*arguments, **options)  # type: ignore[arg-type]
        store.loses_answers = True
        return found

    monkeypatch.setattr(store, "search_runs", lose_the_next_answer)
    tracker.start_trial(TRIAL, TrialConfig(), COST)
    assert tracker.num_pending == 1
    monkeypatch.setattr(store, "search_runs", search_runs)
    tracker.log_epoch(TRIAL.trial_id, epoch_metrics(1))
    assert tracker.num_pending == 0
    run = store.named("trial-001")  # exactly one
    assert len(run.params) == len(flatten(TrialConfig()))
    assert run.steps_of("epoch") == [1]


def test_a_run_that_was_cut_off_while_it_was_made_is_completed(store: MlflowDouble) -> None:
    first = begun(store)
    first.start_trial(TRIAL, TrialConfig(), COST)
    run = store.named("trial-001")
    run.params = dict(list(run.params.items())[:10])
    run.history.clear()
    begun(store).start_trial(TRIAL, TrialConfig(), COST)
    assert len(run.params) == len(flatten(TrialConfig()))
    assert run.steps_of("flops") == [0]


def test_what_the_server_refuses_does_not_hold_up_the_rest(
    store: MlflowDouble, caplog: pytest.LogCaptureFixture
) -> None:
    begun(store).start_trial(TRIAL, TrialConfig(), COST)
    store.named("trial-001").params = {"training.seed": "another"}
    tracker = begun(store)
    tracker.start_trial(TRIAL, TrialConfig(), COST)
    tracker.log_epoch(TRIAL.trial_id, epoch_metrics(1))
    assert tracker.num_pending == 0
    assert "refuses a part of the results: Changing param values is not allowed" in caplog.text
    assert store.named("trial-001").steps_of("epoch") == [1]


def test_artifacts_lie_beside_an_sqlite_file_and_where_a_server_wants_them(
    store: MlflowDouble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Tracker(store.client(), "sqlite:///mlflow.db", "study", None)
    assert store.artifact_location == f"file://{tmp_path}/mlartifacts/study"
    Tracker(store.client(), f"sqlite:///{tmp_path}/elsewhere/x.db", "study", None)
    assert store.artifact_location == f"file://{tmp_path}/elsewhere/mlartifacts/study"
    Tracker(store.client(), "http://host:5000", "study", None)
    assert store.artifact_location is None


def test_a_lost_answer_doubles_no_epoch(store: MlflowDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "RETRY_SECONDS", 0.0)
    tracker = begun(store)
    tracker.start_trial(TRIAL, TrialConfig(), COST)
    store.loses_answers = True
    tracker.log_epoch(TRIAL.trial_id, epoch_metrics(1))
    assert tracker.num_pending == 1
    later = time.time() + 60
    monkeypatch.setattr("sweeps.tracking.tracker.time.time", lambda: later)
    tracker.log_epoch(TRIAL.trial_id, epoch_metrics(2))
    assert store.named("trial-001").steps_of("epoch") == [1, 2]


def test_a_study_whose_making_was_not_answered_is_not_made_twice(
    store: MlflowDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "RETRY_SECONDS", 0.0)
    tracker = Tracker(store.client(), "sqlite:///mlflow.db", "study", None)
    create_run = store.create_run

    def lose_the_answer(*arguments: object, **options: object) -> object:
        store.loses_answers = True
        return create_run(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(store, "create_run", lose_the_answer)
    tracker.start_study({"search.seed": 0}, {}, "name: study\n")
    tracker.end_study("finished")
    run = store.named("study")  # exactly one
    assert (run.params, run.status) == ({"search.seed": "0"}, "FINISHED")


def test_a_run_that_was_cut_off_while_it_was_closed_is_closed_when_the_study_is_resumed(
    store: MlflowDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = begun(store)
    first.start_trial(TRIAL, TrialConfig(), COST)

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    log_batch = store.log_batch
    monkeypatch.setattr(store, "log_batch", killed)
    with pytest.raises(KeyboardInterrupt):
        first.end_trial(replace(TRIAL, status="finished"), None)
    monkeypatch.setattr(store, "log_batch", log_batch)
    # The tag is what tells whoever resumes that something is left to be written.
    run = store.named("trial-001")
    assert (run.status, run.tags["hkd.status"]) == ("FINISHED", "running")
    second = begun(store)
    assert second.trial_status("trial-001") == "running"
    second.start_trial(TRIAL, TrialConfig(), COST)
    assert run.status == "RUNNING"
    second.end_trial(replace(TRIAL, status="finished"), None)
    assert (run.status, run.tags["hkd.status"]) == ("FINISHED", "finished")


@pytest.mark.parametrize(
    "error", [ModuleNotFoundError("No module named 'boto3'"), PermissionError(13, "Permission denied", "/mlflow")]
)
def test_a_failing_store_of_artifacts_costs_the_artifacts_and_nothing_else(
    store: MlflowDouble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(store, "log_text", fail)
    monkeypatch.setattr(store, "log_artifact", fail)
    (tmp_path / "metrics.json").write_text("{}", encoding="utf-8")
    tracker = begun(store)
    tracker.start_trial(TRIAL, TrialConfig(), COST)
    tracker.log_epoch(TRIAL.trial_id, epoch_metrics(1))
    tracker.end_trial(replace(TRIAL, status="finished"), tmp_path)
    tracker.end_study("finished")
    assert tracker.num_pending == 0
    assert tracker.rejections == [str(error)] * 2  # study.yaml, and the trial's files
    run = store.named("trial-001")
    assert (run.status, run.tags["hkd.status"], run.steps_of("epoch")) == ("FINISHED", "finished", [1])
    assert store.named("study").status == "FINISHED"


def test_a_server_that_answers_but_never_takes_one_thing_is_not_waited_for_for_ever(
    store: MlflowDouble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "RETRY_SECONDS", 0.0)

    def fail(*_: object, **__: object) -> None:
        raise MlflowException("API request to endpoint failed with error code 500 != 200")

    monkeypatch.setattr(store, "log_artifact", fail)
    (tmp_path / "metrics.json").write_text("{}", encoding="utf-8")
    tracker = begun(store)
    tracker.start_trial(TRIAL, TrialConfig(), COST)
    tracker.end_trial(replace(TRIAL, status="finished"), tmp_path)
    while tracker.num_pending:
        assert tracker.rejections == []
        tracker.interrupt_trial("of another trial")
    assert len(tracker.rejections) == 1
    assert store.named("trial-001").status == "FINISHED"


def test_of_a_trial_whose_run_is_refused_nothing_is_written(
    store: MlflowDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = begun(store)

    def refuse(*_: object, **__: object) -> None:
        raise MlflowException("The experiment must be active", INVALID_PARAMETER_VALUE)

    monkeypatch.setattr(store, "create_run", refuse)
    tracker.start_trial(TRIAL, TrialConfig(), COST)
    tracker.log_epoch(TRIAL.trial_id, epoch_metrics(1))
    tracker.end_trial(replace(TRIAL, status="finished"), None)
    tracker.end_study("finished")
    assert (tracker.num_pending, len(tracker.rejections)) == (0, 1)
    assert store.named("study").status == "FINISHED"
    # When the study is resumed, the trial is written as one that MLflow does not know.
    assert tracker.trial_status("trial-001") is None


def test_trouble_is_told_without_passwords(store: MlflowDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = "http://me:SECRET@host:5000"
    tracker = Tracker(store.client(), uri, "study", None)

    def fail(*_: object, **__: object) -> None:
        raise MlflowException(f"API request to {uri}/api/2.0/mlflow/runs/create failed with exception")

    monkeypatch.setattr(store, "create_run", fail)
    tracker.start_study({}, {}, "")
    assert tracker.last_error == "API request to http://***@host:5000/api/2.0/mlflow/runs/create failed with exception"
