"""The teacher of a study: loaded or trained once, kept, and shared by all who need it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from hkd.config import DataConfig, DetectorConfig, DistillationConfig, TeacherConfig, TrialConfig
from hkd.config_io import config_hash
from hkd.data.prepare import PreparedData, prepare_data, scenes_hash
from hkd.files import write_json
from hkd.inference.store_detection import evaluate_detector
from hkd.models.build import build_detector
from hkd.models.cost import Cost, config_cost
from hkd.models.detector import Detector
from hkd.models.weights import CheckpointError, load_weights, read_metadata, save_detector
from hkd.runtime.device import autocast_dtype, place, resolve_device
from hkd.runtime.process import configure_process
from hkd.training.loop import Trainer
from hkd.training.memory import BatchTooLargeError
from hkd.training.progress import OnProgress, TrainingProgress, ignore_progress

_WEIGHTS = "teacher.safetensors"
_SUMMARY = "teacher.json"
_STATE = "training_state.pt"
_LOG = "epochs.json"
# Part of the key: raise it when a change of the code makes earlier teachers stale.
_RECIPE = 1
# Settings of a detector that no tensor's shape shows, and that change what its weights mean.
_SHAPELESS_SETTINGS = ("anchor_sizes", "anchor_aspect_ratios", "canonical_region_size")


class TeacherError(ValueError):
    """A teacher is asked for that the configuration does not describe."""


@dataclass(frozen=True)
class PreparedTeacher:
    """A teacher that is ready for use."""

    path: Path
    """Its weights, ``.safetensors``; see :func:`load_teacher`."""
    metrics: dict[str, float]
    """Its evaluation on the validation images, by metric name."""
    cost: Cost
    config: TeacherConfig
    epochs: tuple[dict[str, float], ...]
    """What each epoch of its training measured; empty for a teacher from a checkpoint."""


def prepare_teacher(
    config: TrialConfig, data: PreparedData, cache_dir: Path, progress: OnProgress = ignore_progress
) -> PreparedTeacher:
    """Get the configured teacher ready: from its checkpoint, or by training it, at most once.

    The result is kept in ``cache_dir/teachers/<key>``, the key being a hash of all that determines it: architecture,
    schedule, evaluation, origin, and the data's content (not its place). Whoever asks while another process trains it
    waits for that one. A training that was killed goes on from its last finished epoch.

    Args:
        config: its ``teacher`` says where the teacher comes from: ``checkpoint``, or training that starts from
            ``init_from``, or from a training on generated scenes (``init_from_synthetic``, kept as an entry of its
            own), or from random weights.
        data: what the teacher is trained and judged on.
        progress: called after each step.

    Raises:
        TeacherError: ``config.teacher`` is null.
        CheckpointError: ``checkpoint`` or ``init_from`` is unreadable or of another architecture. Nothing was trained.
        NonFiniteLossError: the training diverged.
        BatchTooLargeError: the training does not fit the memory.
    """
    teacher = _teacher_of(config)
    check_teacher_files(config)
    folder = cache_dir / "teachers" / _key(config, data)
    prepared = _read_prepared(folder, teacher)
    if prepared is not None:
        return prepared
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "lock"):
        # Another process may have finished it while this one waited for the lock.
        if _read_prepared(folder, teacher) is None:
            if teacher.checkpoint is not None:
                _adopt(config, data, folder, teacher.checkpoint)
            else:
                _train(config, data, folder, _first_weights(config, cache_dir, progress), progress)
    prepared = _read_prepared(folder, teacher)
    assert prepared is not None, f"{folder} was just written"
    return prepared


def load_teacher(path: Path, config: TeacherConfig, device: torch.device | str = "cpu") -> Detector:
    """The teacher from its weights: frozen, in eval mode, on the device.

    Raises:
        CheckpointError: the file is unreadable, or of another architecture.
    """
    with torch.random.fork_rng(devices=[]):  # its first weights are overwritten: draw none of the caller's numbers
        detector = build_detector(config)
    load_weights(detector, path)
    return place(detector, device).requires_grad_(False).eval()


def check_teacher_files(config: TrialConfig) -> None:
    """Hold the weights that a configuration names for its teacher against the architecture it configures.

    Raises:
        CheckpointError: as :func:`prepare_teacher`.
    """
    teacher = config.teacher
    if teacher is None:
        return
    source = teacher.checkpoint or teacher.init_from
    if source is not None:
        load_teacher(source, teacher)
    if teacher.checkpoint is not None and teacher.checkpoint.suffix == ".safetensors":
        _check_shapeless_settings(teacher.checkpoint, teacher)


def _check_shapeless_settings(path: Path, teacher: TeacherConfig) -> None:
    """A checkpoint is used as it is: settings that its weights were trained with must not change under it."""
    saved = read_metadata(path).config
    different = [
        f"teacher.{name} is {getattr(teacher, name)} and was {getattr(saved, name)}"
        for name in _SHAPELESS_SETTINGS
        if getattr(teacher, name) != getattr(saved, name)
    ]
    if different:
        raise CheckpointError(
            f"{path}: was trained with other settings than the teacher is configured with: {'; '.join(different)}. "
            "Set them to what the checkpoint was trained with, or use it as teacher.init_from, to train it anew."
        )


def _teacher_of(config: TrialConfig) -> TeacherConfig:
    if config.teacher is None:
        raise TeacherError("teacher is null, so there is none to prepare; describe one under the key teacher")
    return config.teacher


def _key(config: TrialConfig, data: PreparedData) -> str:
    """Hash of all that determines the teacher and its evaluation."""
    teacher = _teacher_of(config)
    source = teacher.checkpoint or teacher.init_from
    settings = teacher.model_dump(mode="json", exclude={"checkpoint", "init_from"})
    if teacher.checkpoint is not None:
        del settings["training"]
    for schedule in (settings.get("training"), settings.get("init_from_synthetic")):
        for free in ("device", "num_threads", "evaluate_every_epochs"):
            if schedule is not None:
                del schedule[free]
    data_settings = {"image_height", "image_width", "max_objects_per_image", "augmentation"}
    scenes = {}
    if teacher.init_from_synthetic is not None:
        # Not among ``data``, whose pixels are hashed: these scenes are drawn only where this teacher is not there yet.
        scenes = {"scenes": scenes_hash(config.data.synthetic)}
    return config_hash(
        {
            "recipe": _RECIPE,
            "teacher": settings,
            "origin": "checkpoint" if teacher.checkpoint else "training",
            "weights": None if source is None else hashlib.sha256(source.read_bytes()).hexdigest(),
            "data": config.data.model_dump(mode="json", include=data_settings),
            "train": [data.train_annotations.content_hash(), data.train_store.checksum],
            "validation": [data.validation_annotations.content_hash(), data.validation_store.checksum],
            "evaluation": config.evaluation.model_dump(mode="json", exclude={"batch_size"}),
            **scenes,
        }
    )


def _first_weights(config: TrialConfig, cache_dir: Path, progress: OnProgress) -> Path | None:
    """The file that the teacher's own training starts from."""
    teacher = _teacher_of(config)
    if teacher.init_from_synthetic is None:
        return teacher.init_from
    generated = DataConfig.model_validate(
        config.data.model_dump(exclude={"train_annotations", "validation_annotations", "image_root"})
    )
    apprentice = config.model_copy(
        update={
            "data": generated,
            "teacher": teacher.model_copy(
                update={"training": teacher.init_from_synthetic, "init_from_synthetic": None}
            ),
        }
    )
    return prepare_teacher(apprentice, prepare_data(generated), cache_dir, progress).path


def _train(
    config: TrialConfig, data: PreparedData, folder: Path, first_weights: Path | None, progress: OnProgress
) -> None:
    """Train the teacher as a detector of its own, or go on with it, and write the folder's files."""
    teacher = _teacher_of(config)
    alone = config.model_copy(
        update={
            "teacher": None,
            "student": _shape(teacher),
            # Nobody teaches it: what the students' distillation is set to is no part of its state.
            "distillation": DistillationConfig(),
            "training": teacher.training,
        }
    )
    device = resolve_device(teacher.training.device)
    configure_process(device, teacher.training.num_threads)
    trainer = Trainer(alone, data, device=device)
    state, log = folder / _STATE, folder / _LOG
    epochs: list[dict[str, float]] = []
    if state.is_file():
        trainer.load(state)
        epochs = json.loads(log.read_text(encoding="utf-8"))[: trainer.epoch]
    elif first_weights is not None:
        trainer.start_from(first_weights)
    metrics: dict[str, float] = {}
    title = "teacher on generated scenes" if config.data.train_annotations is None else "teacher"

    def on_step(step: int, steps_per_epoch: int, parts: Mapping[str, float]) -> None:
        progress(
            TrainingProgress(
                title=title,
                step=trainer.epoch * steps_per_epoch + step,
                total_steps=trainer.total_epochs * steps_per_epoch,
                epoch=trainer.epoch + 1,
                total_epochs=trainer.total_epochs,
                numbers={**parts, **metrics},
            )
        )

    while trainer.epoch < trainer.total_epochs:
        try:
            measured = trainer.train_epoch(on_step)
        except BatchTooLargeError as error:
            raise BatchTooLargeError(f"of the teacher, whose settings stand below teacher: {error}") from None
        if trainer.is_evaluation_due:
            metrics = trainer.evaluate().as_metrics()
        epochs.append({**measured, **(metrics if trainer.is_evaluation_due else {})})
        # The log first: a state without its log could not go on, a log that is an epoch ahead is cut.
        write_json(log, epochs)
        trainer.save(state)
    metrics = metrics or trainer.evaluate().as_metrics()
    trainer.export_student(folder / _WEIGHTS, metrics)
    _write_summary(folder, teacher, metrics, trainer.cost, epochs)
    state.unlink(missing_ok=True)
    log.unlink(missing_ok=True)


def _adopt(config: TrialConfig, data: PreparedData, folder: Path, checkpoint: Path) -> None:
    """Judge a trained teacher on the validation images and write the folder's files."""
    teacher = _teacher_of(config)
    device = resolve_device(teacher.training.device)
    detector = load_teacher(checkpoint, teacher, device)
    result = evaluate_detector(
        detector,
        data,
        config.evaluation,
        device=device,
        autocast_dtype=autocast_dtype(teacher.training.precision, device),
    )
    height, width = config.data.image_height, config.data.image_width
    metrics = result.as_metrics()
    save_detector(folder / _WEIGHTS, detector, teacher, image_height=height, image_width=width, metrics=metrics)
    _write_summary(folder, teacher, metrics, config_cost(teacher, height, width), [])


def _write_summary(
    folder: Path, teacher: TeacherConfig, metrics: dict[str, float], cost: Cost, epochs: list[dict[str, float]]
) -> None:
    """Written last: its presence says that the teacher is finished."""
    write_json(
        folder / _SUMMARY,
        {
            "config": teacher.model_dump(mode="json"),
            "metrics": metrics,
            "cost": {"num_params": cost.num_params, "flops": cost.flops},
            "epochs": epochs,
        },
    )


def _read_prepared(folder: Path, teacher: TeacherConfig) -> PreparedTeacher | None:
    """The finished teacher of a folder, if there is one."""
    if not ((folder / _SUMMARY).is_file() and (folder / _WEIGHTS).is_file()):
        return None
    summary: dict[str, Any] = json.loads((folder / _SUMMARY).read_text(encoding="utf-8"))
    return PreparedTeacher(
        path=folder / _WEIGHTS,
        metrics=summary["metrics"],
        cost=Cost(**summary["cost"]),
        config=teacher,
        epochs=tuple(summary["epochs"]),
    )


def _shape(teacher: TeacherConfig) -> DetectorConfig:
    """The teacher's architecture, without where it comes from."""
    return DetectorConfig.model_validate(teacher.model_dump(include=set(DetectorConfig.model_fields)))
