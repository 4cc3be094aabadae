"""Device-to-host synchronizations of a whole training step."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import torch

from benchmarks.gpu.records import Measurement
from benchmarks.gpu.sections import Settings
from benchmarks.step.contenders import LABELS, OURS, OURS_ALONE, Contenders
from benchmarks.step.hkd_trainer import HkdTrainer
from benchmarks.step.report import markdown_table
from benchmarks.step.workload import Workload
from hkd.training.step.epoch_record import EpochRecord, steps_between_syncs_on

_ROOT = Path(__file__).parents[2]
_WARM_UP_STEPS = 2
"""They allocate the optimiser's state, measure cuDNN's kernels and compute what is kept, such as anchors."""
_STEPS = 4
"""Steps observed; with the others they cross the end of an epoch of 64 images in batches of 16."""
_MESSAGE = "synchronizing CUDA operation"


def measure_synchronization(workload: Workload, _: Settings) -> Measurement:
    """Whether a step of the student alone and a distilled one pass under ``set_sync_debug_mode("error")``."""
    contenders = Contenders(workload)
    found: dict[str, str | None] = {}
    for name in (OURS_ALONE, OURS):
        trainer = contenders.make(name).trainer
        assert isinstance(trainer, HkdTrainer)
        found[name] = first_synchronization(trainer, workload.device, errors_on_synchronization)
    return _measurement(found)


def first_synchronization(
    trainer: HkdTrainer, device: torch.device, guard: Callable[[], AbstractContextManager[None]]
) -> str | None:
    """The stack of the first operation of a step that synchronizes; None if none does.

    Args:
        guard: Makes such operations raise a RuntimeError with the message of torch's CUDA debug mode.
    """
    interval = max(_WARM_UP_STEPS + _STEPS + 1, steps_between_syncs_on(device))
    record = EpochRecord(0, interval + 1, device, interval)
    for step in range(_WARM_UP_STEPS):
        _train_step(trainer, record, step)
    try:
        with guard():
            for step in range(_WARM_UP_STEPS, _WARM_UP_STEPS + _STEPS):
                _train_step(trainer, record, step)
    except RuntimeError as error:
        if _MESSAGE not in str(error):
            raise
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__]
        return "".join(traceback.format_list(frames)).replace(f"{_ROOT}/", "") + str(error).splitlines()[0]
    return None


@contextmanager
def errors_on_synchronization() -> Iterator[None]:
    """Torch's debug mode for synchronizations."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def _train_step(trainer: HkdTrainer, record: EpochRecord, step: int) -> None:
    """One step as in the training loop: data, losses, backward, optimiser, and the record of the losses."""
    (learner,) = trainer.learners
    loss = trainer.loss(learner, trainer.next_batch(), None)
    trainer.backward(learner, loss)
    norm = trainer.update(learner)
    record.add(step, {**loss.parts, "gradient_norm": norm})


def _measurement(found: dict[str, str | None]) -> Measurement:
    rows = [[LABELS[name], "none" if stack is None else "at least one"] for name, stack in found.items()]
    tables = [markdown_table(["one step", "synchronizations"], rows)]
    for name, stack in found.items():
        if stack is not None:
            tables.append(f"The first one of `{LABELS[name]}`:\n\n```\n{stack}\n```")
    if any(found.values()):
        meaning = "Python waits for the GPU within a step, at the place above, so that the GPU idles at each step."
    else:
        meaning = (
            f"{_STEPS} steps with data, losses, backward and optimiser contain no synchronization that torch's debug "
            "mode detects, so that Python queues kernels ahead of the GPU."
        )
    return Measurement("\n\n".join(tables), meaning, {"stacks": found})
