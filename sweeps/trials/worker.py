"""A trial as Ray Tune runs it, in a worker process.

Workers are reused: images and teacher stay in memory from one trial to the next.
"""

from __future__ import annotations

import gc
import os
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from ray import tune
from ray.train._internal.session import _TrainingResult

from hkd import metric_names as names
from hkd.buckets import patiently
from hkd.coco.annotations import Annotations
from hkd.coco.images import ImageRecord
from hkd.config import DataConfig, TeacherConfig, TrialConfig
from hkd.config_files.yaml_format import dump_yaml
from hkd.data.locations import images_folder
from hkd.data.prepare import PreparedData, prepare_data
from hkd.data.test_images import PreparedTestImages, open_test_images
from hkd.files import write_atomically, write_json, write_lines
from hkd.models.detector import Detector
from hkd.models.weight_formats.errors import CheckpointError
from hkd.runtime.allocator import release_memory
from hkd.runtime.device import autocast_dtype, resolve_device
from hkd.runtime.process import configure_process
from hkd.training.fit import STATE_FILE, EpochResult, Evaluation, fit
from hkd.training.fused_teacher import FusedTeacher
from hkd.training.pyramid_cache.capacity import CacheBudget
from hkd.training.state import read_training_record
from hkd.training.teacher.prepare import load_teacher
from hkd.training.teacher.pseudo_labels import read_labels
from hkd.training.trainer import Trainer
from sweeps.folder import StudyError
from sweeps.storage.objects import ObjectStorage, scratch_folder
from sweeps.trials.error_notes import DISK_FULL_NOTE, exceptions_noted, is_disk_full
from sweeps.trials.node_files import SharedFiles, check_this_node
from sweeps.trials.shared_folder import check_seen, wait_until_seen

SPEC = "spec"
"""Key of the :class:`TrialSpec` in Tune's config."""
METRICS = "metrics"
"""Key of our metrics in Tune's results, which hold Tune's own beside it."""
NOTE = "note"
"""Key of a sentence for the console in Tune's results."""


@dataclass(frozen=True)
class WorkerSettings:
    """Settings of a worker process."""

    num_threads: int
    has_gpu: bool
    working_directory: Path
    """The driver's, to which relative paths of the configuration refer."""
    storage: ObjectStorage | None = None
    """The object storage of the study; None for a folder that all nodes share."""
    shared: SharedFiles | None = None
    """What the node must see as the driver does; None on a cluster of one machine."""

    def apply(self) -> None:
        """Set up this process. Call it before the first computation.

        Raises:
            StudyError: the node does not see the files of the study.
        """
        if self.shared is not None:
            check_this_node(self.shared)
        try:
            os.chdir(self.working_directory)
        except OSError as error:
            raise StudyError(
                f"node {socket.gethostname()} has no folder {self.working_directory} ({error.strerror}), in which the "
                "study was started; create it there, or start studies in a folder that all nodes share"
            ) from error
        if not self.has_gpu:
            # Ray does not hide the GPUs from a worker that reserves no GPU.
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        torch.set_num_threads(self.num_threads)

    def fetched(self, path: Path | None) -> Path | None:
        """A file of the study's storage that this node can read: fetched unless it has a copy."""
        storage = self.storage
        if path is None or storage is None or not storage.holds(path):
            return path
        return patiently(lambda: storage.fetch(path))


@dataclass(frozen=True)
class TrialSpec:
    """The input of a worker for one trial."""

    trial_id: str
    config: TrialConfig
    teacher: Path | None
    """Weights of the study's teacher; None without one."""
    resume_from: Path | None
    """Checkpoint of an interrupted attempt."""
    folder_name: str
    """Of this attempt, in the study's folder."""
    worker: WorkerSettings
    teacher_cache: CacheBudget | None = None
    """Cache of the teacher's pyramids on the worker's node; None caches nothing."""
    labels: Path | None = None
    """The teacher's labels of the unlabelled images; None without any."""
    is_tested: bool = False
    """Whether to evaluate the trained student on the test images: confirmations only."""
    resume_otherwise_from: Path | None = None
    """The checkpoint before it, used if that one cannot be read."""
    rungs: tuple[int, ...] = ()
    """Epochs after which to evaluate beside those of the schedule."""
    costs: Mapping[str, float] = field(default_factory=dict)
    """Of the student by metric name, beside those that its trainer computes: the latency."""
    uploads_to: Path | None = None
    """Path that the attempt's folder in object storage has on the driver's machine; None for a shared folder, to which
    Tune writes."""
    shared_file: Path | None = None
    """A file of the study in the shared folder, which this node must see; None in object storage."""

    def __str__(self) -> str:
        return self.trial_id


class DistillationTrial(tune.Trainable):
    """Trains one student; an iteration is an epoch, with an evaluation where one is due."""

    _trainer: Trainer | None = None
    _epochs: Iterator[EpochResult] = iter(())
    _failure: Exception | None
    _metrics: dict[str, float]
    """The last value of everything measured so far."""
    _evaluation: Evaluation | None
    _is_tested = False
    _costs: Mapping[str, float] = {}
    _note: str | None
    """Reported with the next epoch."""
    _uploads: tuple[Path, ObjectStorage] | None = None
    """The attempt's folder in object storage, as a path on the driver's machine; None for a shared folder."""

    _shared_file: Path | None = None

    def setup(self, config: dict[str, Any]) -> None:
        """Called by Tune when the worker starts."""
        self._start(config[SPEC])

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Called by Tune when the worker is reused for its next trial."""
        self._start(new_config[SPEC])
        return True

    def train(self) -> dict[str, Any]:
        """Called by Tune for each epoch."""
        with exceptions_noted():
            result: dict[str, Any] = super().train()  # type: ignore[no-untyped-call]
            return result

    def save(self, checkpoint_dir: str | None = None) -> Any:
        """Called by Tune after each epoch."""
        with exceptions_noted():
            try:
                if self._uploads is not None:
                    return self._uploaded_checkpoint(*self._uploads)
                if self._shared_file is not None:
                    wait_until_seen(self._shared_file)
                return super().save(checkpoint_dir)
            except (OSError, RuntimeError) as error:
                if self._shared_file is not None:
                    check_seen(self._shared_file)
                if is_disk_full(error):
                    error.add_note(DISK_FULL_NOTE)
                raise

    def _uploaded_checkpoint(self, attempt: Path, storage: ObjectStorage) -> _TrainingResult:
        """Write a checkpoint to object storage; what Tune's own method returns.

        Tune would fail the trial if the storage is away for a few seconds.
        """
        assert self._trainer is not None
        path = attempt / f"checkpoint_{self._trainer.epoch:06d}"
        with scratch_folder() as folder:
            self.save_checkpoint(folder)
            patiently(lambda: storage.upload(path, Path(folder)))
        return _TrainingResult(tune.Checkpoint.from_directory(str(path)), getattr(self, "_last_result", None) or {})

    def step(self) -> dict[str, Any]:
        """Train one epoch."""
        if self._failure is not None:
            raise self._failure
        trainer = self._trainer
        assert trainer is not None
        result = next(self._epochs)
        measured = result.measured
        if names.PEAK_MEMORY_BYTES in measured:
            earlier = self._metrics.get(names.PEAK_MEMORY_BYTES, 0.0)
            measured[names.PEAK_MEMORY_BYTES] = max(measured[names.PEAK_MEMORY_BYTES], earlier)
        if result.evaluation is not None:
            self._evaluation = result.evaluation
        self._metrics = {
            **self._metrics,
            **measured,
            names.EPOCH: trainer.epoch,
            names.BUDGET_FRACTION: trainer.epoch / trainer.total_epochs,
            **trainer.cost.as_metrics(),
            **self._costs,
        }
        reported = {key: self._metrics[key] for key in (*measured, names.EPOCH, names.BUDGET_FRACTION)}
        is_done = trainer.epoch >= trainer.total_epochs
        if is_done and self._is_tested:
            self._metrics |= evaluate_on_test_images(trainer)
        note, self._note = self._note, None
        return {METRICS: self._metrics if is_done else reported, "done": is_done, NOTE: note}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write the training's state and the current artifacts."""
        folder, trainer = Path(checkpoint_dir), self._trainer
        assert trainer is not None
        trainer.save(folder / STATE_FILE)
        (folder / names.ARTIFACT_CONFIG).write_text(dump_yaml(trainer.config), encoding="utf-8")
        trainer.export_student(folder / names.ARTIFACT_WEIGHTS, self._metrics)
        write_lines(folder / names.ARTIFACT_WEIGHTS_ORIGIN, trainer.first_weights)
        write_json(folder / names.ARTIFACT_METRICS, self._metrics)
        if self._evaluation is not None:
            write_json(folder / names.ARTIFACT_CURVE, self._evaluation.result.curves())
            # Of an unfinished trial, nothing reads them.
            if trainer.epoch >= trainer.total_epochs:
                write_atomically(folder / names.ARTIFACT_DETECTIONS, trainer.encode(self._evaluation.detections))

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Resume from a checkpoint folder."""
        folder = Path(checkpoint)
        assert self._trainer is not None
        self._trainer.load(folder / STATE_FILE)
        self._metrics = read_training_record(folder / names.ARTIFACT_METRICS, dict)

    def cleanup(self) -> None:
        """Called by Tune when the worker ends."""
        self._end()

    def _end(self) -> None:
        """Close the trainer: an error's traceback may keep a reference to it and to what it holds."""
        if self._trainer is not None:
            self._trainer.close()
            self._trainer, self._epochs = None, iter(())

    def _start(self, spec: TrialSpec) -> None:
        is_reused = self._trainer is not None
        self._end()
        self._failure = None
        storage = spec.worker.storage
        self._uploads = None if storage is None or spec.uploads_to is None else (spec.uploads_to, storage)
        self._metrics, self._evaluation, self._note = {}, None, None
        self._is_tested, self._costs, self._shared_file = spec.is_tested, spec.costs, spec.shared_file
        try:
            spec.worker.apply()
            if spec.shared_file is not None:
                wait_until_seen(spec.shared_file)
            device = resolve_device(spec.config.training.device)
            release_memory(device)  # of the previous trial: other processes may share the GPU
            if is_reused and not gc.get_freeze_count():
                # What is left are libraries, images and teacher. To search them between trials takes 0.25 s each time.
                gc.freeze()
            configure_process(device, spec.config.training.num_threads)
            self._build_trainer(spec)
            if spec.resume_from is not None:
                self._resume(spec, spec.resume_from)
        # Ray 2.60 hangs if reset_config raises: step raises instead.
        except Exception as error:  # noqa: BLE001
            self._failure = error

    def _build_trainer(self, spec: TrialSpec) -> None:
        teacher, labels = spec.worker.fetched(spec.teacher), spec.worker.fetched(spec.labels)
        self._trainer = build_trainer(spec.config, teacher, spec.teacher_cache, labels)
        self._epochs = fit(self._trainer, evaluate_after=spec.rungs)

    def _resume(self, spec: TrialSpec, newest: Path) -> None:
        """Resume from the newest checkpoint that can be read, else from the first epoch: a disk was full or lost."""
        unreadable: list[str] = []
        for checkpoint in (newest, spec.resume_otherwise_from):
            if checkpoint is not None:
                try:
                    self._load(checkpoint, spec.worker.storage)
                    break
                except (CheckpointError, OSError) as error:
                    if spec.shared_file is not None:
                        check_seen(spec.shared_file)
                    unreadable.append(str(error))
                    self._end()
                    self._metrics = {}
                    self._build_trainer(spec)  # the other one may have been loaded in part
        if unreadable:
            assert self._trainer is not None
            self._note = f"repeated from epoch {self._trainer.epoch + 1}, because of {'; '.join(unreadable)}"

    def _load(self, checkpoint: Path, storage: ObjectStorage | None) -> None:
        if storage is None:
            self.load_checkpoint(checkpoint)
            return
        with scratch_folder() as folder:
            files = (STATE_FILE, names.ARTIFACT_METRICS)
            patiently(lambda: storage.download(checkpoint, Path(folder), files))
            self.load_checkpoint(folder)


def build_trainer(
    config: TrialConfig,
    teacher_file: Path | None,
    teacher_cache: CacheBudget | None = None,
    labels_file: Path | None = None,
) -> Trainer:
    """The trainer of a trial, with the data and the teacher that this process has in memory.

    Args:
        teacher_file: Weights of the study's teacher; None without one.
        teacher_cache: Cache of the teacher's pyramids, shared by all trials of a node; None caches nothing.
        labels_file: The teacher's labels of the unlabelled images; None without any.
    """
    device = resolve_device(config.training.device)
    # Augmentation, the only section of the data that may be searched, is part of the trainer's configuration.
    settings = config.data.model_copy(update={"augmentation": DataConfig().augmentation})
    labels = None
    if labels_file is not None and settings.unlabelled_images is not None:  # which a baseline may do without
        labels = _labels(labels_file, settings)
    data = _data(settings, None if labels is None else labels.images)
    teacher = None
    if teacher_file is not None and config.teacher is not None and config.uses_teacher:
        teacher = _teacher(teacher_file, config.teacher, device)
    dtype = autocast_dtype(config.training.precision, device)
    return Trainer(
        config,
        data,
        teacher,
        device=device,
        teacher_cache=teacher_cache,
        pseudo_labels=labels,
        fused_teacher=None if teacher is None or not config.is_distilled else _fused_teacher(teacher, dtype, device),
    )


def evaluate_on_test_images(trainer: Trainer) -> dict[str, float]:
    """Metrics of a trained student on the test images, with the prefix ``test_``."""
    test = _test_images(trainer.config.data.model_copy(update={"augmentation": DataConfig().augmentation}))
    metrics = trainer.evaluate_on(test.store, test.annotations).as_metrics()
    return {f"{names.TEST_PREFIX}{name}": value for name, value in metrics.items()}


# A worker runs trials of one study, which share data and teacher.
@lru_cache(maxsize=1)
def _data(config: DataConfig, unlabelled: tuple[ImageRecord, ...] | None) -> PreparedData:
    # The driver found these images and compared them with the others before the teacher labelled them.
    return prepare_data(config, progress=False, unlabelled=unlabelled)


@lru_cache(maxsize=1)
def _test_images(config: DataConfig) -> PreparedTestImages:
    # The driver has compared them with the others.
    test = open_test_images(config, progress=False)
    assert test is not None, "only trials of a study with test images are tested"
    return test


@lru_cache(maxsize=1)
def _labels(path: Path, config: DataConfig) -> Annotations:
    assert config.unlabelled_images is not None, "they are the labels of these"
    return read_labels(path, images_folder(config.unlabelled_images, config)).annotations


@lru_cache(maxsize=1)
def _teacher(path: Path, config: TeacherConfig, device: torch.device) -> Detector:
    return load_teacher(path, config, device)


@lru_cache(maxsize=1)
def _fused_teacher(teacher: Detector, dtype: torch.dtype | None, device: torch.device) -> FusedTeacher:
    return FusedTeacher(teacher, dtype, device)


def reported_metrics(result: Mapping[str, Any]) -> dict[str, float]:
    """Our metrics in one of Tune's results."""
    return {name: float(value) for name, value in result.get(METRICS, {}).items()}
