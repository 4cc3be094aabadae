"""Doubles of Ray Tune and of MLflow, and a tiny study that runs with them."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from ray.tune.experiment import Trial
from rich.console import Console

from sweeps import ready_teacher as teacher_module
from sweeps import session as session_module
from sweeps import study as study_module
from sweeps.execution.tune.callback import Recorder
from sweeps.folder import StudyFolder
from sweeps.settings.resources import Cluster
from sweeps.settings.search import SearchConfig
from sweeps.settings.space import trial_config
from sweeps.settings.study import StudyConfig
from sweeps.study import run_study
from sweeps.tracking import store as mlflow_store
from sweeps.tracking.origin import Origin
from sweeps.trials.queue import TrialQueue
from sweeps.trials.worker import METRICS, SPEC, TrialSpec, WorkerSettings
from tests.sweeps.mlflow_double import MlflowDouble, experiment
from tests.sweeps.tiny import tiny_trial

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
        self.lose_cluster: Callable[[str], None] = lambda _: pytest.fail("no cluster was joined")
        """What the watch calls before it ends the process."""
        base = {"name": "x", "storage_path": tmp_path / "runs", "baselines": {"b": {}}}
        space = {"training.seed": {"type": "categorical", "choices": [1, 2]}}
        trial = {**tiny_trial(tmp_path / "cache"), "teacher": None}
        self.study = StudyConfig.model_validate({**base, "base": trial, "space": space, "search": {"num_trials": 2}})
        self.folder = StudyFolder(self.study)

        @contextmanager
        def connected(_: object) -> Iterator[Cluster]:
            yield Cluster(None, 2, 0)

        def watch(address: str, words: str, on_lost: Callable[[str], None]) -> nullcontext[None]:
            self.lose_cluster = on_lost
            return nullcontext()

        def run_trials(
            study: StudyConfig, _: object, queue: TrialQueue, recorder: Recorder, *__: object, **___: object
        ) -> None:
            self.trials(TuneDouble(queue, recorder, study))

        empty = SimpleNamespace(images=())
        for name, stand_in in {
            "find_address": lambda: None,
            "connected": connected,
            "prepare_data": lambda _: SimpleNamespace(train_annotations=empty, validation_annotations=empty),
            "check_objectives": lambda *_: None,
            "origin_of": lambda *_: Origin(),
            "head_address": lambda: "127.0.0.1:1",
            "ClusterWatch": watch,
        }.items():
            monkeypatch.setattr(study_module, name, stand_in)
        monkeypatch.setattr(teacher_module, "prepare_teacher", lambda *_: self.order.append("teacher"))
        monkeypatch.setattr(session_module, "run_trials", run_trials)
        monkeypatch.setattr(mlflow_store, "connect", lambda _: self.store.client())

    def run(
        self,
        *,
        is_resumed: bool = False,
        time_budget_seconds: float | None = None,
        enqueued: Sequence[Mapping[str, object]] = (),
        **search: Any,
    ) -> int:
        study = self.study.model_copy(update={"search": SearchConfig(**{"num_trials": 2, **search})})
        console = Console(file=self.out, width=200)
        return run_study(
            study,
            is_resumed=is_resumed,
            console=console,
            resume_command="THE COMMAND",
            time_budget_seconds=time_budget_seconds,
            enqueued=enqueued,
        )

    @property
    def status(self) -> dict[str, tuple[str, str]]:
        return {run.name: (run.tags["hkd.status"], run.status) for run in self.store.runs.values()}
