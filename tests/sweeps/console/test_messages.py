"""Messages of a study: the facts and commands that they have."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from hkd.config import TeacherConfig
from sweeps.console.display import Display
from sweeps.console.messages import (
    describe_cluster,
    describe_existing_study,
    describe_trials,
    num_planned_trials,
    print_results,
)
from sweeps.folder import StudyFolder
from sweeps.settings.resources import Cluster, TrialResources
from sweeps.settings.study import StudyConfig
from sweeps.tracking.tracker import Tracker
from sweeps.trials.records.ledger import Ledger, open_ledger
from sweeps.trials.records.teacher import TeacherRecord, write_teacher
from tests.sweeps.mlflow_double import MlflowDouble
from tests.sweeps.tiny import tiny_trial

METRICS = {"mr2_reasonable": 0.5, "num_params": 1e6, "flops": 2e9, "epoch": 2.0, "budget_fraction": 1.0}
COMMAND = "python sweeps/run.py --resume"


def make_study(folder: Path, num_trials: int = 2, uri: str = "sqlite:///mlflow.db") -> StudyConfig:
    """A study with one baseline and four configurations: pyramid_channels of 8, 16, 24 or 32."""
    return StudyConfig.model_validate(
        {
            "name": "x",
            "base": {**tiny_trial(folder / "cache"), "teacher": None},
            "space": {"student.pyramid_channels": {"type": "int", "low": 8, "high": 32, "step": 8}},
            "search": {"num_trials": num_trials, "sampler": "random"},
            "baselines": {"undistilled": {}},
            "tracking": {"uri": uri},
            "storage_path": folder,
        }
    )


def make_ledger(study: StudyConfig, num_finished: int, *, num_failed: int = 0) -> Ledger:
    """A ledger in which the baseline and then proposed trials ended."""
    folder = StudyFolder(study)
    folder.write_study(study)
    ledger = open_ledger(study, folder.journal)
    for number in range(num_finished + num_failed):
        trial = ledger.start_proposed() if number else ledger.start_baseline("undistilled", {})
        assert trial is not None
        trial = ledger.record_metrics(trial, METRICS)
        if number < num_finished:
            ledger.finish(trial)
        else:
            ledger.fail(trial, "ValueError: boom")
    return ledger


@pytest.mark.parametrize(
    ("address", "expected"),
    [(None, "Ray: this machine, 4 CPUs, 0.5 GPUs"), ("10.0.0.1:6379", "Ray: the cluster at 10.0.0.1:6379, ")],
)
def test_cluster(address: str | None, expected: str) -> None:
    assert describe_cluster(Cluster(address, num_cpus=4.0, num_gpus=0.5)).startswith(expected)


def test_trials_with_their_resources(tmp_path: Path) -> None:
    study = make_study(tmp_path, num_trials=50)
    line = describe_trials(study, TrialResources(num_cpus=2.0, num_gpus=0.25, num_threads=2, max_concurrent=3))
    # The space has four configurations, fewer than num_trials.
    for fact in ("1 baselines", "4 proposed by random", "3 at a time", "2 CPU and 0.25 GPU"):
        assert fact in line
    assert num_planned_trials(study) == 5
    line = describe_trials(study, TrialResources(num_cpus=2.0, num_gpus=0.0, num_threads=2, max_concurrent=None))
    assert "GPU" not in line


@pytest.mark.parametrize(
    ("num_trials", "num_finished", "facts"),
    [
        (2, 2, ("2 of 3", f"{COMMAND}\n")),
        # num_trials is doubled, which always adds trials.
        (2, 3, ("finished (3 trials)", f"{COMMAND} --num-trials 4\n")),
        # Of 50 trials, the space has four: no number of trials adds one.
        (50, 5, ("finished (5 trials)", "no other configurations\n")),
    ],
)
def test_existing_study_has_state_and_remedy(
    tmp_path: Path, num_trials: int, num_finished: int, facts: tuple[str, ...]
) -> None:
    study = make_study(tmp_path, num_trials)
    message = describe_existing_study(study, StudyFolder(study), make_ledger(study, num_finished), COMMAND)
    for fact in (*facts, '"x"', str(tmp_path / "x"), "--name NAME"):
        assert fact in message
    if num_trials == 50:
        assert COMMAND not in message


class Results:
    """The printed results of a study with two finished trials and a failed one."""

    def __init__(self, folder: Path, uri: str = "sqlite:///mlflow.db") -> None:
        self.study = make_study(folder, uri=uri)
        self.store = MlflowDouble()
        self.tracker = Tracker(self.store.client(), uri, "x", None)

    def lines(self, usage: str | None = None) -> list[str]:
        out = io.StringIO()
        display = Display(Console(file=out, width=80))
        ledger = make_ledger(self.study, 2, num_failed=1)
        print_results(self.study, StudyFolder(self.study), ledger, self.tracker, display, usage)
        return out.getvalue().splitlines()


def test_results_have_counts_front_and_next_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[3])
    lines = Results(tmp_path).lines("usage of the trials")
    assert lines[0] == f"Study x: 2 finished, 1 failed; in {tmp_path / 'x'}"
    # Trials with equal objectives are all on the front; failed ones are not.
    of_front = lines[[line.strip() for line in lines].index("Front") :]
    assert sum(line.split()[:1] in (["baseline-undistilled"], ["trial-001"], ["trial-002"]) for line in of_front) == 2
    assert "usage of the trials" in lines
    assert lines[-3].split(maxsplit=1) == ["Report:", "python analysis/pareto.py --study x"]
    assert lines[-2].split(maxsplit=1) == ["MLflow:", "mlflow ui --backend-store-uri sqlite:///mlflow.db"]
    address = "http://127.0.0.1:5000/#/experiments/1/runs?workflowType=machine_learning&viewStateShareKey=hkd"
    assert lines[-1].split() == ["Runs:", address]
    assert not any("Cannot write to MLflow" in line or "rejected by MLflow" in line for line in lines)


@pytest.mark.parametrize(
    ("of_teacher", "facts"),
    [
        (0.51, ["baseline-undistilled", "51.0 %", "holds students back", "Train the teacher longer"]),
        (0.5, []),
        (0.34, ["Nothing here is ready to ship", "baseline-undistilled", "16.0 points", "training.total_epochs"]),
        (0.95, ["Nothing here is ready to ship", "nearly everyone"]),
    ],
)
def test_findings_are_printed_at_the_end(tmp_path: Path, of_teacher: float, facts: list[str]) -> None:
    results = Results(tmp_path)  # all of its trials miss 50 %
    results.study = results.study.model_copy(
        update={"base": results.study.base.model_copy(update={"teacher": TeacherConfig()})}
    )
    file = StudyFolder(results.study).teacher_file
    file.parent.mkdir(parents=True, exist_ok=True)
    write_teacher(file, TeacherRecord(tmp_path / "teacher.safetensors", {**METRICS, "mr2_reasonable": of_teacher}))
    text = " ".join(results.lines())
    for fact in facts:
        assert fact in text
    assert any(word in text for word in ("teacher holds", "ready to ship")) == bool(facts)


def test_results_have_no_password_and_no_server_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = Results(tmp_path, uri="https://me:SECRET@host").lines()
    assert lines[-3].split() == ["MLflow:", "https://***@host"]
    assert lines[-2].split()[1].startswith("https://host/#/experiments/1/runs?")
    assert lines[-4].endswith("--study x --tracking-uri 'https://***@host'")
    assert "MLFLOW_TRACKING_URI" in lines[-1]
    assert "SECRET" not in "".join(lines)
    # As an argument, a password would be in the list of processes.
    lines = Results(tmp_path / "database", uri="postgresql://me:SECRET@host/x").lines()
    assert "MLFLOW_BACKEND_STORE_URI" in lines[-3]
    assert "--backend-store-uri" not in "".join(lines)
    # The report uses the same default.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:SECRET@host")
    assert Results(tmp_path / "same", uri="https://me:SECRET@host").lines()[-3].endswith("--study x")


def test_commands_quote_uri_for_shell(tmp_path: Path) -> None:
    lines = Results(tmp_path, uri="sqlite:///my runs/mlflow.db").lines()
    assert lines[-3].endswith("--tracking-uri 'sqlite:///my runs/mlflow.db'")
    assert lines[-2].endswith("--backend-store-uri 'sqlite:///my runs/mlflow.db'")


def test_results_report_pending_and_rejected_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = Results(tmp_path)

    def lacks_a_library(*_: object) -> None:
        raise ModuleNotFoundError("No module named 'boto3'")

    monkeypatch.setattr(results.store, "log_text", lacks_a_library)
    results.tracker.start_study({}, {}, "name: x\n")
    results.tracker.flush()
    results.store.is_unreachable = True
    results.tracker.end_study("finished")
    lines = results.lines()
    (pending,) = (line for line in lines if "Cannot write to MLflow" in line)
    for fact in ("connection refused", "1 writes are pending", str(tmp_path / "x"), "--resume", "each epoch"):
        assert fact in pending
    (rejected,) = (line for line in lines if "rejected by MLflow" in line)
    for fact in ("1 (No module named 'boto3')", str(tmp_path / "x")):
        assert fact in rejected
