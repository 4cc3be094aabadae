"""A study with early stopping in Ray Tune; its trials report scripted miss rates."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hkd import metric_names as names
from hkd.dominance import non_dominated
from sweeps.console.display import TrialBoard
from sweeps.console.messages import print_results
from sweeps.execution.cluster.connection import connected
from sweeps.execution.tune.callback import Recorder
from sweeps.execution.tune.early_stopping import StudyStopping
from sweeps.execution.tune.run import TrialInputs, run_trials
from sweeps.folder import StudyFolder
from sweeps.interruption import Interruption
from sweeps.settings.resources import TrialResources
from sweeps.settings.study import StudyConfig
from sweeps.tracking.tracker import Tracker
from sweeps.trials.cost import student_cost
from sweeps.trials.queue import TrialQueue
from sweeps.trials.records.ledger import open_ledger
from sweeps.trials.worker import METRICS, DistillationTrial, TrialSpec
from tests.sweeps.console.test_display import plain_display
from tests.sweeps.mlflow_double import MlflowDouble
from tests.sweeps.tiny import tiny_trial

EPOCHS = 4


def miss_rate(channels: int, learning_rate: float, epoch: int) -> float:
    """Falls with the student's size, rises with the distance from the best learning rate, falls with the epoch."""
    return 0.9 - 0.01 * channels + 0.1 * (math.log10(learning_rate) + 3) ** 2 - 0.02 * epoch


class ScriptedTrial(DistillationTrial):
    """Reports a miss rate after each epoch without training."""

    def _start(self, spec: TrialSpec) -> None:
        self._spec, self._epoch = spec, 0

    def step(self) -> Mapping[str, Any]:  # type: ignore[override]
        config = self._spec.config
        self._epoch += 1
        value = miss_rate(config.student.pyramid_channels, config.training.learning_rate, self._epoch)
        metrics = {names.EPOCH: self._epoch, names.BUDGET_FRACTION: self._epoch / EPOCHS, names.MR2_REASONABLE: value}
        is_done = self._epoch == EPOCHS
        return {METRICS: metrics | (student_cost(config).as_metrics() if is_done else {}), "done": is_done}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        (Path(checkpoint_dir) / names.ARTIFACT_METRICS).write_text("{}", encoding="utf-8")


def test_dominated_trials_are_stopped_and_the_front_is_not(tmp_path: Path) -> None:
    study = StudyConfig.model_validate(
        {
            "name": "x",
            "storage_path": tmp_path / "runs",
            "base": {**tiny_trial(tmp_path / "cache", total_epochs=EPOCHS), "teacher": None},
            "baselines": {"bad": {"training.learning_rate": 0.5}},
            "space": {
                "student.pyramid_channels": {"type": "int", "low": 8, "high": 32, "step": 8},
                "training.learning_rate": {"type": "float", "low": 1e-4, "high": 1e-2, "log": True},
            },
            "search": {"num_trials": 24, "sampler": "random"},
            "scheduler": {"type": "front", "first_rung": 1, "reduction_factor": 2},
        }
    )
    folder = StudyFolder(study)
    folder.path.mkdir(parents=True)
    ledger = open_ledger(study, folder.journal)
    store = MlflowDouble()
    tracker = Tracker(store.client(), "http://host", "x", None)
    tracker.start_study({}, {}, "")
    display, out = plain_display()
    queue = TrialQueue(study, ledger, lambda _: None)
    stopping = StudyStopping(study, ledger)
    board = TrialBoard(display, objectives=study.objectives, total=25, ended=[], epochs_per_trial=EPOCHS)
    recorder = Recorder(
        folder,
        study.objectives,
        ledger,
        tracker,
        board,
        put_back=queue.put_back,
        is_interrupted=lambda: False,
        stopping=stopping,
    )
    inputs = TrialInputs(None, None, TrialResources(num_cpus=1.0, num_gpus=0.0, num_threads=1, max_concurrent=1))
    with connected(None):
        run_trials(study, folder, queue, recorder, inputs, Interruption(), ScriptedTrial, stopping)

    trials = ledger.trials()
    assert len(trials) == 25
    assert {trial.status for trial in trials} == {"finished", "stopped"}
    stopped = {trial.trial_id for trial in trials if trial.status == "stopped"}
    assert len(stopped) >= 2
    # The baseline has the highest miss rate of all, and its student is no smaller than others.
    assert trials[0].status == "finished"
    # Without noise the order at the end is that at the rungs. Both ends of the front are on it.
    points = np.array(
        [
            [
                miss_rate(trial.params["student.pyramid_channels"], trial.params["training.learning_rate"], EPOCHS),
                trial.params["student.pyramid_channels"],
            ]
            for trial in trials[1:]
        ]
    )
    on_front = {trial.trial_id for trial, keep in zip(trials[1:], non_dominated(points), strict=True) if keep}
    assert len(on_front) >= 2
    assert not on_front & stopped
    for trial in trials[1:]:
        run = store.named(trial.trial_id)
        assert run.tags["hkd.status"] == trial.status
        if trial.trial_id in stopped:
            better = [other for other in trials if other.trial_id in trial.dominators]
            assert len(better) >= 2
            assert all(
                other.params["student.pyramid_channels"] <= trial.params["student.pyramid_channels"] for other in better
            )
            assert run.tags["hkd.stopped_because_of"] == ", ".join(trial.dominators)
            assert run.steps_of(names.MR2_REASONABLE) == list(range(1, int(trial.metrics[names.EPOCH]) + 1))
            assert names.FLOPS in trial.metrics
            assert trial.checkpoint is not None
            assert (folder.path / trial.checkpoint).is_dir()
    # TPE has no values of the stopped ones.
    assert ledger.running() == []
    print_results(study, folder, ledger, tracker, display, None)
    trained = sum(int(trial.metrics[names.EPOCH]) for trial in trials)
    printed = out.getvalue()
    assert f"{100 - trained:,} of 100: {len(stopped)} trials were stopped, " in printed
    assert "stopped after 1 of 4 epochs" in printed
