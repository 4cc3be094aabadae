"""How a study is started, interrupted and resumed; with doubles of Ray Tune and of MLflow."""

from __future__ import annotations

import io
import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from optuna.storages.journal import JournalFileBackend
from ray.tune.experiment import Trial
from rich.console import Console

from hkd.coco.annotations import without_boxes
from hkd.config import TeacherConfig, TrialConfig
from hkd.data.prepare import prepare_data
from hkd.evaluation.score_thresholds import ScoreThresholds
from hkd.inference.pseudo_labels import LabelSummary
from hkd.models.cost import Cost
from hkd.training.teacher.prepare import PreparedTeacher, prepare_teacher
from hkd.training.teacher.pseudo_labels import PseudoLabels, prepare_labels
from sweeps import study as study_module
from sweeps.console.display import Display
from sweeps.execution.teacher_task import Prepared
from sweeps.execution.tune_callback import Recorder
from sweeps.folder import StudyError, StudyFolder
from sweeps.settings.resources import Cluster, TrialResources
from sweeps.settings.space import trial_config
from sweeps.settings.study import SearchConfig, StudyConfig, TrackingConfig
from sweeps.study import run_study
from sweeps.tracking import store as mlflow_store
from sweeps.trials import ledger as ledger_module
from sweeps.trials.queue import TrialQueue
from sweeps.trials.teacher_record import read_teacher, teacher_record
from sweeps.trials.worker import METRICS, SPEC, TrialSpec, WorkerSettings
from tests.sweeps.mlflow_double import MlflowDouble, experiment
from tests.sweeps.tiny import tiny_trial, with_unlabelled_images

EPOCH = {"mr2_reasonable": 0.5, "mr2_all": 0.75, "num_params": 10, "flops": 100, "epoch": 1, "budget_fraction": 1}


@dataclass
class TuneDouble:
    """Takes trials from the queue and calls the recorder, as Ray Tune does."""

    queue: TrialQueue
    recorder: Recorder
    study: StudyConfig

    def start_one(self) -> Trial | None:
        known = self.queue.next()
        if known is None:
            return None
        self.recorder.expect(known)
        config = trial_config(self.study.base, known.params)
        spec = TrialSpec(known.trial_id, config, None, None, known.trial_id, WorkerSettings(1, False, Path()))
        trial = cast("Trial", SimpleNamespace(config={SPEC: spec}))
        self.recorder.on_trial_start(iteration=0, trials=[trial], trial=trial)
        return trial

    def finish_all(self) -> None:
        while not self.queue.is_empty:
            if (trial := self.start_one()) is not None:
                self.recorder.on_trial_result(iteration=0, trials=[trial], trial=trial, result={METRICS: EPOCH})
                self.recorder.on_trial_complete(iteration=0, trials=[trial], trial=trial)


class Experiments(MlflowDouble):
    def get_experiment_by_name(self, _: str) -> object:
        return experiment() if self.runs else None


class Place:
    """Runs a study; the function ``trials`` stands for Ray Tune's run."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store = Experiments()
        self.out = io.StringIO()
        self.trials: Callable[[TuneDouble], object] = lambda _: None
        self.order: list[str] = []
        base = {"name": "x", "storage_path": tmp_path / "runs", "baselines": {"b": {}}}
        space = {"training.seed": {"type": "categorical", "choices": [1, 2]}}
        trial = {**tiny_trial(tmp_path / "cache"), "teacher": None}
        self.study = StudyConfig.model_validate({**base, "base": trial, "space": space, "search": {"num_trials": 2}})
        self.folder = StudyFolder(self.study)

        @contextmanager
        def connected(_: object) -> Iterator[Cluster]:
            yield Cluster(None, 2, 0)

        def run_trials(study: StudyConfig, _: object, queue: TrialQueue, recorder: Recorder, *__: object) -> None:
            self.trials(TuneDouble(queue, recorder, study))

        empty = SimpleNamespace(images=())
        for name, stand_in in {
            "find_address": lambda: None,
            "connected": connected,
            "prepare_data": lambda _: SimpleNamespace(train_annotations=empty, validation_annotations=empty),
            "check_objectives": lambda *_: None,
            "_prepare_teacher": lambda *_: self.order.append("teacher"),
            "run_trials": run_trials,
        }.items():
            monkeypatch.setattr(study_module, name, stand_in)
        monkeypatch.setattr(mlflow_store, "connect", lambda _: self.store.client())

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


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_study_interrupted_before_first_trial_can_be_resumed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    write_study = StudyFolder.write_study

    def write_and_interrupt(folder: StudyFolder, study: StudyConfig) -> None:
        interrupt()
        write_study(folder, study)

    monkeypatch.setattr(StudyFolder, "write_study", write_and_interrupt)
    place.trials = lambda _: pytest.fail("a trial was run")
    assert place.run() == 130
    assert "Resume with:  THE COMMAND" in place.out.getvalue()
    assert place.folder.study_exists
    assert "running" not in {tag for tag, _ in place.status.values()}


def test_interruption_while_opening_mlflow_completes_that_write(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    log_text = place.store.log_text

    def interrupted_once(*arguments: Any) -> None:
        monkeypatch.setattr(place.store, "log_text", log_text)
        interrupt()

    monkeypatch.setattr(place.store, "log_text", interrupted_once)
    assert place.run() == 130
    assert "Resume with:  THE COMMAND" in place.out.getvalue()
    assert place.status == {"x": ("stopped", "KILLED")}
    # The write in progress was completed.
    assert "study.yaml" in place.store.named("x").artifacts


def test_second_signal_is_raised_after_all_runs_are_closed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def trials(tune: TuneDouble) -> None:
        tune.start_one()
        tune.start_one()
        interrupt()

    set_terminated = place.store.set_terminated

    def interrupt_again(run_id: str, status: str) -> None:
        if place.store.runs[run_id].name == "baseline-b":
            interrupt()
        set_terminated(run_id, status)

    place.trials = trials
    monkeypatch.setattr(place.store, "set_terminated", interrupt_again)
    assert place.run() == 130
    assert place.status == dict.fromkeys(("x", "baseline-b", "trial-001"), ("stopped", "KILLED"))
    assert "0 trials ended, 2 resume" in place.out.getvalue()


def test_crash_leaves_no_run_open(place: Place) -> None:
    def trials(tune: TuneDouble) -> None:
        tune.start_one()
        raise RuntimeError("ours")

    place.trials = trials
    with pytest.raises(RuntimeError, match="ours"):
        place.run()
    assert place.status == {"x": ("failed", "FAILED"), "baseline-b": ("stopped", "KILLED")}


def test_mlflow_is_opened_before_teacher_is_trained(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def create_experiment(*_: Any, **__: Any) -> str:
        place.order.append("experiment")
        return "1"

    monkeypatch.setattr(place.store, "create_experiment", create_experiment)
    place.trials = TuneDouble.finish_all
    assert place.run() == 0
    assert place.order == ["experiment", "teacher"]


def test_study_that_fails_a_check_leaves_its_name_free(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.trials = lambda _: pytest.fail("a trial was run")

    def refuse(*_: object) -> None:
        raise StudyError("refused")

    for check in ("check_objectives", "check_device", "_prepare_teacher"):
        with monkeypatch.context() as patched:
            patched.setattr(study_module, check, refuse)
            with pytest.raises(StudyError, match="refused"):
                place.run()
        assert not place.folder.path.exists(), check


def test_end_that_mlflow_lacks_is_written_on_resume(place: Place) -> None:
    place.trials = TuneDouble.finish_all
    place.run()
    # As if the process had been killed after the ledger was written.
    place.store.named("trial-001").tags["hkd.status"] = "running"
    place.run(is_resumed=True)
    assert place.status["trial-001"] == ("finished", "FINISHED")


def test_teacher_is_recorded_in_folder_and_mlflow(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = PreparedTeacher(Path("t.safetensors"), {"mr2_all": 0.25}, Cost(10, 100), TeacherConfig(), ())
    summary = LabelSummary(ScoreThresholds(0.75, 0.25, 0.9, 0.5, 0.4), 40, 100, 20, 3)
    labels = PseudoLabels(Path("labels.json"), without_boxes([], Path()), summary)
    monkeypatch.setattr(study_module, "_prepare_teacher", lambda *_: study_module.ReadyTeacher(teacher, labels))
    place.trials = TuneDouble.finish_all
    place.run()
    record = read_teacher(place.folder.teacher_file)
    assert record is not None
    assert record == teacher_record(teacher, labels)
    assert record.metrics["pseudo_labels_object_score"] == 0.75
    logged = {(name, value) for name, _, value in place.store.named("teacher").history}
    assert set(summary.as_metrics().items()) <= logged
    assert place.status["teacher"] == ("finished", "FINISHED")
    sections = {name.partition(".")[0] for name in place.store.named("teacher").params}
    assert sections <= {"teacher", "data"}
    assert "data" in sections


def test_trial_that_passes_the_teacher_is_warned_about_at_its_end(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = PreparedTeacher(Path("t"), {"mr2_reasonable": 0.6}, Cost(10, 100), TeacherConfig(), (), ("t: note",))
    monkeypatch.setattr(study_module, "_prepare_teacher", lambda *_: study_module.ReadyTeacher(teacher))
    base = place.study.base.model_copy(update={"teacher": TeacherConfig()})
    place.study = place.study.model_copy(update={"base": base})
    place.trials = TuneDouble.finish_all
    place.run()
    lines = place.out.getvalue().splitlines()
    # All three trials miss 50 %: the first one is warned about, and the summary counts the others.
    (end,) = (index for index, line in enumerate(lines) if line.strip().startswith("baseline-b finished"))
    (warning, summary) = (index for index, line in enumerate(lines) if "teacher holds students back" in line)
    assert warning == end + 1
    assert "2 more" in lines[summary]
    assert place.store.named("teacher").artifacts == {"weights_origin.txt": "t: note\n"}


def test_study_in_mlflow_has_no_password(place: Place) -> None:
    uri = "http://me:SECRET@host"
    place.study = place.study.model_copy(update={"tracking": TrackingConfig(uri=uri)})
    place.trials = TuneDouble.finish_all
    place.run()
    written = place.store.named("x").artifacts["study.yaml"]
    assert "http://***@host" in written
    assert "SECRET" not in written


def test_trial_that_lost_its_worker_is_finished_in_the_same_session(place: Place) -> None:
    def lose_first_worker(tune: TuneDouble) -> None:
        trial = tune.start_one()
        assert trial is not None
        trial.error_file = None  # type: ignore[misc]
        tune.recorder.on_trial_error(iteration=0, trials=[trial], trial=trial)
        tune.finish_all()

    place.trials = lose_first_worker
    assert place.run() == 0
    assert set(place.status.values()) == {("finished", "FINISHED")}


def test_study_resumes_with_largest_requested_number_of_trials(place: Place) -> None:
    place.trials = TuneDouble.start_one
    assert place.run(num_trials=1) == 1  # nothing finished
    place.trials = TuneDouble.finish_all
    assert place.run(is_resumed=True, num_trials=2) == 0
    assert place.run(is_resumed=True, num_trials=1) == 0
    assert "Resuming with 2 proposed trials, as requested before (search.num_trials is now 1)" in place.out.getvalue()
    assert "num_trials: 2" in place.folder.config_file.read_text(encoding="utf-8")
    assert sorted(place.status) == ["baseline-b", "trial-001", "trial-002", "x"]
    with pytest.raises(StudyError, match=r"is finished \(3 trials\).*--set search.num_trials=4"):
        place.run(num_trials=1)


def test_study_with_exhausted_space_is_finished(place: Place) -> None:
    place.trials = TuneDouble.finish_all
    # The space holds two trials.
    assert place.run(num_trials=50) == 0
    assert "1 baselines and 2 proposed by tpe" in place.out.getvalue()
    # Resuming it prepares neither data nor cluster.
    assert place.run(is_resumed=True, num_trials=50) == 0
    assert place.order == ["teacher"]
    with pytest.raises(StudyError, match=r"is finished \(3 trials\).*search space has no other configurations"):
        place.run(num_trials=50)


def test_study_started_by_another_process_before_lock_is_rejected(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = place.study.model_copy(update={"objectives": ("mr2_all", "flops")})
    locked = StudyFolder.locked

    def locked_after_other(folder: StudyFolder) -> AbstractContextManager[None]:
        folder.write_study(other)
        return locked(folder)

    monkeypatch.setattr(StudyFolder, "locked", locked_after_other)
    with pytest.raises(StudyError, match='a study named "x" exists'):
        place.run()
    assert place.order == []


def test_study_is_locked_while_it_is_checked(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def run_second(_: str) -> object:
        with pytest.raises(StudyError, match="another process"):
            place.run()
        return place.store.client()

    monkeypatch.setattr(mlflow_store, "connect", run_second)
    place.trials = TuneDouble.finish_all
    assert place.run() == 0


@pytest.mark.parametrize(
    "trials", [TuneDouble.finish_all, TuneDouble.start_one], ids=["nothing left", "interrupted trial left"]
)
def test_session_opens_journal_once(
    place: Place, monkeypatch: pytest.MonkeyPatch, trials: Callable[[TuneDouble], object]
) -> None:
    opened: list[str] = []

    class CountedBackend(JournalFileBackend):
        def __init__(self, path: str, *given: Any, **named: Any) -> None:
            opened.append(path)
            super().__init__(path, *given, **named)

    monkeypatch.setattr(ledger_module, "JournalFileBackend", CountedBackend)
    place.trials = trials
    place.run()
    assert opened == [str(place.folder.journal)]
    place.trials = TuneDouble.finish_all
    assert place.run(is_resumed=True) == 0
    assert opened == [str(place.folder.journal)] * 2


def test_writes_rejected_by_mlflow_are_printed_at_end(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def lacks_a_library(*_: Any) -> None:
        raise ModuleNotFoundError("No module named 'boto3'")

    monkeypatch.setattr(place.store, "log_text", lacks_a_library)
    place.trials = TuneDouble.finish_all
    assert place.run() == 0
    assert "rejected by MLflow: 1 (No module named 'boto3')" in place.out.getvalue()


def test_closing_table_shows_objectives_of_study(place: Place) -> None:
    place.study = place.study.model_copy(update={"objectives": ("mr2_all", "num_params")})
    place.trials = TuneDouble.finish_all
    assert place.run() == 0
    (heading,) = (line for line in place.out.getvalue().splitlines() if "parameters (M)" in line)
    assert [column.strip() for column in heading.split("  ") if column.strip()] == ["MR^-2 all (%)", "parameters (M)"]
    # All trials are equal: none dominates another.
    for trial_id in ("baseline-b", "trial-001", "trial-002"):
        assert re.search(rf"^ +{trial_id} +75\.0 +0\.00 *$", place.out.getvalue(), re.MULTILINE)


def test_worker_prepares_teacher_only_if_not_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = StudyConfig.model_validate({"name": "x", "storage_path": tmp_path, "base": tiny_trial(tmp_path / "cache")})
    data = prepare_data(study.base.data, progress=False)
    assert study.base.teacher is not None
    teacher = PreparedTeacher(tmp_path / "t.safetensors", {}, Cost(10, 100), study.base.teacher, ())
    on_worker: list[Path] = []

    def prepare_on_cluster(_: object, cache_dir: Path, *__: object, **___: object) -> Prepared:
        on_worker.append(cache_dir)
        return Prepared(teacher, None)

    monkeypatch.setattr(study_module, "prepare_on_cluster", prepare_on_cluster)
    cluster, resources = Cluster(None, 2, 0), TrialResources(1, 0, 1, 2)
    out = io.StringIO()
    display = Display(Console(file=out))

    def prepare() -> study_module.ReadyTeacher | None:
        return study_module._prepare_teacher(study, data, cluster, resources, display)

    assert prepare() == study_module.ReadyTeacher(teacher)
    assert on_worker == [tmp_path]
    assert out.getvalue().startswith("Teacher: training\n")
    out.truncate(0)
    cached = prepare_teacher(study.base, data, tmp_path)
    assert prepare() == study_module.ReadyTeacher(cached)
    assert on_worker == [tmp_path]
    assert "training" not in out.getvalue()


def test_worker_labels_unlabelled_images_only_if_labels_are_not_cached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = with_unlabelled_images(tiny_trial(tmp_path / "cache"), tmp_path / "footage")
    space = {"student.pyramid_channels": {"type": "int", "low": 8, "high": 32, "step": 8}}
    study = StudyConfig.model_validate({"name": "x", "storage_path": tmp_path, "base": raw, "space": space})
    data = prepare_data(study.base.data, progress=False)
    teacher = prepare_teacher(study.base, data, tmp_path)
    on_worker: list[Path] = []

    def prepare_on_cluster(config: TrialConfig, cache_dir: Path, *_: object, **__: object) -> Prepared:
        on_worker.append(cache_dir)
        labels = prepare_labels(config, data, teacher)
        assert labels is not None
        return Prepared(teacher, labels.path)

    monkeypatch.setattr(study_module, "prepare_on_cluster", prepare_on_cluster)
    out = io.StringIO()
    display = Display(Console(file=out, width=300))
    for _ in range(2):
        ready = study_module._prepare_teacher(study, data, Cluster(None, 2, 0), TrialResources(1, 0, 1, 2), display)
        assert ready is not None
        assert ready.labels is not None
        assert ready.labels.summary.num_images == 5
        assert f"Labels of unlabelled images: {ready.labels.summary}; {ready.labels.path}" in out.getvalue()
        assert "training" not in out.getvalue()
    assert on_worker == [tmp_path]
    assert ready is not None
    assert ready.labels is not None
    inputs = study_module._trial_inputs(study, Cluster(None, 2, 0), TrialResources(1, 0, 1, 2), ready, 8, display)
    assert inputs.labels_file == ready.labels.path
    # Eight labelled and five unlabelled images fill three batches of four.
    assert "2 epochs of 3 steps" in out.getvalue()
