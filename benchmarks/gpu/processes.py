"""Throughput of several trials that share a device, each in its own process."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

from benchmarks.gpu.records import Measurement
from benchmarks.gpu.sections import Settings
from benchmarks.step.report import markdown_table
from benchmarks.step.timing import print_progress
from benchmarks.step.workload import Workload

_ROOT = Path(__file__).parents[2]
_GAIN_WORTH_A_PROCESS = 0.05
"""Additional throughput below which more processes are not worth their memory."""


@dataclass(frozen=True)
class Throughput:
    """Of some processes together."""

    processes: int
    steps_per_second: float


class Worker:
    """A process of :mod:`benchmarks.gpu.worker`."""

    def __init__(self, settings: Settings) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.gpu.worker", json.dumps(asdict(settings))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=_ROOT,
        )

    def start(self, seconds: float) -> None:
        """Make it train for a time."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{seconds}\n")
        self._process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """Its next line.

        Raises:
            RuntimeError: it ended; its error is on stderr.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a process that trains ended with exit status {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


def measure_processes(workload: Workload, settings: Settings) -> Measurement:
    """Steps per second of 1, 2, 4, ... processes; the others are idle, but keep their memory."""
    # With the device that this process resolved.
    settings = replace(settings, device=workload.device.type)
    print_progress(f"processes: starting {settings.processes}")
    with ExitStack() as stack:
        workers = [stack.enter_context(Worker(settings)) for _ in range(settings.processes)]
        answers = [worker.answer() for worker in workers]
        ready = [worker for worker, answer in zip(workers, answers, strict=True) if "error" not in answer]
        errors = [answer["error"] for answer in answers if "error" in answer]
        if not ready:
            raise RuntimeError(f"no process fits the device: {errors[0]}")
        found = []
        for count in numbers_of_processes(len(ready)):
            print_progress(f"processes: {count} at the same time")
            for worker in ready[:count]:
                worker.start(settings.seconds)
            done = [worker.answer() for worker in ready[:count]]
            found.append(Throughput(count, sum(own["steps"] / own["seconds"] for own in done)))
    return _measurement(found, workload.batch_size, errors, settings.processes)


def numbers_of_processes(largest: int) -> list[int]:
    """Powers of two up to a number, and the number."""
    powers = [2**exponent for exponent in range(largest.bit_length()) if 2**exponent <= largest]
    return powers if powers[-1] == largest else [*powers, largest]


def worthwhile(found: list[Throughput]) -> Throughput:
    """The last number of processes up to which each step up adds more than :data:`_GAIN_WORTH_A_PROCESS`."""
    best = found[0]
    for current in found[1:]:
        if current.steps_per_second < (1 + _GAIN_WORTH_A_PROCESS) * best.steps_per_second:
            break
        best = current
    return best


def _measurement(found: list[Throughput], batch_size: int, errors: list[str], started: int) -> Measurement:
    one = found[0].steps_per_second
    rows = [
        [
            str(own.processes),
            f"{own.steps_per_second:.2f}",
            f"{batch_size * own.steps_per_second:.1f}",
            f"{1e3 * own.processes / own.steps_per_second:.0f}",
            f"{own.steps_per_second / one:.2f}x",
        ]
        for own in found
    ]
    header = [
        "processes with a distilled training each",
        "steps/s together",
        "images/s together",
        "ms of a step of each",
        "throughput over one process",
    ]
    tables = markdown_table(header, rows)
    if errors:
        tables += f"\n\n{len(errors)} of {started} processes did not fit the device: {errors[0]}"
    best = worthwhile(found)
    gain = f"{best.steps_per_second / one:.2f} times the throughput of one"
    if best.processes == 1:
        meaning = f"More than one trial on this device add less than {100 * _GAIN_WORTH_A_PROCESS:.0f} % of throughput."
    elif best is found[-1]:
        meaning = f"{best.processes} trials on one device, the most that were run, reach {gain}."
    else:
        meaning = (
            f"{best.processes} trials on one device reach {gain}; the next number of them adds less than "
            f"{100 * _GAIN_WORTH_A_PROCESS:.0f} %."
        )
    return Measurement(tables, meaning, {"throughput": [asdict(own) for own in found], "errors": errors})
