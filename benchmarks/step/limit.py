"""How far a step is from what the machine's matrix units could do: its operations over their measured peak."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.step.breakdown import step_flops
from benchmarks.step.contenders import BASELINE_FP32, LABELS, Contender
from benchmarks.step.timing import milliseconds_of, tell

_REPETITIONS = 5
_MATRIX_SIZES = {"cpu": (512, 1024, 2048), "cuda": (2048, 4096, 8192)}
# Batch, channels, rows and columns of 3x3 convolutions such as the detectors make, and of one with many channels.
_CONVOLUTIONS = {
    "cpu": ((8, 256, 48, 64), (8, 512, 24, 32)),
    "cuda": ((16, 256, 120, 160), (16, 512, 60, 80), (64, 512, 60, 80)),
}
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Peak:
    """The most that one kind of operation reached."""

    operation: str
    """``matmul`` or ``conv``."""
    dtype: str
    """``fp32`` or ``bf16``."""
    teraflops_per_second: float
    size: str
    """Where it was reached."""


@dataclass(frozen=True)
class Distance:
    """One contender's step against the peak of its own type."""

    label: str
    teraflops: float
    """Operations of the step, 10^12."""
    milliseconds: float
    """Measured."""
    least_milliseconds: float
    """Of the operations at the peak."""

    @property
    def share_of_peak(self) -> float:
        """In [0, 1]."""
        return self.least_milliseconds / self.milliseconds


@dataclass(frozen=True)
class Limit:
    """What the machine could do, and what is made of it."""

    peaks: tuple[Peak, ...]
    distances: tuple[Distance, ...]


def measure_limit(
    contenders: Mapping[str, Contender], step_milliseconds: Mapping[str, float], device: torch.device
) -> Limit:
    """Counts each contender's operations and sets them against the best of several matrix products and convolutions.

    Args:
        step_milliseconds: of each contender's step.
    """
    peaks = tuple(_peak(operation, dtype, device) for dtype in _DTYPES for operation in ("matmul", "conv"))
    best = {name: max(peak.teraflops_per_second for peak in peaks if peak.dtype == name) for name in _DTYPES}
    distances = []
    for name, contender in contenders.items():
        tell(f"limit: counting the operations of {LABELS[name]}")
        teraflops = step_flops(contender.step) / contender.students / 1e12
        # Ours is in fp32 only where the machine is slower with bf16: then too, bf16's peak is no limit to it.
        peak = best["fp32"] if name == BASELINE_FP32 else max(best.values())
        distances.append(Distance(LABELS[name], teraflops, step_milliseconds[name], 1e3 * teraflops / peak))
    return Limit(peaks, tuple(distances))


def _peak(operation: str, dtype: str, device: torch.device) -> Peak:
    tell(f"limit: peak of {operation} in {dtype}")
    runs = _matmuls(dtype, device) if operation == "matmul" else _convolutions(dtype, device)
    reached = [(_fastest(call, device, flops), size) for size, flops, call in runs]
    teraflops_per_second, size = max(reached)
    return Peak(operation, dtype, teraflops_per_second, size)


def _fastest(call: Callable[[], object], device: torch.device, flops: int) -> float:
    """TFLOP/s of the fastest of some calls."""
    call()
    milliseconds = min(milliseconds_of(call, device) for _ in range(_REPETITIONS))
    return flops / milliseconds / 1e9


Run = tuple[str, int, Callable[[], Tensor]]
"""Size in words, operations, and the call."""


def _matmuls(dtype: str, device: torch.device) -> Iterator[Run]:
    for size in _MATRIX_SIZES[device.type]:
        left, right = (torch.randn(size, size, device=device).to(_DTYPES[dtype]) for _ in range(2))
        yield f"{size} x {size}", 2 * size**3, partial(torch.matmul, left, right)


def _convolutions(dtype: str, device: torch.device) -> Iterator[Run]:
    for shape in _CONVOLUTIONS[device.type]:
        channels = shape[1]
        images = torch.randn(shape, device=device).to(_DTYPES[dtype], memory_format=torch.channels_last)
        weight = torch.randn(channels, channels, 3, 3, device=device) / math.sqrt(9 * channels)
        weight = weight.to(_DTYPES[dtype], memory_format=torch.channels_last)
        convolve = partial(functional.conv2d, images, weight, padding=1)
        yield " x ".join(map(str, shape)), 2 * 9 * channels * images.numel(), convolve
