"""The teacher: trained or imported once, then cached for all trainings that need the same one."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from filelock import FileLock

from hkd.config import DetectorConfig, DistillationConfig, StudentConfig, TeacherConfig, TrialConfig
from hkd.config_files.parsing import config_hash
from hkd.data.generated import scenes_hash
from hkd.data.prepare import PreparedData, prepare_data
from hkd.files import file_hash, read_record, remove_irregular, write_atomically, write_json
from hkd.inference.store_detection import detect_validation, encode_validation, evaluate_detections
from hkd.metric_names import ARTIFACT_DETECTIONS, PEAK_MEMORY_BYTES, UTILISATION
from hkd.models.build import build_detector
from hkd.models.cost import Cost, detector_cost
from hkd.models.detector import Detector
from hkd.models.weights import load_weights, save_detector
from hkd.own_folders import check_own_folder, create_own_folder
from hkd.runtime.device import autocast_dtype, place, resolve_device
from hkd.runtime.process import configure_process
from hkd.training.fit import LOG_FILE, STATE_FILE, fit, read_log, resume
from hkd.training.memory import BatchTooLargeError
from hkd.training.progress import OnProgress, ignore_progress
from hkd.training.resume_settings import FREE_TRAINING_SETTINGS
from hkd.training.teacher.files import check_teacher_files
from hkd.training.trainer import Trainer

_USAGE = (PEAK_MEMORY_BYTES, UTILISATION)
_WEIGHTS_FILE = "teacher.safetensors"
SUMMARY_FILE = "teacher.json"
"""Written last: it marks a folder as complete."""
_CACHE_SETTING = "data.cache_dir; of a study: storage_path"
# Part of the key: increment it when a change of the code makes cached teachers stale.
_RECIPE = 1
# Part of the key of an imported teacher: increment it when files are read differently.
_IMPORT_RECIPE = 2


class TeacherError(ValueError):
    """The configuration has no teacher."""


class TeacherCacheError(ValueError):
    """The folder of a teacher cannot be created or locked."""


@dataclass(frozen=True)
class PreparedTeacher:
    """A teacher in the cache."""

    path: Path
    """Its weights, ``.safetensors``; see :func:`load_teacher`."""
    metrics: dict[str, float]
    """Its evaluation on the validation images, by metric name."""
    cost: Cost
    config: TeacherConfig
    epochs: tuple[dict[str, float], ...]
    """What each epoch of its training measured, by metric name; empty for a teacher from a checkpoint."""
    weights_origin: tuple[str, ...] = ()
    """What was read from where, left out or changed in a file of its (first) weights, a sentence each."""
    detections: Path | None = None
    """Its detections on the validation images; None for a teacher that an earlier version cached."""


def prepare_teacher(
    config: TrialConfig, data: PreparedData, cache_dir: Path, progress: OnProgress = ignore_progress
) -> PreparedTeacher:
    """Train or import the configured teacher, unless it is cached.

    The teacher is cached in ``cache_dir/teachers/<key>``. The key is a hash of all that determines it: architecture,
    schedule, evaluation, first weights, and the content (not the path) of the data. Concurrent calls wait for the one
    that trains. An interrupted training resumes from its last completed epoch.

    Args:
        config: Its ``teacher`` names a trained ``checkpoint``, or describes a training that starts from the weights
            ``init_from``, from pretraining on generated scenes (``init_from_synthetic``, which is cached like a
            teacher), or from random weights.
        data: Training and validation images of the teacher.
        progress: Called after each step.

    Raises:
        TeacherError: ``config.teacher`` is null.
        TeacherCacheError: its folder in the cache cannot be created or locked.
        CheckpointError: ``checkpoint`` or ``init_from`` is unreadable or of another architecture. Nothing was trained.
        NonFiniteLossError: the training diverged.
        BatchTooLargeError: the training does not fit the memory.
        SharedFolderError: every user of the machine can write to the cache.
    """
    teacher = _teacher_of(config)
    notes = check_teacher_files(config)
    folder = teacher_folder(config, data, cache_dir)
    prepared = find_teacher(config, data, cache_dir)
    if prepared is not None:
        return prepared
    with _locked(folder):
        for name in (SUMMARY_FILE, _WEIGHTS_FILE, ARTIFACT_DETECTIONS, STATE_FILE, LOG_FILE):
            remove_irregular(folder / name)
        # Another process may have trained it while this one waited for the lock.
        if _read_prepared(folder, teacher) is None:
            if teacher.trained_weights is not None:
                _import_checkpoint(config, data, folder, teacher.trained_weights, notes)
            else:
                _train(config, data, folder, _first_weights(config, cache_dir, progress), notes, progress)
    prepared = _read_prepared(folder, teacher)
    assert prepared is not None, f"{folder} was just written"
    return prepared


def find_teacher(config: TrialConfig, data: PreparedData, cache_dir: Path) -> PreparedTeacher | None:
    """The teacher that :func:`prepare_teacher` would return, if it is cached; otherwise None. Trains nothing.

    Raises:
        TeacherError: ``config.teacher`` is null.
        SharedFolderError: every user of the machine can write to the cache.
    """
    folder = teacher_folder(config, data, cache_dir)
    for path in (cache_dir, folder.parent, folder):
        check_own_folder(path, _CACHE_SETTING)
    return _read_prepared(folder, _teacher_of(config))


def load_teacher(path: Path, config: TeacherConfig, device: torch.device | str = "cpu") -> Detector:
    """Load a teacher: frozen, in eval mode, on the device.

    Raises:
        CheckpointError: the file is unreadable, or of another architecture.
    """
    with torch.random.fork_rng(devices=[]):  # the random weights are overwritten: keep the caller's generator unchanged
        detector = build_detector(config)
    load_weights(detector, path, person_class=config.person_class)
    return place(detector, device).requires_grad_(False).eval()


def _teacher_of(config: TrialConfig) -> TeacherConfig:
    if config.teacher is None:
        raise TeacherError("teacher is null, so there is none to prepare; describe one under the key teacher")
    return config.teacher


def teacher_folder(config: TrialConfig, data: PreparedData, cache_dir: Path) -> Path:
    """Folder of the configured teacher in a cache, named by the hash of all that determines it."""
    return cache_dir / "teachers" / _key(config, data)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Create the folder of a teacher and lock it."""
    lock = FileLock(folder / "lock")
    try:
        create_own_folder(folder, _CACHE_SETTING)
        lock.acquire()
    except OSError as error:
        raise TeacherCacheError(
            f"the teacher's folder '{folder}' cannot be used ({error.strerror or error}); remove it, or name another "
            f"folder ({_CACHE_SETTING})"
        ) from error
    try:
        yield
    finally:
        lock.release()


def _key(config: TrialConfig, data: PreparedData) -> str:
    """Hash of all that determines the teacher and its evaluation."""
    teacher = _teacher_of(config)
    source = teacher.trained_weights or teacher.init_from
    settings = teacher.model_dump(mode="json", exclude={"checkpoint", "torchvision", "person_class", "init_from"})
    if teacher.trained_weights is not None:
        del settings["training"]
    imports: dict[str, object] = {}
    if teacher.trained_weights is not None:
        imports["import"] = _IMPORT_RECIPE
    if source is not None and teacher.person_class is not None:
        imports["person_class"] = teacher.person_class
    for schedule in (settings.get("training"), settings.get("init_from_synthetic")):
        for free in FREE_TRAINING_SETTINGS:
            if schedule is not None:
                del schedule[free]
    data_settings = {"image_height", "image_width", "max_objects_per_image", "augmentation"}
    scenes = {}
    if teacher.init_from_synthetic is not None:
        # Unlike ``data``, whose pixels are hashed, these scenes are generated only if the teacher is not cached.
        scenes = {"scenes": scenes_hash(config.data.synthetic)}
    return config_hash(
        {
            "recipe": _RECIPE,
            "teacher": settings,
            "origin": "checkpoint" if teacher.trained_weights else "training",
            "weights": None if source is None else file_hash(source),
            "data": config.data.model_dump(mode="json", include=data_settings),
            "train": [data.train_annotations.content_hash(), data.train_store.checksum],
            "validation": [data.validation_annotations.content_hash(), data.validation_store.checksum],
            "evaluation": config.evaluation.model_dump(mode="json", exclude={"batch_size", "latency"}),
            **scenes,
            **imports,
        }
    )


def _first_weights(config: TrialConfig, cache_dir: Path, progress: OnProgress) -> Path | None:
    """The file that the teacher's training starts from, pretrained here if configured; None for random weights."""
    teacher = _teacher_of(config)
    if teacher.init_from_synthetic is None:
        return teacher.init_from
    generated = config.data.with_generated_scenes()
    pretraining = config.model_copy(
        update={
            "data": generated,
            "teacher": teacher.model_copy(
                update={"training": teacher.init_from_synthetic, "init_from_synthetic": None}
            ),
        }
    )
    return prepare_teacher(pretraining, prepare_data(generated), cache_dir, progress).path


def _train(
    config: TrialConfig,
    data: PreparedData,
    folder: Path,
    first_weights: Path | None,
    notes: tuple[str, ...],
    progress: OnProgress,
) -> None:
    """Train the teacher like a student without a teacher, or resume its training, and write the folder's files."""
    teacher = _teacher_of(config)
    alone = config.model_copy(
        update={
            "teacher": None,
            "student": _architecture(teacher),
            # The students' distillation must not become part of the training's state.
            "distillation": DistillationConfig(),
            "training": teacher.training,
            # Which it will label.
            "data": config.data.model_copy(update={"unlabelled_images": None}),
        }
    )
    device = resolve_device(teacher.training.device)
    configure_process(device, teacher.training.num_threads)
    trainer = Trainer(alone, data, device=device)
    if not resume(trainer, folder) and first_weights is not None:
        trainer.start_from(first_weights, person_class=teacher.person_class)
    title = "teacher on generated scenes" if config.data.train_annotations is None else "teacher"
    try:
        for result in fit(trainer, folder, title=title, progress=progress):
            metrics = result.metrics
            evaluation = result.evaluation
    except BatchTooLargeError as error:
        raise BatchTooLargeError(f"training of the teacher, with its settings under teacher: {error}") from None
    trainer.export_student(folder / _WEIGHTS_FILE, metrics)
    assert evaluation is not None, "the last epoch is evaluated"
    write_atomically(folder / ARTIFACT_DETECTIONS, trainer.encode(evaluation.detections))
    # Usage describes the process that trained the teacher, not the teacher.
    epochs = [{name: value for name, value in epoch.items() if name not in _USAGE} for epoch in read_log(folder)]
    _write_summary(folder, teacher, metrics, trainer.cost, epochs, notes)
    for file in (STATE_FILE, LOG_FILE):
        (folder / file).unlink(missing_ok=True)


def _import_checkpoint(
    config: TrialConfig, data: PreparedData, folder: Path, checkpoint: Path, notes: tuple[str, ...]
) -> None:
    """Evaluate a trained teacher on the validation images and write the folder's files."""
    teacher = _teacher_of(config)
    device = resolve_device(teacher.training.device)
    detector = load_teacher(checkpoint, teacher, device)
    detections = detect_validation(
        detector,
        data,
        config.evaluation,
        device=device,
        autocast_dtype=autocast_dtype(teacher.training.precision, device),
    )
    height, width = config.data.image_height, config.data.image_width
    metrics = evaluate_detections(detections, data, config.evaluation).as_metrics()
    save_detector(folder / _WEIGHTS_FILE, detector, teacher, image_height=height, image_width=width, metrics=metrics)
    write_atomically(folder / ARTIFACT_DETECTIONS, encode_validation(detections, data, config.evaluation))
    _write_summary(folder, teacher, metrics, detector_cost(detector, height, width), [], notes)


def _write_summary(
    folder: Path,
    teacher: TeacherConfig,
    metrics: dict[str, float],
    cost: Cost,
    epochs: list[dict[str, float]],
    notes: tuple[str, ...],
) -> None:
    """Write the summary, last of the files: its presence marks the entry as complete."""
    write_json(
        folder / SUMMARY_FILE,
        {
            "config": teacher.model_dump(mode="json"),
            "metrics": metrics,
            "cost": {"num_params": cost.num_params, "flops": cost.flops},
            "epochs": epochs,
            "weights": notes,
        },
    )


def _read_prepared(folder: Path, teacher: TeacherConfig) -> PreparedTeacher | None:
    """The teacher in a folder of the cache; None if it is incomplete or its summary is damaged."""
    if not ((folder / SUMMARY_FILE).is_file() and (folder / _WEIGHTS_FILE).is_file()):
        return None
    try:
        summary = read_record(folder / SUMMARY_FILE)
        detections = folder / ARTIFACT_DETECTIONS
        return PreparedTeacher(
            path=folder / _WEIGHTS_FILE,
            metrics={str(name): float(value) for name, value in summary["metrics"].items()},
            cost=Cost(**summary["cost"]),
            config=teacher,
            epochs=tuple(dict(epoch) for epoch in summary["epochs"]),
            weights_origin=tuple(str(note) for note in summary.get("weights", ())),
            detections=detections if detections.is_file() else None,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        warnings.warn(f"{folder / SUMMARY_FILE}: damaged ({error}); preparing the teacher again", stacklevel=3)
        return None


def _architecture(teacher: TeacherConfig) -> StudentConfig:
    """The teacher's configuration without its training and weights."""
    return StudentConfig.model_validate(teacher.model_dump(include=set(DetectorConfig.model_fields)))
