"""The trials and settings with which Ray Tune runs; with a double of its Tuner."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from ray import tune
from ray.air.execution._internal.actor_manager import RayActorManager
from ray.tune.execution import class_cache
from ray.tune.search import Searcher

from hkd.training.pyramid_cache.capacity import CacheBudget
from sweeps.execution.tune.callback import Recorder
from sweeps.execution.tune.run import TrialInputs, keep_credentials_from_tune, run_trials
from sweeps.folder import StudyFolder
from sweeps.interruption import Interruption
from sweeps.settings.resources import TrialResources
from sweeps.settings.study import StudyConfig
from sweeps.trials.queue import TrialQueue
from sweeps.trials.records.ledger import open_ledger
from sweeps.trials.records.trial import LedgerTrial
from sweeps.trials.worker import SPEC, TrialSpec

RESOURCES = TrialResources(num_cpus=2.0, num_gpus=0.25, num_threads=3, max_concurrent=4)


class RecorderDouble:
    """Records the trials that are handed to Tune and counts those that have not ended."""

    def __init__(self) -> None:
        self.handed_over: list[LedgerTrial] = []
        self.num_running = 0

    def expect(self, trial: LedgerTrial) -> None:
        self.handed_over.append(trial)
        self.num_running += 1


class TunerDouble:
    """Starts every suggested trial, as Tune does where resources are free."""

    def __init__(self, recorder: RecorderDouble, tune_config: Any, run_config: Any) -> None:
        self.recorder, self.tune_config, self.run_config = recorder, tune_config, run_config
        self.specs: list[TrialSpec] = []
        self.handler: object = None
        """What Tune calls when a worker is lost."""

    def fit(self) -> None:
        self.handler = RayActorManager._actor_task_failed
        searcher = self.tune_config.search_alg
        while isinstance(suggested := searcher.suggest("its id"), dict):
            self.specs.append(suggested[SPEC])
        # Trials still run: their workers may be lost.
        assert suggested is None
        self.recorder.num_running = 0
        assert searcher.suggest("its id") == Searcher.FINISHED


def test_tune_runs_queue_with_checkpoints_and_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = {"name": "x", "storage_path": tmp_path, "base": {"teacher": None}, "baselines": {"b": {"training.seed": 7}}}
    space = {"training.seed": {"type": "categorical", "choices": [1, 2]}}
    study = StudyConfig.model_validate({**raw, "space": space, "search": {"num_trials": 1}})
    folder = StudyFolder(study)
    folder.path.mkdir()
    ledger = open_ledger(study, folder.journal)
    ledger.record_checkpoint(ledger.start_baseline("b", {"training.seed": 7}), Path("baseline-b/checkpoint_000002"), 3)
    recorder = RecorderDouble()
    tuners: list[TunerDouble] = []

    def make_tuner(trainable: Any, **given: Any) -> TunerDouble:
        assert trainable.default_resource_request({}).required_resources == {"CPU": 2.0, "GPU": 0.25}
        tuners.append(TunerDouble(recorder, **given))
        return tuners[-1]

    monkeypatch.setattr(tune, "Tuner", make_tuner)
    cache = CacheBudget(tmp_path / "pyramids", 10**9)
    inputs = TrialInputs(Path("teacher.safetensors"), cache, RESOURCES, Path("labels.json"))
    run_trials(study, folder, TrialQueue(study, ledger), cast("Recorder", recorder), inputs, Interruption())
    (tuner,) = tuners
    # Which also knows the loss of a worker for exhausted memory (exhausted_memory_loses_worker).
    assert tuner.handler is not RayActorManager._actor_task_failed
    resumed, proposed = tuner.specs
    assert (resumed.trial_id, resumed.folder_name) == ("baseline-b", "baseline-b-attempt-2")
    assert resumed.resume_from == folder.path / "baseline-b/checkpoint_000002"
    assert resumed.config.training.seed == 7
    assert (proposed.trial_id, proposed.folder_name, proposed.resume_from) == ("trial-001", "trial-001", None)
    assert [trial.trial_id for trial in recorder.handed_over] == ["baseline-b", "trial-001"]
    for spec in tuner.specs:
        assert (spec.teacher, spec.teacher_cache) == (Path("teacher.safetensors"), cache)
        assert spec.labels == Path("labels.json")
        tune_trial = SimpleNamespace(config={SPEC: spec})
        assert tuner.tune_config.trial_dirname_creator(tune_trial) == spec.folder_name
        assert (spec.worker.num_threads, spec.worker.has_gpu) == (3, True)
    assert (tuner.run_config.name, tuner.run_config.storage_path) == ("x", str(tmp_path))
    assert tuner.tune_config.max_concurrent_trials == 4
    # Every epoch can be resumed from. With num_to_keep, Tune would write its state after each.
    checkpoints = tuner.run_config.checkpoint_config
    assert (checkpoints.checkpoint_frequency, checkpoints.num_to_keep) == (1, None)
    assert float(os.environ["TUNE_GLOBAL_CHECKPOINT_S"]) > 1e8


def test_tune_copies_no_credentials_to_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SECURITY_TOKEN", "AWS_SESSION_TOKEN"}
    for name in names:
        monkeypatch.setenv(name, "hunter2")
    # Ray's own set, which a study before may have changed.
    monkeypatch.setattr(class_cache, "ENV_VARS_TO_PROPAGATE", names | class_cache.ENV_VARS_TO_PROPAGATE)

    def copied() -> dict[str, str]:
        cache: Any = class_cache
        actor_class = cache._ActorClassCache().get(type("Trainable", (), {}))
        return dict(actor_class._default_options["runtime_env"]["env_vars"])

    assert names <= copied().keys()
    keep_credentials_from_tune()
    assert "hunter2" not in copied().values()
