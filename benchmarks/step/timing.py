"""Timing of single calls and of interleaved calls, with quartiles."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

_started = time.perf_counter()


@dataclass(frozen=True)
class Spread:
    """Median and quartiles of repeated measurements."""

    median: float
    lower_quartile: float
    upper_quartile: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Median and quartiles of at least one value."""
        low, high = np.quantile(values, [0.25, 0.75]).tolist()
        return cls(statistics.median(values), low, high)

    def inverse(self, numerator: float = 1.0) -> Spread:
        """Median and quartiles of ``numerator / value``."""
        return Spread(numerator / self.median, numerator / self.upper_quartile, numerator / self.lower_quartile)


def milliseconds_of(call: Callable[[], object], device: torch.device) -> float:
    """Milliseconds of one call; on a GPU from an empty queue to the end of its last kernel."""
    if device.type != "cuda":
        started = time.perf_counter()
        call()
        return 1e3 * (time.perf_counter() - started)
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    torch.cuda.synchronize(device)
    start.record()
    call()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end))


def time_interleaved(
    calls: Mapping[str, Callable[[], object]], rounds: int, warm_up_rounds: int, device: torch.device, title: str
) -> dict[str, list[float]]:
    """Milliseconds of each call in each round; a round runs every call once.

    Interleaving spreads other load of the machine over all calls. The order is shuffled in every round (with a fixed
    seed), so that no call always follows the same one.
    """
    generator = np.random.default_rng(0)
    names = list(calls)
    by_name: dict[str, list[float]] = {name: [] for name in names}
    for number in range(-warm_up_rounds, rounds):
        print_progress(f"{title}: {'warming up' if number < 0 else f'round {number + 1} of {rounds}'}")
        for index in generator.permutation(len(names)).tolist():
            milliseconds = milliseconds_of(calls[names[index]], device)
            if number >= 0:
                by_name[names[index]].append(milliseconds)
    return by_name


def ratios(numerators: Sequence[float], denominators: Sequence[float]) -> Spread:
    """Median and quartiles of the ratios of paired values, which come from the same round."""
    return Spread.of([above / below for above, below in zip(numerators, denominators, strict=True)])


def print_progress(message: str) -> None:
    """Print a progress message with the elapsed time to stderr."""
    print(f"[{time.perf_counter() - _started:5.0f} s] {message}", file=sys.stderr, flush=True)
