"""How the speed benchmarks take the time: call by call, in turns, with the spread told."""

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
        """The spread of one value or more."""
        low, high = np.quantile(values, [0.25, 0.75]).tolist()
        return cls(statistics.median(values), low, high)

    def inverse(self, numerator: float = 1.0) -> Spread:
        """The spread of ``numerator / value``."""
        return Spread(numerator / self.median, numerator / self.upper_quartile, numerator / self.lower_quartile)


def milliseconds_of(call: Callable[[], object], device: torch.device) -> float:
    """Milliseconds of one call, which on a GPU begins with nothing queued and ends with its last kernel."""
    if device.type != "cuda":
        started = time.perf_counter()
        call()
        return 1e3 * (time.perf_counter() - started)
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    torch.cuda.synchronize(device)
    begin.record()
    call()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end))


def take_turns(
    calls: Mapping[str, Callable[[], object]], rounds: int, warm_up_rounds: int, device: torch.device, title: str
) -> dict[str, list[float]]:
    """Milliseconds of each call in each round, in which every call has one turn.

    What the machine does besides falls on all of them alike. The order within a round is drawn anew each time (with a
    fixed seed), so that nobody always follows the same neighbour.
    """
    generator = np.random.default_rng(0)
    names = list(calls)
    taken: dict[str, list[float]] = {name: [] for name in names}
    for number in range(-warm_up_rounds, rounds):
        tell(f"{title}: {'warming up' if number < 0 else f'round {number + 1} of {rounds}'}")
        for index in generator.permutation(len(names)).tolist():
            milliseconds = milliseconds_of(calls[names[index]], device)
            if number >= 0:
                taken[names[index]].append(milliseconds)
    return taken


def ratios(numerators: Sequence[float], denominators: Sequence[float]) -> Spread:
    """The spread of the ratio, pair by pair: both values of a pair come from the same round."""
    return Spread.of([above / below for above, below in zip(numerators, denominators, strict=True)])


def tell(message: str) -> None:
    """Says on stderr how far the benchmark is."""
    print(f"[{time.perf_counter() - _started:5.0f} s] {message}", file=sys.stderr, flush=True)
