"""Time of a step compared to that of its floating-point operations at the machine's measured peak."""

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
from benchmarks.step.timing import milliseconds_of, print_progress

_REPETITIONS = 5
_SLOW_MILLISECONDS = 1000.0
_MATRIX_SIZES = {"cpu": (512, 1024, 2048), "cuda": (2048, 4096, 8192)}
# Batch, channels, rows and columns of 3x3 convolutions: shapes of the detectors, and a larger one for GPUs.
_CONVOLUTIONS = {
    "cpu": ((8, 256, 48, 64), (8, 512, 24, 32)),
    "cuda": ((16, 256, 120, 160), (16, 512, 60, 80), (64, 512, 60, 80)),
}
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Peak:
    """The highest throughput of one kind of operation."""

    operation: str
    """``matmul`` or ``conv``."""
    dtype: str
    """``fp32`` or ``bf16``."""
    teraflops_per_second: float
    size: str
    """Size of the operands at the peak."""


@dataclass(frozen=True)
class StepEfficiency:
    """One contender's step compared to the peak of its dtype."""

    label: str
    teraflops: float
    """Floating-point operations of the step, 10^12."""
    milliseconds: float
    """Measured time of the step."""
    least_milliseconds: float
    """Time of the operations at the peak."""

    @property
    def share_of_peak(self) -> float:
        """Achieved fraction of the peak, in [0, 1]."""
        return self.least_milliseconds / self.milliseconds


@dataclass(frozen=True)
class PeakPerformance:
    """Measured peaks, and the efficiency of each contender's step."""

    peaks: tuple[Peak, ...]
    distances: tuple[StepEfficiency, ...]


def measure_peaks(
    contenders: Mapping[str, Contender], step_milliseconds: Mapping[str, float], device: torch.device
) -> PeakPerformance:
    """Count each contender's operations, and compare them to the fastest of several matrix products and convolutions.

    ``step_milliseconds`` has the measured time of each contender's step.
    """
    peaks = tuple(_peak(operation, dtype, device) for dtype in _DTYPES for operation in ("matmul", "conv"))
    best = {name: max(peak.teraflops_per_second for peak in peaks if peak.dtype == name) for name in _DTYPES}
    distances = []
    for name, contender in contenders.items():
        print_progress(f"limit: counting the operations of {LABELS[name]}")
        teraflops = step_flops(contender.step) / contender.students / 1e12
        # hkd uses fp32 only on machines where bf16 is slower: the higher of both peaks applies to it.
        peak = best["fp32"] if name == BASELINE_FP32 else max(best.values())
        distances.append(StepEfficiency(LABELS[name], teraflops, step_milliseconds[name], 1e3 * teraflops / peak))
    return PeakPerformance(peaks, tuple(distances))


def _peak(operation: str, dtype: str, device: torch.device) -> Peak:
    print_progress(f"limit: peak of {operation} in {dtype}")
    runs = _matmuls(dtype, device) if operation == "matmul" else _convolutions(dtype, device)
    reached = []
    for size, flops, call in runs:
        milliseconds = milliseconds_of(call, device)
        # Only a dtype that the processor emulates is so slow; larger operands would take minutes.
        is_slow = milliseconds > _SLOW_MILLISECONDS
        if not is_slow:
            milliseconds = min(milliseconds_of(call, device) for _ in range(_REPETITIONS))
        reached.append((flops / milliseconds / 1e9, size))
        if is_slow:
            break
    teraflops_per_second, size = max(reached)
    return Peak(operation, dtype, teraflops_per_second, size)


Run = tuple[str, int, Callable[[], Tensor]]
"""Size as text, floating-point operations, and the call."""


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
