"""One trial as Ray Tune runs it: a worker process that trains one student after another.

Workers are reused: images and teacher stay in memory from one trial to the next.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from ray import tune

from hkd import metric_names as names
from hkd.config import DataConfig, TeacherConfig, TrialConfig
from hkd.config_yaml import dump_yaml
from hkd.data.prepare import PreparedData, prepare_data
from hkd.evaluation.evaluator import EvaluationResult
from hkd.files import write_json
from hkd.models.detector import Detector
from hkd.runtime.allocator import release_memory
from hkd.runtime.device import resolve_device
from hkd.runtime.process import configure_process
from hkd.runtime.usage import UsageMeter
from hkd.training.loop import Trainer
from hkd.training.pyramid_cache.capacity import CacheRoom
from hkd.training.teacher import load_teacher

SPEC = "spec"
"""Key of the :class:`TrialSpec` in Tune's config."""
METRICS = "metrics"
"""Key of our metrics in Tune's results, apart from what Tune adds to them."""

STATE_FILE = "training_state.pt"


@dataclass(frozen=True)
class WorkPlace:
    """Where and with what a worker computes."""

    num_threads: int
    has_gpu: bool
    working_directory: Path
    """The driver's: relative paths of the configuration start here, wherever the worker was started."""

    def enter(self) -> None:
        """Set up this process; to be called before it computes anything."""
        os.chdir(self.working_directory)
        if not self.has_gpu:
            # Ray hides GPUs from a worker that was given some of them, but shows all to one that was given none.
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        torch.set_num_threads(self.num_threads)


@dataclass(frozen=True)
class TrialSpec:
    """What a worker needs to know to run one trial."""

    trial_id: str
    config: TrialConfig
    teacher: Path | None
    """Weights of the study's teacher; None where the trial is trained alone."""
    resume_from: Path | None
    """Checkpoint of an interrupted attempt."""
    folder_name: str
    """Of this attempt, below the study's."""
    place: WorkPlace
    teacher_cache: CacheRoom | None = None
    """Where the worker's node keeps the teacher's pyramids for its trials."""

    def __str__(self) -> str:
        return self.trial_id


class DistillationTrial(tune.Trainable):
    """Trains one student; an iteration is an epoch with its evaluation, where one is due."""

    _trainer: Trainer | None = None
    _failure: Exception | None
    _metrics: dict[str, float]
    """All that was measured so far, last values."""
    _evaluation: EvaluationResult | None

    def setup(self, config: dict[str, Any]) -> None:
        """Called by Tune when the worker starts."""
        self._begin(config[SPEC])

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Called by Tune when the worker takes over its next trial."""
        self._begin(new_config[SPEC])
        return True

    def step(self) -> dict[str, Any]:
        """Train one epoch."""
        if self._failure is not None:
            raise self._failure
        trainer = self._trainer
        assert trainer is not None
        measured: dict[str, float] = {}
        with UsageMeter(trainer.device) as meter:
            # A trial that was cut off between its last checkpoint and the news of it has nothing left to train.
            if is_trained := trainer.epoch < trainer.total_epochs:
                measured = trainer.train_epoch()
            if trainer.is_evaluation_due:
                self._evaluation = trainer.evaluate()
                measured |= self._evaluation.as_metrics()
        if is_trained:
            usage = meter.read()
            earlier = self._metrics.get(names.PEAK_MEMORY_BYTES, 0.0)
            measured |= {**usage, names.PEAK_MEMORY_BYTES: max(usage[names.PEAK_MEMORY_BYTES], earlier)}
        self._metrics = {
            **self._metrics,
            **measured,
            names.EPOCH: trainer.epoch,
            names.BUDGET_FRACTION: trainer.epoch / trainer.total_epochs,
            names.NUM_PARAMS: trainer.cost.num_params,
            names.FLOPS: trainer.cost.flops,
            names.GMACS: trainer.cost.gmacs,
        }
        reported = {key: self._metrics[key] for key in (*measured, names.EPOCH, names.BUDGET_FRACTION)}
        is_done = trainer.epoch >= trainer.total_epochs
        return {METRICS: self._metrics if is_done else reported, "done": is_done}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write the training's state, and the artifacts as they are now."""
        folder, trainer = Path(checkpoint_dir), self._trainer
        assert trainer is not None
        trainer.save(folder / STATE_FILE)
        (folder / "config.yaml").write_text(dump_yaml(trainer.config), encoding="utf-8")
        trainer.export_student(folder / "student.safetensors", self._metrics)
        write_json(folder / "metrics.json", self._metrics)
        if self._evaluation is not None:
            write_json(folder / "miss_rate_curve.json", self._evaluation.curves())

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Go on from a checkpoint, named by its folder."""
        folder = Path(checkpoint)
        assert self._trainer is not None
        self._trainer.load(folder / STATE_FILE)
        self._metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))

    def cleanup(self) -> None:
        """Called by Tune when the worker ends."""
        self._end()

    def _end(self) -> None:
        """Let go of the trial; its trainer lives on where something, such as an error's traceback, refers to it."""
        if self._trainer is not None:
            self._trainer.close()
            self._trainer = None

    def _begin(self, spec: TrialSpec) -> None:
        self._end()
        self._failure = None
        self._metrics, self._evaluation = {}, None
        try:
            spec.place.enter()
            # What the former trial held, which the next may need on a shared GPU.
            device = resolve_device(spec.config.training.device)
            release_memory(device)
            configure_process(device, spec.config.training.num_threads)
            self._trainer = build_trainer(spec.config, spec.teacher, spec.teacher_cache)
            if spec.resume_from is not None:
                self.load_checkpoint(spec.resume_from)
        # Told at the first step instead: in ray 2.60 a trial whose reset raises stays in the controller's books as
        # one that is about to start, and the study waits for it.
        except Exception as error:  # noqa: BLE001 (raised again in step)
            self._failure = error


def build_trainer(config: TrialConfig, teacher_file: Path | None, teacher_cache: CacheRoom | None = None) -> Trainer:
    """A trial's trainer, on the data and the teacher that this process keeps.

    Args:
        teacher_file: Weights of the study's teacher; None where it has none.
        teacher_cache: Where the teacher's pyramids are kept for all trials; None keeps none.
    """
    device = resolve_device(config.training.device)
    # What the trial changes of the data, its augmentation, is read from its own configuration.
    data = _data(config.data.model_copy(update={"augmentation": DataConfig().augmentation}))
    teacher = None
    if teacher_file is not None and config.teacher is not None and config.is_distilled:
        teacher = _teacher(teacher_file, config.teacher, device)
    return Trainer(config, data, teacher, device=device, teacher_cache=teacher_cache)


# A worker serves one study, whose trials share their data and teacher: one of each is kept.
@lru_cache(maxsize=1)
def _data(config: DataConfig) -> PreparedData:
    return prepare_data(config, progress=False)


@lru_cache(maxsize=1)
def _teacher(path: Path, config: TeacherConfig, device: torch.device) -> Detector:
    return load_teacher(path, config, device)


def plain_metrics(result: Mapping[str, Any]) -> dict[str, float]:
    """Our metrics out of one of Tune's results."""
    return {name: float(value) for name, value in result.get(METRICS, {}).items()}
