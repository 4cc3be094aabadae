"""The fraction of a GPU that a trial reserves, from the memory that it needs; imports nothing of Ray."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hkd.runtime.memory import format_bytes
from hkd.training.memory import MemoryNeed

HEADROOM = 0.15
"""Added to the measured peak, as a fraction of it: for fragmentation, and for other kernels on a busy GPU."""
MAX_TRIALS_PER_GPU = 16
"""Each trial is a process that takes host memory, too."""
SHARE_DIGITS = 4
"""Decimals of a fractional GPU that Ray distinguishes."""


@dataclass(frozen=True)
class GpuShare:
    """The fraction of a GPU for one trial, and the reason."""

    share: float
    reason: str
    """One line for the console."""


def gpu_share(need: MemoryNeed) -> GpuShare:
    """The fraction of a GPU for a trial of this need: one over the number of such trials that fit, with headroom.

    Rounded down to Ray's resolution, so that this number of trials fits a GPU and one more does not.
    """
    if need.device_type != "cuda":
        return GpuShare(1.0, "Memory: torch finds no GPU on the worker; each trial reserves a whole one")
    wanted = (1 + HEADROOM) * need.peak_bytes
    fitting = max(1, min(MAX_TRIALS_PER_GPU, math.floor(need.device_bytes / wanted)))
    share = math.floor(10**SHARE_DIGITS / fitting) / 10**SHARE_DIGITS
    shared_by = "one trial has a GPU to itself" if fitting == 1 else f"{fitting} trials share a GPU"
    return GpuShare(
        share,
        f"Memory: the largest student needs {format_bytes(need.peak_bytes)} of a GPU's "
        f"{format_bytes(need.device_bytes)}; "
        f"with {100 * HEADROOM:.0f} % headroom, {shared_by}",
    )
