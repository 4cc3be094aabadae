"""What is written to MLflow: by the contract, once, and in order, even if the server goes away in between."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path

import pytest

from hkd.config import TrialConfig
from hkd.config_io import flatten
from hkd.models.cost import Cost
from sweeps import tracking
from sweeps.ledger import LedgerTrial
from sweeps.tracking import Tracker, TrackingError, connect, find_experiment, without_password
from tests.sweeps.mlflow_double import MlflowDouble, experiment

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
    tracker.begin({"search.seed": 0}, {"hkd.num_trials": "3"}, "name: study\n")
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
    tracker.start(BASELINE, config, COST)
    for epoch in (1, 2):
        tracker.epoch(BASELINE.trial_id, epoch_metrics(epoch, gradient_ratio_logits=float("inf")))
    (tmp_path / "metrics.json").write_text("{}", encoding="utf-8")
    (tmp_path / "training_state.pt").write_text("large", encoding="utf-8")
    tracker.end(replace(BASELINE, status="finished"), tmp_path)
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
    tracker.start(TRIAL, TrialConfig(), COST)
    tracker.end(replace(TRIAL, status=status), None)
    run = store.named("trial-001")
    assert (run.tags["hkd.status"], run.status) == (status, mlflow_status)


def test_a_failed_trial_says_why(store: MlflowDouble) -> None:
    tracker = begun(store)
    tracker.start(TRIAL, TrialConfig(), COST)
    tracker.end(replace(TRIAL, status="failed", error="Traceback:\n  line\nValueError: boom\n"), None)
    run = store.named("trial-001")
    assert run.tags["hkd.error"] == "ValueError: boom"
    assert run.artifacts["error.txt"] == "Traceback:\n  line\nValueError: boom\n"


def test_a_resumed_study_writes_into_the_same_runs(store: MlflowDouble) -> None:
    first = begun(store)
    first.start(TRIAL, TrialConfig(), COST)
    first.epoch(TRIAL.trial_id, epoch_metrics(1))
    first.epoch(TRIAL.trial_id, epoch_metrics(2))
    first.interrupt(TRIAL.trial_id)
    first.finish("stopped")
    run, parent = store.named("trial-001"), store.named("study")
    assert (run.tags["hkd.status"], run.status, parent.status) == ("stopped", "KILLED", "KILLED")
    # Another process; the trial goes on from its checkpoint of epoch 1 and trains epoch 2 once more.
    second = begun(store)
    assert second.status_of("trial-001") == "stopped"
    second.start(replace(TRIAL, attempts=2), TrialConfig(), COST)
    assert (run.tags["hkd.status"], run.status) == ("running", "RUNNING")
    assert (parent.tags["hkd.status"], parent.status) == ("running", "RUNNING")
    for epoch in (2, 3):
        second.epoch(TRIAL.trial_id, epoch_metrics(epoch))
    second.end(replace(TRIAL, status="finished"), None)
    assert run.steps_of("mr2_reasonable") == [1, 2, 3]
    assert run.steps_of("num_params") == [0]
    assert sorted(run.name for run in store.runs.values()) == ["study", "trial-001"]


def test_the_teacher_is_written_once(store: MlflowDouble) -> None:
    epochs = ({"loss_total": 3.0}, {"loss_total": 2.0})
    # The second session was cut off before its end: all there is but the status.
    for status in ("finished", "running", "finished"):
        begun(store).teacher({"teacher.backbone": "resnet50"}, COST, epochs, {"ap": 0.5})
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
    tracker.start(TRIAL, TrialConfig(), COST)
    tracker.epoch(TRIAL.trial_id, epoch_metrics(1))
    assert (tracker.num_waiting, tracker.trouble) == (2, "API request failed: connection refused")
    store.is_away = False
    # Not at once: a server that is away makes each attempt wait.
    tracker.epoch(TRIAL.trial_id, epoch_metrics(2))
    assert tracker.num_waiting == 3
    monkeypatch.setattr(tracking, "RETRY_SECONDS", 0.0)
    tracker.epoch(TRIAL.trial_id, epoch_metrics(3))
    assert (tracker.num_waiting, tracker.trouble) == (0, None)
    assert store.named("trial-001").steps_of("epoch") == [1, 2, 3]


def test_the_end_tries_once_more(store: MlflowDouble) -> None:
    tracker = begun(store)
    store.is_away = True
    tracker.start(TRIAL, TrialConfig(), COST)
    store.is_away = False
    tracker.finish("finished")
    assert tracker.num_waiting == 0
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
    tracker.start(TRIAL, TrialConfig(), COST)
    assert tracker.num_waiting == 1
    monkeypatch.setattr(store, "search_runs", search_runs)
    tracker.epoch(TRIAL.trial_id, epoch_metrics(1))
    assert tracker.num_waiting == 0
    run = store.named("trial-001")  # exactly one
    assert len(run.params) == len(flatten(TrialConfig()))
    assert run.steps_of("epoch") == [1]


def test_a_run_that_was_cut_off_while_it_was_made_is_completed(store: MlflowDouble) -> None:
    first = begun(store)
    first.start(TRIAL, TrialConfig(), COST)
    run = store.named("trial-001")
    run.params = dict(list(run.params.items())[:10])
    run.history.clear()
    begun(store).start(TRIAL, TrialConfig(), COST)
    assert len(run.params) == len(flatten(TrialConfig()))
    assert run.steps_of("flops") == [0]


def test_what_the_server_refuses_does_not_hold_up_the_rest(
    store: MlflowDouble, caplog: pytest.LogCaptureFixture
) -> None:
    begun(store).start(TRIAL, TrialConfig(), COST)
    store.named("trial-001").params = {"training.seed": "another"}
    tracker = begun(store)
    tracker.start(TRIAL, TrialConfig(), COST)
    tracker.epoch(TRIAL.trial_id, epoch_metrics(1))
    assert tracker.num_waiting == 0
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


def test_a_server_that_does_not_run_is_told_quickly() -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
    with pytest.raises(TrackingError, match=rf"http://\*\*\*@127\.0\.0\.1:{port} .*cannot be reached") as caught:
        connect(f"http://someone:secret@127.0.0.1:{port}")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("sqlite:///no/such/folder/mlflow.db", "there is no folder"),
        ("sqlite:///", "names no place for a file"),
        ("gopher://host", "cannot be used"),
    ],
)
def test_a_mistyped_place_is_told_and_not_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str, reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TrackingError, match=reason):
        connect(uri)
    assert list(tmp_path.iterdir()) == []


class Experiments(MlflowDouble):
    def __init__(self, lifecycle_stage: str | None) -> None:
        super().__init__()
        self._lifecycle_stage = lifecycle_stage

    def get_experiment_by_name(self, _: str) -> object:
        return None if self._lifecycle_stage is None else experiment(self._lifecycle_stage)


def test_results_of_another_study_are_not_written_over() -> None:
    uri = "sqlite:///mlflow.db"
    assert find_experiment(Experiments(None).client(), uri, "study", is_begun=False) is None
    there = Experiments("active")
    found = find_experiment(there.client(), uri, "study", is_begun=False)
    assert found is not None
    assert found.experiment_id == "1"
    there.create_run("1", "study", {})
    with pytest.raises(TrackingError, match=r'already has results of a study "study", whose folder is not here'):
        find_experiment(there.client(), uri, "study", is_begun=False)
    assert find_experiment(there.client(), uri, "study", is_begun=True) is not None
    with pytest.raises(TrackingError, match="mlflow experiments restore --experiment-id 1"):
        find_experiment(Experiments("deleted").client(), uri, "study", is_begun=True)


def test_passwords_are_hidden() -> None:
    assert without_password("postgresql://me:pw@db:5432/x") == "postgresql://***@db:5432/x"
    assert without_password("sqlite:///mlflow.db") == "sqlite:///mlflow.db"
    assert without_password("postgresql://me:p@w@db:5432/x") == "postgresql://***@db:5432/x"
