"""One training outside any sweep, from its configuration to a folder of results: the body of ``hkd train``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from rich.console import Console

from hkd.coco.detections import DetectedBoxes
from hkd.config import TrialConfig
from hkd.config_io import flatten, load_config
from hkd.config_yaml import dump_yaml
from hkd.data.prepare import PreparedData, prepare_data
from hkd.evaluation.evaluator import EvaluationResult, evaluate_boxes
from hkd.evaluation.formats.protocol_files import load_protocol
from hkd.files import write_atomically, write_json
from hkd.metric_names import FLOPS, GMACS, MR2_REASONABLE, NUM_PARAMS, TOTAL_LOSS
from hkd.models.cost import Cost
from hkd.runtime.device import resolve_device
from hkd.runtime.process import configure_process
from hkd.runtime.usage import UsageMeter
from hkd.training.loop import SECONDS, Trainer
from hkd.training.progress import OnProgress, TrainingProgress, progress_bars
from hkd.training.teacher import check_teacher_files, load_teacher, prepare_teacher

CONFIG_FILE = "config.yaml"
STATE_FILE = "training_state.pt"
EPOCHS_FILE = "epochs.json"
WEIGHTS_FILE = "student.safetensors"
METRICS_FILE = "metrics.json"
ORIGIN_FILE = "origin.json"
CURVE_FILE = "miss_rate_curve.json"
DETECTIONS_FILE = "detections.json"

_LOCK_FILE = ".lock"
_ALL_FILES = (
    CONFIG_FILE,
    STATE_FILE,
    EPOCHS_FILE,
    WEIGHTS_FILE,
    METRICS_FILE,
    CURVE_FILE,
    DETECTIONS_FILE,
    ORIGIN_FILE,
)
# Settings that do not change what a training computes: it may go on under other ones.
_FREE_SETTINGS = ("training.device", "training.num_threads", "training.evaluate_every_epochs", "data.cache_dir")
_MENDED_SHOWN = 3


class TrainingFolderError(ValueError):
    """A training's folder cannot be used: it holds another training, or is in use."""


@dataclass(frozen=True)
class TrainingSummary:
    """What a training came to."""

    evaluation: EvaluationResult
    cost: Cost
    """Of the deployed student."""
    folder: Path
    """Holds config.yaml, student.safetensors, metrics.json, miss_rate_curve.json, detections.json, epochs.json."""


def train_command(
    config: TrialConfig, out: Path, *, resume: bool = False, console: Console | None = None
) -> TrainingSummary:
    """Train one detector, or distil one from its teacher, and write all results to a folder.

    The teacher is prepared first where the distillation needs one. After each epoch the full state is saved, so that
    an interrupted training can go on with ``resume``, to the same bits on a CPU.

    Args:
        config: What to train.
        out: Folder for the results; made if needed.
        resume: Go on with the training in ``out``; one that is finished is reported again, and where nothing was
            begun a new one begins.
        console: Where progress is shown; stderr unless given.

    Raises:
        TrainingFolderError: ``out`` holds a training already and ``resume`` is not set, or holds one with other
            settings, or another process trains there. Nothing in it was changed.
        ValueError: what the data, the teacher or the training itself are refused for; see
            :func:`hkd.data.prepare.prepare_data`, :func:`hkd.training.teacher.prepare_teacher` and
            :class:`hkd.training.loop.Trainer`.
    """
    console = console or Console(stderr=True)
    device = resolve_device(config.training.device)
    needs_teacher = config.is_distilled
    if needs_teacher:
        check_teacher_files(config)
    with _claimed(out, config, resume):
        data = prepare_data(config.data)
        _tell_mended(data, console)
        origin = _origin(data)
        with progress_bars(console) as progress:
            teacher = None
            if needs_teacher:
                prepared = prepare_teacher(config, data, config.data.cache_dir, progress)
                words = f"teacher: {_words(prepared.metrics)}, {prepared.cost.num_params / 1e6:.2f}M parameters"
                console.print(words, markup=False, highlight=False)
                origin["teacher"] = _file_hash(prepared.path)
                teacher = load_teacher(prepared.path, prepared.config)
            _check_origin(out, origin)
            configure_process(device, config.training.num_threads)
            trainer = Trainer(config, data, teacher, device=device)
            # From here on the folder holds a training.
            write_atomically(out / CONFIG_FILE, dump_yaml(config))
            write_json(out / ORIGIN_FILE, origin)
            evaluation, detections = _train(trainer, data, out, progress, console)
        results = detections.coco_results(data.validation_annotations.ground_truth().image_ids)
        _write_results(trainer, evaluation, results, out)
    return TrainingSummary(evaluation, trainer.cost, out)


@contextmanager
def _claimed(out: Path, config: TrialConfig, resume: bool) -> Iterator[None]:
    """Keep other trainings out of the folder for a while."""
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
    """Refuse a folder whose training is not the one configured.

    Raises:
        TrainingFolderError: saying what is in the way.
    """
    if not any((out / name).exists() for name in _ALL_FILES):
        return
    if not resume:
        raise TrainingFolderError(
            f"{out}: already holds a training; go on with it by --resume, or name another folder with --out"
        )
    if not (out / CONFIG_FILE).is_file():
        raise TrainingFolderError(
            f"{out}: has no {CONFIG_FILE} to go on with; name the folder of a training with --out"
        )
    saved, wanted = flatten(load_config(out / CONFIG_FILE)), flatten(config)
    different = [
        f"{name} was {saved.get(name)} and is {wanted.get(name)}"
        for name in sorted(saved.keys() | wanted.keys())
        if saved.get(name) != wanted.get(name) and name not in _FREE_SETTINGS
    ]
    if different:
        raise TrainingFolderError(
            f"{out}: holds a training with other settings: {'; '.join(different)}. "
            "Resume with the settings it was begun with, or name another folder with --out"
        )


def _tell_mended(data: PreparedData, console: Console) -> None:
    for read in (data.train_annotations, data.validation_annotations):
        for sentence in read.repaired[:_MENDED_SHOWN]:
            console.print(f"{read.path}: {sentence}", markup=False, highlight=False)
        rest = len(read.repaired) - _MENDED_SHOWN
        if rest > 0:
            console.print(f"{read.path}: {rest} more like these", markup=False, highlight=False)


def _origin(data: PreparedData) -> dict[str, str]:
    """Hashes of what the training learns from, which no setting shows when it changes."""
    return {
        "training annotations": data.train_annotations.content_hash(),
        "training images": data.train_store.checksum,
        "validation annotations": data.validation_annotations.content_hash(),
        "validation images": data.validation_store.checksum,
    }


def _file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_origin(out: Path, origin: dict[str, str]) -> None:
    """Refuse to go on with other data or another teacher.

    Raises:
        TrainingFolderError: saying what has changed.
    """
    path = out / ORIGIN_FILE
    if (out / STATE_FILE).is_file() and path.is_file():
        begun_with = json.loads(path.read_text(encoding="utf-8"))
        changed = [name for name in origin if begun_with.get(name) != origin[name]]
        if changed:
            raise TrainingFolderError(
                f"{out}: its training was begun with other contents of: {', '.join(changed)}. "
                "Bring them back, or begin anew in another folder with --out"
            )


def _train(
    trainer: Trainer, data: PreparedData, out: Path, progress: OnProgress, console: Console
) -> tuple[EvaluationResult, DetectedBoxes]:
    """Train to the end, or go on to it; returns the last evaluation and the detections that were judged."""
    log, state = out / EPOCHS_FILE, out / STATE_FILE
    epochs: list[dict[str, float]] = []
    if state.is_file():
        trainer.load(state)
        epochs = json.loads(log.read_text(encoding="utf-8"))[: trainer.epoch]
        console.print(f"going on after epoch {trainer.epoch} of {trainer.total_epochs}", markup=False, highlight=False)
    metrics: dict[str, float] = {}
    judged: tuple[EvaluationResult, DetectedBoxes] | None = None

    def on_step(step: int, steps_per_epoch: int, parts: Mapping[str, float]) -> None:
        progress(
            TrainingProgress(
                title="student",
                step=trainer.epoch * steps_per_epoch + step,
                total_steps=trainer.total_epochs * steps_per_epoch,
                epoch=trainer.epoch + 1,
                total_epochs=trainer.total_epochs,
                numbers={**parts, **metrics},
            )
        )

    while trainer.epoch < trainer.total_epochs:
        with UsageMeter(trainer.device) as meter:
            measured = trainer.train_epoch(on_step)
            if trainer.is_evaluation_due:
                judged = _evaluate(trainer, data)
                metrics = judged[0].as_metrics()
                measured |= metrics
        measured |= meter.read()
        epochs.append(measured)
        # The log first: a state without its log could not go on, a log that is an epoch ahead is cut.
        write_json(log, epochs)
        trainer.save(state)
        words = f"epoch {trainer.epoch}/{trainer.total_epochs}: {_words(measured)}"
        console.print(words, markup=False, highlight=False)
    # The last epoch is always judged; a training that was finished before has it still to be done.
    return judged or _evaluate(trainer, data)


def _evaluate(trainer: Trainer, data: PreparedData) -> tuple[EvaluationResult, DetectedBoxes]:
    detections = trainer.detections()
    protocol = load_protocol(trainer.config.evaluation.protocol)
    return evaluate_boxes(data.validation_annotations.ground_truth(), detections, protocol), detections


def _write_results(trainer: Trainer, evaluation: EvaluationResult, results: list[dict[str, Any]], out: Path) -> None:
    metrics = evaluation.as_metrics()
    cost = {NUM_PARAMS: trainer.cost.num_params, FLOPS: trainer.cost.flops, GMACS: trainer.cost.gmacs}
    trainer.export_student(out / WEIGHTS_FILE, metrics)
    write_atomically(out / DETECTIONS_FILE, json.dumps(results, allow_nan=False))
    write_json(out / CURVE_FILE, evaluation.curves())
    write_json(out / METRICS_FILE, {**metrics, **cost})


def _words(numbers: Mapping[str, float]) -> str:
    """The numbers that people wait for, as far as they are known."""
    words = []
    if TOTAL_LOSS in numbers:
        words.append(f"loss {numbers[TOTAL_LOSS]:.3f}")
    if MR2_REASONABLE in numbers:
        words.append(f"MR^-2 (reasonable) {100 * numbers[MR2_REASONABLE]:.2f} %")
    if SECONDS in numbers:
        words.append(f"{numbers[SECONDS]:.0f} s")
    return ", ".join(words)
