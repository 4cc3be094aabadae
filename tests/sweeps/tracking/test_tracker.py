"""What is written to MLflow: names and steps, each once, also by a study that is resumed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from hkd.config import TrialConfig
from hkd.config_files.parsing import flatten
from sweeps.tracking.tracker import Tracker
from sweeps.trials.confirmation import Confirmation, ConfirmedTrial
from tests.sweeps.mlflow_double import MlflowDouble
from tests.sweeps.tracking.tracked import BASELINE, COST, TRIAL, log_epoch, record, started_tracker


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


def test_incomplete_run_is_completed(store: MlflowDouble) -> None:
    first = started_tracker(store)
    first.start_trial(TRIAL, TrialConfig(), COST)
    run = store.named("trial-001")
    run.params = dict(list(run.params.items())[:10])
    run.history.clear()
    started_tracker(store).start_trial(TRIAL, TrialConfig(), COST)
    assert len(run.params) == len(flatten(TrialConfig()))
    assert run.steps_of("flops") == [0]


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
