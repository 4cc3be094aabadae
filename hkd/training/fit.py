"""The loop over the epochs of a training, which a command, a teacher, a trial and a benchmark share."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hkd.coco.detections import DetectedBoxes
from hkd.evaluation.evaluator import EvaluationResult
from hkd.files import write_json
from hkd.runtime.out_of_memory import first_line, is_out_of_memory
from hkd.runtime.usage import UsageMeter
from hkd.training.memory import batch_too_large
from hkd.training.progress import OnProgress, TrainingProgress, ignore_progress
from hkd.training.state import read_training_record
from hkd.training.trainer import OnStep, Trainer

STATE_FILE = "training_state.pt"
LOG_FILE = "epochs.json"


@dataclass(frozen=True)
class Evaluation:
    """An evaluation on the validation images, with the detections it was computed from."""

    result: EvaluationResult
    detections: DetectedBoxes


@dataclass(frozen=True)
class EpochResult:
    """What one epoch measured, by metric name."""

    epoch: int
    """Number of epochs trained so far."""
    training: Mapping[str, float] = field(default_factory=dict)
    """See :meth:`hkd.training.trainer.Trainer.train_epoch`; empty if the training had ended before."""
    usage: Mapping[str, float] = field(default_factory=dict)
    """Memory and utilisation, of training and evaluation; see :class:`hkd.runtime.usage.UsageMeter`."""
    evaluation: Evaluation | None = None
    """None where no evaluation was due."""

    @property
    def metrics(self) -> dict[str, float]:
        """Metrics of the evaluation; empty where none was due."""
        return {} if self.evaluation is None else self.evaluation.result.as_metrics()

    @property
    def measured(self) -> dict[str, float]:
        """All of the above."""
        return {**self.training, **self.metrics, **self.usage}


def fit(
    trainer: Trainer,
    folder: Path | None = None,
    *,
    title: str = "student",
    progress: OnProgress = ignore_progress,
    evaluate_after: Collection[int] = (),
) -> Iterator[EpochResult]:
    """Train the remaining epochs, evaluate where the schedule requires it, and yield after each epoch.

    The last result always has an evaluation. A training that has ended already, as one resumed after its last epoch, is
    only evaluated.

    Args:
        folder: After each epoch the log (``epochs.json``: what each epoch measured) and the training's state are
            written there; None writes nothing. See :func:`resume`.
        title: What is trained, for the progress.
        progress: Called after each step, with the latest losses and the metrics of the latest evaluation.
        evaluate_after: Epochs after which to evaluate beside those of the schedule.

    Raises:
        NonFiniteLossError: the training diverged.
        BatchTooLargeError: a step does not fit the memory; with the largest batch that does.
        FirstWeightsMemoryError: the fit of first weights does not.
    """
    if trainer.epoch == trainer.total_epochs:
        yield EpochResult(trainer.epoch, evaluation=_evaluate(trainer))
        return
    log = read_log(folder)[: trainer.epoch] if folder is not None and trainer.epoch else []
    metrics: dict[str, float] = {}

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
        with UsageMeter(trainer.device) as meter:
            training = _train_epoch(trainer, on_step)
            is_due = trainer.is_evaluation_due or trainer.epoch in evaluate_after
            evaluation = _evaluate(trainer) if is_due else None
        result = EpochResult(trainer.epoch, training, meter.read(), evaluation)
        metrics = result.metrics or metrics
        if folder is not None:
            log.append(result.measured)
            # The log first: a state without its log could not be resumed, a log that is an epoch ahead is truncated.
            write_json(folder / LOG_FILE, log)
            trainer.save(folder / STATE_FILE)
        yield result


def resume(trainer: Trainer, folder: Path) -> bool:
    """Load the state that an interrupted :func:`fit` left in ``folder``; returns whether there was one.

    Raises:
        CheckpointError: the state is unreadable, or of a training with other settings.
    """
    state = folder / STATE_FILE
    if not state.is_file():
        return False
    trainer.load(state)
    return True


def read_log(folder: Path) -> list[dict[str, float]]:
    """What each epoch of a :func:`fit` in ``folder`` measured.

    Raises:
        CheckpointError: the log is absent or damaged.
    """
    epochs: list[dict[str, float]] = read_training_record(folder / LOG_FILE, list)
    return epochs


def _train_epoch(trainer: Trainer, on_step: OnStep) -> dict[str, float]:
    try:
        return trainer.train_epoch(on_step)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        reason = first_line(error)
    # Outside the clause above: the error's traceback keeps the tensors of the failed step alive.
    raise batch_too_large(trainer, reason)


def _evaluate(trainer: Trainer) -> Evaluation:
    detections = trainer.detect()
    return Evaluation(trainer.evaluate(detections), detections)
