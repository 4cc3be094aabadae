"""Studies whose trials train nothing: what remains is the cost of the driver."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from ray import tune
from ray.tune.experiment import Trial

from hkd import metric_names as names
from hkd.config import TrialConfig
from sweeps.execution.tune.callback import Recorder
from sweeps.settings.study import StudyConfig
from sweeps.trials.cost import student_cost
from sweeps.trials.queue import TrialQueue
from sweeps.trials.worker import METRICS, SPEC, TrialSpec, WorkerSettings

_LOSSES = tuple(f"loss_{index}" for index in range(12))
"""Beside the objectives, as many numbers per epoch as a distilled student reports."""


def trivial_study(uri: str, folder: Path, *, num_trials: int, epochs: int, sampler: str) -> StudyConfig:
    """A study over seven settings, four of them of the student's shape, without a teacher."""
    weights = {
        f"distillation.{stage}.weight": {"type": "float", "low": 0.1, "high": 10.0, "log": True}
        for stage in ("pyramid", "logits")
    }
    return StudyConfig.model_validate(
        {
            "name": "scale",
            "storage_path": folder / "runs",
            "tracking": {"uri": uri},
            "base": {"training": {"total_epochs": epochs}, "data": {"cache_dir": str(folder / "cache")}},
            "space": {
                "student.backbone": {"type": "categorical", "choices": ["resnet18", "resnet34"]},
                "student.width_multiplier": {"type": "float", "low": 0.125, "high": 1.0},
                "student.pyramid_channels": {"type": "int", "low": 16, "high": 256, "step": 8},
                "student.head_channels": {"type": "int", "low": 64, "high": 1024, "step": 32},
                "training.learning_rate": {"type": "float", "low": 1e-4, "high": 1e-1, "log": True},
                **weights,
            },
            "search": {"num_trials": num_trials, "sampler": sampler},
            "resources": {"cpus_per_trial": 1},
            "baselines": {"default-weights": {}},
        }
    )


def trivial_metrics(config: TrialConfig, epoch: int) -> dict[str, float]:
    """What a student reports of an epoch: its costs, and a miss rate that falls with its size and has noise.

    Without noise, and without a setting that has a best value, each trial would be on the front.
    """
    cost = student_cost(config).as_metrics()
    total = config.training.total_epochs
    rate = 0.9 - 0.03 * math.log(cost[names.NUM_PARAMS]) + 0.1 * (1 - epoch / total)
    rate += 0.01 * math.log10(config.training.learning_rate / 1e-2) ** 2
    rate += 0.02 * zlib.crc32(config.model_dump_json().encode()) / 2**32
    metrics = {"mr2_reasonable": rate, names.EPOCH: epoch, names.BUDGET_FRACTION: epoch / total, **cost}
    return metrics | dict.fromkeys(_LOSSES, 1.0 / epoch)


class TrivialTrial(tune.Trainable):
    """Reports numbers and writes an empty checkpoint."""

    def setup(self, config: dict[str, Any]) -> None:
        """Called by Tune when the worker starts."""
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Called by Tune when the worker is reused."""
        spec: TrialSpec = new_config[SPEC]
        self._trained, self._config = 0, spec.config
        return True

    def step(self) -> dict[str, Any]:
        """Called by Tune for each epoch."""
        self._trained += 1
        is_done = self._trained >= self._config.training.total_epochs
        return {METRICS: trivial_metrics(self._config, self._trained), "done": is_done}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Called by Tune after each epoch."""
        (Path(checkpoint_dir) / "metrics.json").write_text("{}", encoding="utf-8")


class SimulatedTune:
    """Calls queue and recorder as Ray Tune does, for ``num_workers`` trials at a time, without Ray's processes."""

    def __init__(self, queue: TrialQueue, recorder: Recorder, folder: Path, num_workers: int) -> None:
        self._queue, self._recorder, self._folder, self._num_workers = queue, recorder, folder, num_workers

    def run(self, base: TrialConfig, trial_config: Any) -> None:
        """Run the queue until it is empty."""
        workers: list[Iterator[None]] = []
        while workers or not self._queue.is_empty:
            while len(workers) < self._num_workers and (known := self._queue.next()) is not None:
                self._recorder.expect(known)
                workers.append(self._trial(known.trial_id, trial_config(base, known.params)))
            workers = [worker for worker in workers if next(worker, self) is not self]
            self._recorder.on_step_end(0, [])

    def _trial(self, trial_id: str, config: TrialConfig) -> Iterator[None]:
        spec = TrialSpec(trial_id, config, None, None, trial_id, WorkerSettings(1, False, Path()))
        trial = cast("Trial", SimpleNamespace(config={SPEC: spec}))
        self._recorder.on_trial_start(0, [], trial)
        for epoch in range(1, config.training.total_epochs + 1):
            self._recorder.on_trial_result(0, [], trial, {METRICS: trivial_metrics(config, epoch)})
            checkpoint = self._folder / trial_id / f"checkpoint_{epoch:06d}"
            checkpoint.mkdir(parents=True)
            (checkpoint / "metrics.json").write_text("{}", encoding="utf-8")
            self._recorder.on_checkpoint(0, [], trial, cast("Any", SimpleNamespace(path=str(checkpoint))))
            yield
        self._recorder.on_trial_complete(0, [], trial)
