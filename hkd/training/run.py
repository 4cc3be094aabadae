"""``hkd train``: one training outside any study, from its configuration to a folder of results."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout
from rich.console import Console

from hkd.coco.annotations import Annotations
from hkd.config import TrialConfig
from hkd.config_files.parsing import flatten, load_config
from hkd.config_files.yaml_format import dump_yaml
from hkd.data.prepare import PreparedData, prepare_data
from hkd.evaluation.evaluator import EvaluationResult
from hkd.files import file_hash, write_atomically, write_json, write_lines
from hkd.findings import compared_miss_rate, passed_by_student, weak_teacher
from hkd.metric_names import (
    ARTIFACT_CONFIG,
    ARTIFACT_CURVE,
    ARTIFACT_METRICS,
    ARTIFACT_WEIGHTS,
    ARTIFACT_WEIGHTS_ORIGIN,
    MR2_REASONABLE,
    SECONDS,
    TOTAL_LOSS,
)
from hkd.models.cost import Cost
from hkd.models.detector import Detector
from hkd.runtime.device import resolve_device
from hkd.runtime.process import configure_process
from hkd.text.output import print_on
from hkd.training.first_weights import check_first_weights
from hkd.training.fit import LOG_FILE, STATE_FILE, Evaluation, fit
from hkd.training.fit import resume as resume_fit
from hkd.training.memory import check_plausible_batch
from hkd.training.progress import OnProgress, progress_bars
from hkd.training.resume_settings import FREE_SETTINGS
from hkd.training.state import read_training_record
from hkd.training.teacher.files import check_teacher_files
from hkd.training.teacher.prepare import PreparedTeacher, load_teacher, prepare_teacher
from hkd.training.teacher.pseudo_labels import PseudoLabels, prepare_labels
from hkd.training.trainer import Trainer

ORIGIN_FILE = "origin.json"
DETECTIONS_FILE = "detections.json"

_LOCK_FILE = ".lock"
_ALL_FILES = (
    ARTIFACT_CONFIG,
    STATE_FILE,
    LOG_FILE,
    ARTIFACT_WEIGHTS,
    ARTIFACT_WEIGHTS_ORIGIN,
    ARTIFACT_METRICS,
    ARTIFACT_CURVE,
    DETECTIONS_FILE,
    ORIGIN_FILE,
)
_MAX_REPAIRS_SHOWN = 3


class TrainingFolderError(ValueError):
    """The folder cannot be used: it holds another training, or a process is training in it."""


@dataclass(frozen=True)
class TrainingSummary:
    """Results of a training."""

    evaluation: EvaluationResult
    cost: Cost
    """Of the deployed student."""
    folder: Path
    """Holds config.yaml, student.safetensors, weights_origin.txt, metrics.json, miss_rate_curve.json, detections.json
    and epochs.json."""


@dataclass(frozen=True, eq=False)
class _TeacherInputs:
    """What a training uses of its teacher; nothing without one."""

    detector: Detector | None = None
    labels: PseudoLabels | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Of a teacher that is distilled."""
    weights_origin: tuple[str, ...] = ()
    weights_hash: str | None = None


def train_into_folder(
    config: TrialConfig, out: Path, *, resume: bool = False, console: Console | None = None
) -> TrainingSummary:
    """Train one detector, distilled from its teacher or alone, and write all results to a folder.

    The teacher is prepared first if the distillation needs one. The state is saved after each epoch: on a CPU, a
    training that is interrupted and resumed is equal to an uninterrupted one, bit for bit.

    Args:
        config: What to train.
        out: Folder for the results; created if it does not exist.
        resume: Resume the training in ``out``; a finished one is only evaluated, and without one a new one starts.
        console: For progress; by default stderr.

    Raises:
        TrainingFolderError: ``out`` holds a training and ``resume`` is not set, or holds one with other settings, or
            another process is training there. The folder is unchanged.
        ValueError: from the data, the teacher or the training; see :func:`hkd.data.prepare.prepare_data`,
            :func:`hkd.training.teacher.prepare.prepare_teacher` and :func:`hkd.training.fit.fit`.
    """
    console = console or Console(stderr=True)
    device = resolve_device(config.training.device)
    check_plausible_batch(config, device)
    for note in check_first_weights(config):
        print_on(console, note)
    if config.data.test_annotations is not None:
        print_on(console, "data.test_annotations is not read: only a study evaluates on test images")
    if config.uses_teacher:
        for note in check_teacher_files(config):
            print_on(console, note)
    with _claimed(out, config, resume):
        data = prepare_data(config.data)
        _print_repairs(data, console)
        with progress_bars(console) as progress:
            teacher = _teacher_inputs(config, data, progress, console)
            origin = _origin(config, data, teacher)
            _check_origin(out, origin)
            configure_process(device, config.training.num_threads)
            labels = None if teacher.labels is None else teacher.labels.annotations
            trainer = Trainer(config, data, teacher.detector, device=device, pseudo_labels=labels)
            # A folder with these files holds a training.
            write_atomically(out / ARTIFACT_CONFIG, dump_yaml(config))
            write_json(out / ORIGIN_FILE, origin)
            write_lines(out / ARTIFACT_WEIGHTS_ORIGIN, (*teacher.weights_origin, *trainer.first_weights))
            evaluation = _train(trainer, out, teacher.metrics, progress, console)
        _write_results(trainer, evaluation, data.validation_annotations, teacher.labels, out)
    return TrainingSummary(evaluation.result, trainer.cost, out)


def _teacher_inputs(config: TrialConfig, data: PreparedData, progress: OnProgress, console: Console) -> _TeacherInputs:
    if not config.uses_teacher:
        return _TeacherInputs()
    prepared = prepare_teacher(config, data, config.data.cache_dir, progress)
    _print_teacher(prepared, console)
    labels = prepare_labels(config, data, prepared, progress)
    if labels is not None:
        print_on(console, f"labels of unlabelled images: {labels.summary}; {labels.path}")
    return _TeacherInputs(
        load_teacher(prepared.path, prepared.config),
        labels,
        prepared.metrics if config.is_distilled else {},
        tuple(f"teacher: {note}" for note in prepared.weights_origin),
        file_hash(prepared.path),
    )


@contextmanager
def _claimed(out: Path, config: TrialConfig, resume: bool) -> Iterator[None]:
    """Lock the folder for this training."""
    out.mkdir(parents=True, exist_ok=True)
    lock = FileLock(out / _LOCK_FILE)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise TrainingFolderError(
            f"{out}: another process is training there; wait until it ends, or name another folder with --out"
        ) from None
    try:
        _check_folder(out, config, resume)
        yield
    finally:
        lock.release()


def _check_folder(out: Path, config: TrialConfig, resume: bool) -> None:
    """Check that the folder is empty, or holds the configured training if it is to be resumed.

    Raises:
        TrainingFolderError: it is not, or does not.
    """
    if not any((out / name).exists() for name in _ALL_FILES):
        return
    if not resume:
        raise TrainingFolderError(
            f"{out}: already holds a training; resume it with --resume, or name another folder with --out"
        )
    if not (out / ARTIFACT_CONFIG).is_file():
        raise TrainingFolderError(
            f"{out}: cannot be resumed, it has no {ARTIFACT_CONFIG}; name the folder of a training with --out"
        )
    saved, wanted = flatten(load_config(out / ARTIFACT_CONFIG)), flatten(config)
    free = FREE_SETTINGS | {"data.cache_dir", "data.max_megapixels"}
    different = [
        f"{name} was {saved.get(name)} and is {wanted.get(name)}"
        for name in sorted(saved.keys() | wanted.keys())
        if saved.get(name) != wanted.get(name) and name not in free
    ]
    if different:
        raise TrainingFolderError(
            f"{out}: holds a training with other settings: {'; '.join(different)}. "
            "Resume with the settings it was started with, or name another folder with --out"
        )


def _print_teacher(teacher: PreparedTeacher, console: Console) -> None:
    size = f"{teacher.cost.num_params / 1e6:.2f}M parameters"
    print_on(console, f"teacher: {', '.join(filter(None, (_format_numbers(teacher.metrics), size)))}")
    metric = compared_miss_rate(teacher.metrics)
    weak = None if metric is None else weak_teacher(metric, teacher.metrics[metric])
    if weak is not None:
        print_on(console, f"warning: {weak.text}")


def _print_repairs(data: PreparedData, console: Console) -> None:
    unlabelled = [] if data.unlabelled is None else [data.unlabelled.annotations]
    for read in (data.train_annotations, data.validation_annotations, *unlabelled):
        for note in read.notes[:_MAX_REPAIRS_SHOWN]:
            print_on(console, f"{read.path}: {note}")
        rest = len(read.notes) - _MAX_REPAIRS_SHOWN
        if rest > 0:
            print_on(console, f"{read.path}: {rest} more like these")


def _origin(config: TrialConfig, data: PreparedData, teacher: _TeacherInputs) -> dict[str, str]:
    """Hashes of the training's inputs, whose content is not part of the configuration."""
    unlabelled, labels = data.unlabelled, teacher.labels
    init_from, backbone_from = config.student.init_from, config.student.backbone_from
    hashes = {
        "training annotations": data.train_annotations.content_hash(),
        "training images": data.train_store.checksum,
        "validation annotations": data.validation_annotations.content_hash(),
        "validation images": data.validation_store.checksum,
        "unlabelled images": None if unlabelled is None else unlabelled.store.checksum,
        "teacher": teacher.weights_hash,
        "labels of unlabelled images": None if labels is None else labels.annotations.content_hash(),
        "first weights": file_hash(init_from) if isinstance(init_from, Path) else None,
        "first weights of the backbone": None if backbone_from is None else file_hash(backbone_from),
    }
    return {name: content for name, content in hashes.items() if content is not None}


def _check_origin(out: Path, origin: dict[str, str]) -> None:
    """Check that data and teacher are the same as before the interruption.

    Raises:
        TrainingFolderError: naming the inputs that changed.
    """
    path = out / ORIGIN_FILE
    if (out / STATE_FILE).is_file() and path.is_file():
        before = read_training_record(path, dict)
        changed = [name for name in origin if before.get(name) != origin[name]]
        if changed:
            raise TrainingFolderError(
                f"{out}: its training was started with other contents of: {', '.join(changed)}. "
                "Restore them, or start a new training in another folder with --out"
            )


def _train(
    trainer: Trainer, out: Path, teacher: Mapping[str, float], progress: OnProgress, console: Console
) -> Evaluation:
    """Train or resume to the end; returns the evaluation of the last epoch.

    Args:
        teacher: Metrics of the teacher that is distilled; empty without one.
    """
    is_warned = False
    if resume_fit(trainer, out):
        print_on(console, f"resuming after epoch {trainer.epoch} of {trainer.total_epochs}")
    for result in fit(trainer, out, progress=progress):
        if result.training:
            print_on(console, f"epoch {result.epoch}/{trainer.total_epochs}: {_format_numbers(result.measured)}")
        passed = passed_by_student(teacher, result.metrics)
        if passed is not None and not is_warned:
            is_warned = True
            print_on(console, f"warning: {passed.text}")
        evaluation = result.evaluation
    assert evaluation is not None, "the last epoch is always evaluated"
    return evaluation


def _write_results(
    trainer: Trainer,
    evaluation: Evaluation,
    validation: Annotations,
    labels: PseudoLabels | None,
    out: Path,
) -> None:
    metrics = evaluation.result.as_metrics()
    trainer.export_student(out / ARTIFACT_WEIGHTS, metrics)
    image_ids = validation.ground_truth().image_ids
    detections = evaluation.detections.coco_results(image_ids, validation.text_ids(), validation.people_id)
    write_atomically(out / DETECTIONS_FILE, json.dumps(detections, allow_nan=False))
    write_json(out / ARTIFACT_CURVE, evaluation.result.curves())
    of_labels = {} if labels is None else labels.summary.as_metrics()
    write_json(out / ARTIFACT_METRICS, {**metrics, **trainer.cost.as_metrics(), **of_labels})


def _format_numbers(numbers: Mapping[str, float]) -> str:
    """Loss, miss rate and time, those of them that are present."""
    parts = []
    if TOTAL_LOSS in numbers:
        parts.append(f"loss {numbers[TOTAL_LOSS]:.3f}")
    if MR2_REASONABLE in numbers:
        parts.append(f"MR^-2 (reasonable) {100 * numbers[MR2_REASONABLE]:.2f} %")
    if SECONDS in numbers:
        parts.append(f"{numbers[SECONDS]:.0f} s")
    return ", ".join(parts)
