"""One training of the benchmark: run in a worker process, resumable, with a result file at its end.

Laid out as::

    <out>/teachers/<name>-<key>.safetensors   weights of a teacher that is trained here
    <out>/trainings/<condition>-<key>.json    result of a finished training, or of a teacher's evaluation
    <out>/running/<condition>-<key>/          state of an unfinished one
    <out>/locks/                              each held by the process that trains
    <out>/pyramids/                           cache of the teachers' pyramids, removed at the end
    <out>/cache/                              decoded images
"""

from __future__ import annotations

import functools
import math
import shutil
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any, Literal

import torch
from filelock import FileLock, Timeout

from benchmarks.distillation_gain.conditions import trial_config
from benchmarks.distillation_gain.results import Result
from benchmarks.workers import end_with_parent
from hkd import files
from hkd.coco.annotations import Annotations
from hkd.coco.detections import DetectedBoxes
from hkd.config import DataConfig, TrialConfig
from hkd.config_files.parsing import config_hash
from hkd.data.prepare import PreparedData, prepare_data
from hkd.evaluation.bootstrap import resample_miss_rates
from hkd.evaluation.formats.protocol_files import load_protocol
from hkd.evaluation.matching import match
from hkd.inference.store_detection import detect_validation, evaluate_detections
from hkd.metric_names import MR2_PREFIX, MR2_REASONABLE, SECONDS
from hkd.models.cost import config_cost, detector_cost
from hkd.models.weight_formats.errors import CheckpointError
from hkd.runtime.device import autocast_dtype, resolve_device
from hkd.runtime.process import configure_process
from hkd.training.fit import fit, read_log, resume
from hkd.training.progress import TrainingProgress
from hkd.training.pyramid_cache.capacity import CacheBudget
from hkd.training.teacher.prepare import PreparedTeacher, load_teacher
from hkd.training.teacher.pseudo_labels import prepare_labels
from hkd.training.trainer import IMAGES_PER_SECOND, Trainer

RECIPE = 2
"""Part of the key of every result: increment it when a change of hkd makes finished results stale."""
THREADS = 1
"""Of each training."""

Outcome = Literal["finished", "locked", "stopped"]


@dataclass(frozen=True)
class Training:
    """What a worker needs to train, or to evaluate a teacher."""

    name: str
    """Of its files."""
    condition: Mapping[str, Any]
    settings: Mapping[str, Any]
    """All that determine the result, by dotted name."""
    places: Mapping[str, Any]
    """Settings that do not: files, threads, and when to evaluate."""
    out: Path
    teacher_weights: Path | None = None
    """Of the teacher that it uses; of an evaluation of a teacher, the file to evaluate."""
    exported_weights: Path | None = None
    """Where a teacher's training writes its weights."""
    is_evaluation: bool = False
    pyramid_bytes: int = 0
    """Capacity of the cache of the teacher's pyramids; 0: none."""

    @property
    def result_path(self) -> Path:
        """The file that marks it as finished."""
        return self.out / "trainings" / f"{self.name}.json"

    @property
    def is_finished(self) -> bool:
        """Whether its result is present; of a teacher's training, its weights."""
        return (self.exported_weights or self.result_path).is_file()

    def config(self) -> TrialConfig:
        """Its configuration."""
        return trial_config({**self.settings, **self.places}, source=self.name)


def training_name(condition: str, settings: Mapping[str, Any], *contents: str | None) -> str:
    """Readable name with a key of what determines the result: the settings stated, and the content of data and teacher.

    Not of hkd's defaults, so that a new setting with a default does not invalidate results.
    """
    return f"{condition}-{config_hash(RECIPE, settings, contents)[:8]}"


@functools.cache
def file_hash(path: Path) -> str:
    """32 hexadecimal digits of a file's SHA-256."""
    return files.file_hash(path)[:32]


class StoppedError(Exception):
    """The training was asked to stop; its state after the last epoch is kept."""


_stop: list[Event] = []
"""The event of :func:`initialize_worker`, in a worker."""


def initialize_worker(stop: Event) -> None:
    """Prepare a worker process: the parent handles signals, and sets ``stop``."""
    _stop.append(stop)
    end_with_parent()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def run(training: Training) -> Outcome:
    """Run a training to its end, resuming an interrupted one.

    Returns:
        ``finished``, also if it was before; ``locked`` if another process runs it; ``stopped`` on request.

    Raises:
        ValueError: the training diverged, or its data or teacher cannot be used.
    """
    lock = FileLock(training.out / "locks" / f"{training.name}.lock", timeout=0)
    lock_folder = Path(lock.lock_file).parent
    lock_folder.mkdir(parents=True, exist_ok=True)
    try:
        lock.acquire()
    except Timeout:
        return "locked"
    try:
        if not training.is_finished:
            config = training.config()
            device = resolve_device(config.training.device)
            configure_process(device, config.training.num_threads)
            data = _prepared(config.data)
            if training.is_evaluation:
                _evaluate_teacher(training, config, data, device)
            else:
                _train(training, config, data, device)
    except StoppedError:
        return "stopped"
    finally:
        lock.release()
    return "finished"


def _train(training: Training, config: TrialConfig, data: PreparedData, device: torch.device) -> None:
    folder = training.out / "running" / training.name
    teacher = None
    if training.teacher_weights is not None:
        assert config.teacher is not None
        teacher = load_teacher(training.teacher_weights, config.teacher)
    budget = CacheBudget(training.out / "pyramids", training.pyramid_bytes) if training.pyramid_bytes else None
    build = partial(
        Trainer,
        config,
        data,
        teacher,
        device=device,
        teacher_cache=budget,
        pseudo_labels=_pseudo_labels(training, config, data),
    )
    trainer = build()
    try:
        resume(trainer, folder)
    except CheckpointError as error:
        print(f"{training.name}: starts again: {error}", file=sys.stderr, flush=True)
        trainer.close()
        shutil.rmtree(folder)
        trainer = build()
    last_step = time.perf_counter()

    def on_step(_: TrainingProgress) -> None:
        nonlocal last_step
        last_step = time.perf_counter()
        _stop_if_asked()

    try:
        *_, last = fit(trainer, folder, title=training.name, progress=on_step)
    finally:
        trainer.close()
    assert last.evaluation is not None, "the last epoch is evaluated"
    epochs = read_log(folder)
    trained_images = sum(epoch[IMAGES_PER_SECOND] * epoch[SECONDS] for epoch in epochs)
    resampled = _resampled(last.evaluation.detections, data, config)
    result = Result(
        condition=dict(training.condition),
        settings=dict(training.settings),
        metrics=last.metrics,
        resampled_mr2_reasonable=resampled,
        num_params=trainer.cost.num_params,
        flops=trainer.cost.flops,
        trained_steps=round(trained_images / config.training.batch_size),
        seconds=sum(epoch[SECONDS] for epoch in epochs),
        evaluation_seconds=time.perf_counter() - last_step,
        last_epoch={name: value for name, value in epochs[-1].items() if name not in last.metrics},
    )
    result.write(training.result_path)
    if training.exported_weights is not None:
        trainer.export_student(training.exported_weights, last.metrics)
    shutil.rmtree(folder)


def _pseudo_labels(training: Training, config: TrialConfig, data: PreparedData) -> Annotations | None:
    """The teacher's labels of the unlabelled images, which are stored beside its weights; None without such images."""
    if data.unlabelled is None:
        return None
    assert training.teacher_weights is not None
    assert config.teacher is not None
    cost = config_cost(config.teacher, config.data.image_height, config.data.image_width)
    teacher = PreparedTeacher(training.teacher_weights, metrics={}, cost=cost, config=config.teacher, epochs=())
    labels = prepare_labels(config, data, teacher, lambda _: _stop_if_asked())
    assert labels is not None, "there are unlabelled images"
    return labels.annotations


def _evaluate_teacher(training: Training, config: TrialConfig, data: PreparedData, device: torch.device) -> None:
    assert training.teacher_weights is not None
    assert config.teacher is not None
    started = time.perf_counter()
    detector = load_teacher(training.teacher_weights, config.teacher, device)
    dtype = autocast_dtype(config.training.precision, device)
    detections = detect_validation(detector, data, config.evaluation, device=device, autocast_dtype=dtype)
    cost = detector_cost(detector, config.data.image_height, config.data.image_width)
    metrics = evaluate_detections(detections, data, config.evaluation).as_metrics()
    resampled = _resampled(detections, data, config)
    result = Result(
        condition=dict(training.condition),
        settings=dict(training.settings),
        metrics=metrics,
        resampled_mr2_reasonable=resampled,
        num_params=cost.num_params,
        flops=cost.flops,
        trained_steps=0,
        seconds=0.0,
        evaluation_seconds=time.perf_counter() - started,
    )
    result.write(training.result_path)


def _resampled(detections: DetectedBoxes, data: PreparedData, config: TrialConfig) -> list[float | None]:
    """MR^-2 reasonable on the resamples, in six digits."""
    protocol = load_protocol(config.evaluation.protocol)
    matches = match(data.validation_annotations.ground_truth(), detections, protocol)
    miss_rates = resample_miss_rates(matches, protocol)
    subset = MR2_REASONABLE.removeprefix(MR2_PREFIX)
    values = miss_rates.resampled[miss_rates.subsets.index(subset)].tolist()
    return [None if math.isnan(value) else round(value, 6) for value in values]


@functools.lru_cache(maxsize=2)
def _prepared(config: DataConfig) -> PreparedData:
    return prepare_data(config, progress=False)


def _stop_if_asked() -> None:
    if any(event.is_set() for event in _stop):
        raise StoppedError
