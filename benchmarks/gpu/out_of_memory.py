"""The errors of trainings that run out of a GPU's memory, provoked by a limit on this process."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Protocol

import torch

from benchmarks.gpu.records import Measurement
from benchmarks.gpu.sections import Settings
from benchmarks.gpu.trainings import Trainings
from benchmarks.step.report import markdown_table
from benchmarks.step.timing import print_progress
from benchmarks.step.workload import Workload
from hkd.runtime.allocator import release_memory
from hkd.runtime.memory import format_bytes
from hkd.runtime.out_of_memory import allocation_failure
from hkd.training.memory import BatchTooLargeError, measure_need
from hkd.training.trainer import Trainer

_TOO_SMALL = 0.6
"""A limit as a fraction of what a step of the configured batch needs."""
_LARGE_ENOUGH = 1.2
"""A limit as a fraction of what a step with one image needs."""
_LARGE_EVALUATION_BATCH = 64
"""All of the benchmarks' images."""
_FREE_BYTES = 8 * 2**20
"""In addition to the weights: less than a step with one image needs."""


class DeviceMemory(Protocol):
    """The memory that this process may reserve on the device."""

    def limit(self, limit_bytes: int | None) -> None:
        """Limit it from now on; None removes the limit."""

    def reserved_bytes(self) -> int:
        """What is reserved now."""

    def peak_bytes(self, trainer: Trainer, batch_size: int, /) -> int:
        """The peak of what is reserved in two steps."""


class CudaMemory:
    """The memory of torch's CUDA allocator."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._total_bytes = torch.cuda.get_device_properties(device).total_memory

    def limit(self, limit_bytes: int | None) -> None:
        """Limit it by ``set_per_process_memory_fraction``."""
        fraction = 1.0 if limit_bytes is None else min(1.0, limit_bytes / self._total_bytes)
        torch.cuda.set_per_process_memory_fraction(fraction, self._device)

    def reserved_bytes(self) -> int:
        """What the allocator has reserved, without the CUDA context."""
        return torch.cuda.memory_reserved(self._device)

    def peak_bytes(self, trainer: Trainer, batch_size: int) -> int:
        """The peak of two steps."""
        torch.cuda.reset_peak_memory_stats(self._device)
        trainer.try_batch(batch_size)
        return torch.cuda.max_memory_reserved(self._device)


@dataclass(frozen=True)
class Case:
    """One training that does not fit."""

    name: str
    limit_bytes: int
    message: str | None
    """The error; None if the training fits."""


def measure_out_of_memory(workload: Workload, _: Settings, memory: DeviceMemory | None = None) -> Measurement:
    """The messages of trainings that run out of memory in a step, in an evaluation and with a single image.

    Also checks whether a new training with the batch size that the first message names fits the same limit.
    """
    trainings = Trainings(workload)
    memory = CudaMemory(workload.device) if memory is None else memory
    try:
        return _measure(trainings, memory)
    finally:
        memory.limit(None)


def _measure(trainings: Trainings, memory: DeviceMemory) -> Measurement:
    device = trainings.workload.device
    cases: list[Case] = []

    limit = int(_TOO_SMALL * _peak_bytes(trainings, memory, trainings.workload.batch_size))
    memory.limit(limit)
    cases.append(Case("training.batch_size", limit, _message(trainings.make())))
    release_memory(device)
    named = re.search(r"set training\.batch_size=(\d+)", cases[0].message or "")
    is_named_fitting = None if named is None else _is_fitting(trainings, int(named[1]))
    release_memory(device)
    memory.limit(None)

    limit = int(_LARGE_ENOUGH * _peak_bytes(trainings, memory, 1))
    memory.limit(limit)
    trainer = trainings.make(batch_size=1, evaluation_batch_size=_LARGE_EVALUATION_BATCH)
    cases.append(Case("evaluation.batch_size", limit, _message(trainer)))
    del trainer
    release_memory(device)
    memory.limit(None)

    trainer = trainings.make()
    release_memory(device)
    limit = memory.reserved_bytes() + _FREE_BYTES
    memory.limit(limit)
    cases.append(Case("a single image", limit, _message(trainer)))
    return _measurement(cases, is_named_fitting)


def _peak_bytes(trainings: Trainings, memory: DeviceMemory, batch_size: int) -> int:
    peak = memory.peak_bytes(trainings.make(), batch_size)
    release_memory(trainings.workload.device)
    return peak


def _message(trainer: Trainer) -> str | None:
    print_progress("out_of_memory: a training under a limit")
    try:
        measure_need(trainer)
    except BatchTooLargeError as error:
        return str(error)
    return None


def _is_fitting(trainings: Trainings, batch_size: int) -> bool:
    trainer = trainings.make()
    return allocation_failure(lambda: trainer.try_batch(batch_size)) is None


def _measurement(cases: list[Case], is_named_fitting: bool | None) -> Measurement:
    rows = [[case.name, format_bytes(case.limit_bytes), case.message or "no error: it fits"] for case in cases]
    failed = sum(case.message is not None for case in cases)
    meaning = f"{failed} of {len(cases)} trainings that were meant to exceed a limit ended with hkd's message"
    if is_named_fitting is None:
        meaning += "; the first message names no batch size that fits."
    else:
        fits = "fits" if is_named_fitting else "does not fit"
        meaning += f"; a new training with the batch size that the first message names {fits} the same limit."
    figures = {"cases": [asdict(case) for case in cases], "is_named_batch_fitting": is_named_fitting}
    return Measurement(markdown_table(["too large", "limit", "message"], rows), meaning, figures)
