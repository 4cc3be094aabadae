"""A real study: interrupted with Ctrl-C, resumed, killed, resumed to its end, and read by the report."""

from __future__ import annotations

import json
import re
import signal
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from analysis.records.reader import read_study
from analysis.records.study_records import StudyRecords
from hkd.models.weights import load_detector
from sweeps.folder import ARTIFACTS
from tests.end_to_end.processes import REPOSITORY, Command
from tests.sweeps.tiny import write_tiny_study

EPOCHS = 4
NUM_TRIALS = 2
BROKEN = {"training.learning_rate": 1e4}
"""Diverges at its second step."""
TOTAL = NUM_TRIALS + 3
LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}
"""127.0.0.1, the same address mapped to IPv6, and ::1, in the form of /proc/net/tcp."""
URI = "sqlite:///mlflow.db"
PASSWORD = "hunter2-of-the-test"


@dataclass(frozen=True)
class Session:
    """State of the study after one session."""

    code: int
    output: str
    runs: dict[str, Run]
    """By trial id."""
    num_runs: int
    listening: set[str]

    def ended(self) -> set[str]:
        """Trials that have ended, in MLflow."""
        return {
            trial_id
            for trial_id, run in self.runs.items()
            if run.data.tags["hkd.status"] in ("finished", "failed") and trial_id != "teacher"
        }

    def printed_ends(self) -> set[str]:
        """Trials whose end it printed."""
        return set(re.findall(r"^  (\S+) (?:finished|failed)", self.output, re.MULTILINE))


@dataclass(frozen=True)
class Story:
    """The three sessions of one study."""

    folder: Path
    interrupted: Session
    killed: Session
    completed: Session
    arguments: list[str]
    """Of all processes while trials run."""
    secrets: set[str]
    """In their environment."""
    left_after_kill: list[int]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
        environment.setenv("AWS_SECRET_ACCESS_KEY", PASSWORD)  # which Ray Tune would copy to trials
        yield _story(tmp_path_factory)


def _story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    folder = tmp_path_factory.mktemp("study")
    write_tiny_study(
        folder / "tiny.yaml",
        folder / "cache",
        total_epochs=EPOCHS,
        search={"num_trials": NUM_TRIALS, "startup_trials": 2},
        # The broken one first: it fails at once, so that the two trials that run at a time are not in step.
        baselines={"broken": BROKEN, "undistilled": {"distillation.pyramid.weight": 0.0,
                   "distillation.region.weight": 0.0, "distillation.logits.weight": 0.0}, "default-weights": {}},
    )  # fmt: skip
    arguments = [str(REPOSITORY / "sweeps" / "run.py"), "--config", "tiny.yaml"]
    with Command(arguments, folder) as command:
        command.wait_for(rf"\(2 of {TOTAL}")
        command.wait_until(lambda: trials_under_way(folder, command, set()) != set())
        listening = command.listening_addresses()
        arguments_of_all, secrets = command.arguments(), command.secrets()
        command.send(signal.SIGINT, to_group=True)
        interrupted = session(folder, command.end(), command, listening)
    with Command([*arguments, "--resume"], folder) as to_be_killed:
        done = interrupted.ended()
        to_be_killed.wait_for(rf"\({len(done) + 1} of {TOTAL}")
        to_be_killed.wait_until(lambda: trials_under_way(folder, to_be_killed, done) != set())
        to_be_killed.send(signal.SIGKILL, to_group=False)
        killed = session(folder, to_be_killed.end(), to_be_killed, set())
        # Its workers may still be ending: the next session must not wait for them.
        with Command([*arguments, "--resume"], folder) as command:
            completed = session(folder, command.end(), command, set())
        left = to_be_killed.processes_after(120.0)
    return Story(folder, interrupted, killed, completed, arguments_of_all, secrets, left)


def trials_under_way(folder: Path, command: Command, ended_before: set[str]) -> set[str]:
    """Trials that have trained at least one epoch and not ended."""
    written = folder.glob("runs/tiny/*/checkpoint_*/config.yaml")
    started = {path.parents[1].name.partition("-attempt-")[0] for path in written}
    return started - ended_before - set(re.findall(r"^  (\S+) (?:finished|failed)", command.output, re.MULTILINE))


def client_of(folder: Path) -> MlflowClient:
    with warnings.catch_warnings():
        # SQLAlchemy warns when MLflow's SQL store is first imported.
        warnings.simplefilter("ignore", DeprecationWarning)
        return MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")


def session(folder: Path, code: int, command: Command, listening: set[str]) -> Session:
    client = client_of(folder)
    experiment = client.get_experiment_by_name("tiny")
    assert experiment is not None, command.output
    runs = client.search_runs([experiment.experiment_id])
    by_id = {run.data.tags["hkd.trial_id"]: run for run in runs if "hkd.trial_id" in run.data.tags}
    return Session(code, command.output, by_id, len(runs), listening)


def test_interrupted_study_prints_how_to_resume(story: Story) -> None:
    session = story.interrupted
    assert session.code == 130
    # The working folder is not the checkout's.
    assert f"Resume with:  python {REPOSITORY / 'sweeps' / 'run.py'} --config tiny.yaml --resume" in session.output
    assert "Traceback" not in session.output
    # MLflow shows runs of interrupted trials neither as running nor as failed.
    interrupted = session.runs.keys() - session.ended() - {"teacher"}
    assert interrupted
    for trial_id in interrupted:
        run = session.runs[trial_id]
        assert (run.data.tags["hkd.status"], run.info.status) == ("running", "KILLED")


def test_killed_study_leaves_no_process_behind(story: Story) -> None:
    assert story.killed.code == -signal.SIGKILL
    assert story.left_after_kill == []


def test_resumed_study_finishes(story: Story) -> None:
    assert story.completed.code == 0
    assert len(story.completed.ended()) == TOTAL
    output = story.completed.output
    assert (
        f"Study tiny: {TOTAL - 1} finished, 1 failed" in output
        or f"Study tiny: 1 failed, {TOTAL - 1} finished" in output
    )
    assert "Front" in output
    # The last session may have had a single trial left.
    assert re.search(r"A trial used at most [\d.]+ [MG]iB of memory and \d+ % of its 1 CPU thread; [12] ran at", output)
    assert f"python {REPOSITORY / 'analysis' / 'pareto.py'} --study tiny" in output
    assert f"mlflow ui --backend-store-uri {URI}" in output


def test_ended_trials_are_not_run_again(story: Story) -> None:
    for before, after in ((story.interrupted, story.killed), (story.killed, story.completed)):
        assert before.printed_ends()
        # What a killed process had not yet written to MLflow, the next one writes.
        assert before.ended() | before.printed_ends() <= after.ended()
        for trial_id in before.printed_ends():
            # It is printed only as a row of the front.
            assert not re.search(rf"^  {trial_id} (finished|failed|resumes)", after.output, re.MULTILINE)
        for trial_id in before.ended():
            # Its MLflow run is unchanged, to the millisecond.
            assert after.runs[trial_id].info.end_time == before.runs[trial_id].info.end_time
            assert after.runs[trial_id].data.metrics == before.runs[trial_id].data.metrics


def test_interrupted_trials_resume_in_their_runs(story: Story) -> None:
    for before, after in ((story.interrupted, story.killed), (story.killed, story.completed)):
        interrupted = before.runs.keys() - before.ended() - {"teacher"}
        assert interrupted
        for trial_id in interrupted:
            assert after.runs[trial_id].info.run_id == before.runs[trial_id].info.run_id
            assert after.runs[trial_id].data.params == before.runs[trial_id].data.params
    # At least one of them had a checkpoint.
    assert "resumes after epoch" in story.killed.output + story.completed.output


def test_no_run_is_duplicated_and_no_epoch_logged_twice(story: Story) -> None:
    # The study, its teacher, and one run per trial.
    assert story.completed.num_runs == 2 + TOTAL
    client = client_of(story.folder)
    for trial_id in story.completed.ended() - {"baseline-broken"}:
        run = story.completed.runs[trial_id]
        for name in ("mr2_reasonable", "peak_memory_bytes", "utilisation"):
            history = client.get_metric_history(run.info.run_id, name)
            assert sorted(point.step for point in history) == list(range(1, EPOCHS + 1))


def test_teacher_is_trained_once(story: Story) -> None:
    teachers = list((story.folder / "runs" / "teachers").iterdir())
    assert len(teachers) == 1
    runs = {session.runs["teacher"].info.run_id for session in (story.interrupted, story.killed, story.completed)}
    assert len(runs) == 1


def test_local_cluster_listens_on_loopback_only(story: Story) -> None:
    assert story.interrupted.listening
    assert story.interrupted.listening <= LOOPBACK


def test_no_process_has_a_credential_as_argument(story: Story) -> None:
    assert PASSWORD in story.secrets
    # Ray's processes and workers among them.
    assert any("raylet" in argument for argument in story.arguments)
    assert not [argument for argument in story.arguments if any(secret in argument for secret in story.secrets)]
    written = [path for path in story.folder.rglob("*") if path.is_file() and PASSWORD.encode() in path.read_bytes()]
    assert written == []


@pytest.fixture(scope="module")
def records(story: Story) -> StudyRecords:
    return read_study("tiny", f"sqlite:///{story.folder / 'mlflow.db'}")


def test_report_reads_study(records: StudyRecords) -> None:
    assert records.notes == ()
    assert {trial.trial_id for trial in records.counted} == {
        "baseline-undistilled",
        "baseline-default-weights",
        *(f"trial-{number:03d}" for number in range(1, NUM_TRIALS + 1)),
    }
    assert records.teacher is not None
    assert {"mr2_reasonable", "num_params", "flops"} <= records.teacher.metrics.keys()
    (broken,) = records.not_counted
    assert (broken.trial_id, broken.status, broken.baseline) == ("baseline-broken", "failed", "broken")
    searched = records.searched_parameters()
    assert {"distillation.pyramid.weight", "student.pyramid_channels"} >= set(searched)
    assert "distillation.pyramid.weight" in searched


def test_artifacts_are_of_trained_student(story: Story) -> None:
    client = client_of(story.folder)
    for trial_id in story.completed.ended() - {"baseline-broken"}:
        run = story.completed.runs[trial_id]
        assert {entry.path for entry in client.list_artifacts(run.info.run_id)} == set(ARTIFACTS)
    run = story.completed.runs["trial-001"]
    files = story.folder / "mlartifacts" / "tiny" / run.info.run_id / "artifacts"
    student, metadata = load_detector(files / "student.safetensors")
    assert sum(parameter.numel() for parameter in student.parameters()) == run.data.metrics["num_params"]
    assert metadata.metrics["mr2_reasonable"] == run.data.metrics["mr2_reasonable"]
    assert json.loads((files / "metrics.json").read_text(encoding="utf-8"))["epoch"] == EPOCHS
    failed = client.list_artifacts(story.completed.runs["baseline-broken"].info.run_id)
    assert [entry.path for entry in failed] == ["error.txt"]
