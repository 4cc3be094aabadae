"""How a study is begun, interrupted and gone on with; without Ray, and with MLflow's double."""

from __future__ import annotations

import io
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from hkd.models.cost import Cost
from sweeps import study as study_module
from sweeps.folder import StudyError, StudyFolder
from sweeps.interruption import Interruption
from sweeps.settings.resources import Cluster, TrialResources
from sweeps.settings.space import trial_config
from sweeps.settings.study import SearchConfig, StudyConfig
from sweeps.study import run_study
from sweeps.tracking import store as mlflow_store
from tests.sweeps.mlflow_double import MlflowDouble, experiment

Trials = Callable[[Any], None]
"""What takes the place of Ray Tune: is given the session."""


class Experiments(MlflowDouble):
    def get_experiment_by_name(self, _: str) -> object:
        return experiment() if self.runs else None


class Place:
    """Where a study is run: its trials are what a test makes of them."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store = Experiments()
        self.out = io.StringIO()
        self.trials: Trials = lambda _: None
        self.order: list[str] = []
        base = {"name": "x", "storage_path": tmp_path / "runs", "base": {"teacher": None}, "baselines": {"b": {}}}
        space = {"training.seed": {"type": "categorical", "choices": [1, 2]}}
        self.study = StudyConfig.model_validate({**base, "space": space, "search": {"num_trials": 2}})
        self.folder = StudyFolder(self.study)

        @contextmanager
        def connected(_: object) -> Iterator[Cluster]:
            yield Cluster(None, 2, 0)

        def run_trials(session: Any, teacher: Path | None, resources: TrialResources, _: Interruption) -> None:
            self.trials(session)

        for name, stand_in in {
            "find_address": lambda: None,
            "connected": connected,
            "prepare_data": lambda _: type("Data", (), {"validation_annotations": None}),
            "check_objectives": lambda *_: None,
            "_prepare_teacher": lambda *_: self.order.append("teacher"),
        }.items():
            monkeypatch.setattr(study_module, name, stand_in)
        monkeypatch.setattr(mlflow_store, "connect", lambda _: self.store.client())
        monkeypatch.setattr(study_module._Session, "_run_trials", run_trials)

    def run(self, *, is_resumed: bool = False, **search: Any) -> int:
        study = self.study.model_copy(update={"search": SearchConfig(**{"num_trials": 2, **search})})
        console = Console(file=self.out, width=200)
        return run_study(study, is_resumed=is_resumed, console=console, resume_command="THE COMMAND")

    @property
    def status(self) -> dict[str, tuple[str, str]]:
        return {run.name: (run.tags["hkd.status"], run.status) for run in self.store.runs.values()}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    return Place(tmp_path, monkeypatch)


def begin_one(session: Any) -> Any:
    """A trial starts, as Tune and the recorder have it."""
    trial = session._begin_next()
    session._tracker.start_trial(trial, trial_config(session._study.base, trial.params), Cost(10, 100))
    return trial


def finish_all(session: Any) -> None:
    metrics = {"mr2_reasonable": 0.5, "num_params": 10, "flops": 100, "epoch": 1, "budget_fraction": 1}
    while session.has_work():
        if (trial := session._begin_next()) is not None:
            session._tracker.start_trial(trial, trial_config(session._study.base, trial.params), Cost(10, 100))
            trial = session._ledger.finish(session._ledger.note_result(trial, metrics))
            session._tracker.end_trial(trial, None)


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_a_signal_before_the_first_trial_leaves_a_study_that_can_be_resumed(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_study = StudyFolder.write_study

    def write_and_interrupt(folder: StudyFolder, study: StudyConfig) -> None:
        interrupt()
        write_study(folder, study)

    monkeypatch.setattr(StudyFolder, "write_study", write_and_interrupt)
    place.trials = lambda _: pytest.fail("no trial is to be run any more")
    assert place.run() == 130
    assert "Go on with:  THE COMMAND" in place.out.getvalue()
    assert place.folder.study_exists
    assert "running" not in {tag for tag, _ in place.status.values()}


def test_a_signal_while_the_study_is_opened_in_mlflow(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    log_text = place.store.log_text

    def interrupted_once(*arguments: Any) -> None:
        monkeypatch.setattr(place.store, "log_text", log_text)
        interrupt()

    monkeypatch.setattr(place.store, "log_text", interrupted_once)
    assert place.run() == 130
    assert "Go on with:  THE COMMAND" in place.out.getvalue()
    assert place.status == {"x": ("stopped", "KILLED")}
    # What was being written is written all the same.
    assert "study.yaml" in place.store.named("x").artifacts


def test_a_second_signal_waits_until_all_is_marked(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def trials(session: Any) -> None:
        begin_one(session)
        begin_one(session)
        interrupt()

    set_terminated = place.store.set_terminated

    def impatient(run_id: str, status: str) -> None:
        if place.store.runs[run_id].name == "baseline-b":
            interrupt()
        set_terminated(run_id, status)

    place.trials = trials
    monkeypatch.setattr(place.store, "set_terminated", impatient)
    assert place.run() == 130
    assert place.status == dict.fromkeys(("x", "baseline-b", "trial-001"), ("stopped", "KILLED"))
    assert "0 trials are done, 2 are kept" in place.out.getvalue()


def test_a_crash_leaves_no_run_open(place: Place) -> None:
    def trials(session: Any) -> None:
        begin_one(session)
        raise RuntimeError("ours")

    place.trials = trials
    with pytest.raises(RuntimeError, match="ours"):
        place.run()
    assert place.status == {"x": ("failed", "FAILED"), "baseline-b": ("stopped", "KILLED")}


def test_mlflow_is_opened_before_the_teacher_is_trained(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def create_experiment(*_: Any, **__: Any) -> str:
        place.order.append("experiment")
        return "1"

    monkeypatch.setattr(place.store, "create_experiment", create_experiment)
    place.trials = finish_all
    assert place.run() == 0
    assert place.order == ["experiment", "teacher"]


def test_a_study_that_was_given_more_trials_goes_on_without_being_told_again(place: Place) -> None:
    place.trials = begin_one
    assert place.run(num_trials=1) == 1  # nothing finished
    place.trials = finish_all
    assert place.run(is_resumed=True, num_trials=2) == 0
    assert place.run(is_resumed=True, num_trials=1) == 0
    assert "Going on to 2 proposed trials, as asked for before (search.num_trials is now 1)" in place.out.getvalue()
    assert "num_trials: 2" in place.folder.config_file.read_text(encoding="utf-8")
    assert sorted(place.status) == ["baseline-b", "trial-001", "trial-002", "x"]
    with pytest.raises(StudyError, match=r"is finished \(3 trials\).*--set search.num_trials=4"):
        place.run(num_trials=1)


def test_a_study_whose_space_is_used_up_is_finished(place: Place) -> None:
    place.trials = finish_all
    # The space holds two trials.
    assert place.run(num_trials=50) == 0
    assert "1 baselines and 2 proposed by tpe" in place.out.getvalue()
    # To resume it starts neither data nor cluster.
    assert place.run(is_resumed=True, num_trials=50) == 0
    assert place.order == ["teacher"]
    with pytest.raises(StudyError, match=r"is finished \(3 trials\).*These are all that its space holds"):
        place.run(num_trials=50)


def test_a_study_begun_by_another_process_in_between_is_not_mixed(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = place.study.model_copy(update={"objectives": ("flops",)})

    def meanwhile(_: str) -> object:
        place.folder.write_study(other)
        return place.store.client()

    monkeypatch.setattr(mlflow_store, "connect", meanwhile)
    with pytest.raises(StudyError, match='the name "x" is taken'):
        place.run()
    assert place.order == []


def test_what_mlflow_refused_is_told_at_the_end(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def lacks_a_library(*_: Any) -> None:
        raise ModuleNotFoundError("No module named 'boto3'")

    monkeypatch.setattr(place.store, "log_text", lacks_a_library)
    place.trials = finish_all
    assert place.run() == 0
    assert "rejected by MLflow: 1 (No module named 'boto3')" in place.out.getvalue()
