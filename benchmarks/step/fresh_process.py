"""Time to the first step and peak memory of a contender, measured in a fresh process.

The process, ``python -m benchmarks.step.fresh_process CONTENDER ...``, runs a few steps and prints its figures as JSON.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import torch

from benchmarks.step.contenders import LABELS, Contenders, prepare_process
from benchmarks.step.timing import print_progress
from benchmarks.step.workload import Workload, default_workload

_IMPORTED = "imported"
_STEPPED = "first step done"
_STEPS = 3
"""Steps of a process: memory grows with the optimiser's state after the first, and with fragmentation after that."""


@dataclass(frozen=True)
class ProcessFigures:
    """Time and memory of one contender, medians over its processes."""

    label: str
    first_step_seconds: float
    """From starting the process to the end of its first step."""
    import_seconds: float
    """Part of it: starting Python and importing torch, torchvision, hkd and the contenders."""
    build_seconds: float
    """Part of it: building detectors, optimiser and images."""
    step_seconds: float
    """Part of it: the first step."""
    peak_mebibytes: float
    """Peak resident size on a CPU, peak of allocated GPU memory on a GPU."""
    imports_mebibytes: float
    """Part of it: the process after its imports; 0 on a GPU."""


def measure_processes(
    names: Sequence[str], workload: Workload, threads: int, processes: int
) -> tuple[ProcessFigures, ...]:
    """Figures of each contender, from ``processes`` processes each, which run one after another and interleaved."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for number in range(processes):
        for name in names:
            print_progress(f"fresh process {number + 1} of {processes}: {LABELS[name]}")
            found[name].append(_run(name, workload, threads))
    return tuple(
        ProcessFigures(LABELS[name], **{key: statistics.median(one[key] for one in all_) for key in all_[0]})
        for name, all_ in found.items()
    )


def _run(name: str, workload: Workload, threads: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.step.fresh_process", name, "--device", workload.device.type]
    numbers = (workload.batch_size, workload.image_height, workload.image_width, threads)
    for option, value in zip(("--batch-size", "--height", "--width", "--threads"), numbers, strict=True):
        command += [option, str(value)]
    started = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as process:
        assert process.stdout is not None
        import_seconds = _wait_for(_IMPORTED, process.stdout) - started
        first_step_seconds = _wait_for(_STEPPED, process.stdout) - started
        rest = process.stdout.read()
    if process.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed with exit status {process.returncode}; its error is above")
    figures: dict[str, float] = json.loads(rest)
    return {"first_step_seconds": first_step_seconds, "import_seconds": import_seconds, **figures}


def _wait_for(line: str, output: IO[str]) -> float:
    """Time at which the child printed ``line``, or ended."""
    for found in output:
        if found.strip() == line:
            break
    return time.perf_counter()


def main() -> int:
    """Run a few steps of one contender."""
    print(_IMPORTED, flush=True)
    arguments = _parser().parse_args()
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    imports_mebibytes = 0.0 if device.type == "cuda" else _resident_peak_mebibytes()
    prepare_process(arguments.name, device)
    started = time.perf_counter()
    workload = default_workload(device, arguments.batch_size, arguments.height, arguments.width)
    contender = Contenders(workload).make(arguments.name)
    built = time.perf_counter()
    float(contender.step())  # synchronizes a GPU
    first = time.perf_counter()
    print(_STEPPED, flush=True)
    for _ in range(_STEPS - 1):
        contender.step()
    is_gpu = device.type == "cuda"
    figures = {
        "build_seconds": built - started,
        "step_seconds": first - built,
        "peak_mebibytes": torch.cuda.max_memory_allocated(device) / 2**20 if is_gpu else _resident_peak_mebibytes(),
        "imports_mebibytes": imports_mebibytes,
    }
    print(json.dumps(figures))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=LABELS)
    parser.add_argument("--device", choices=("cpu", "cuda"), required=True)
    for option in ("--batch-size", "--height", "--width", "--threads"):
        parser.add_argument(option, type=int, required=True)
    return parser


def _resident_peak_mebibytes() -> float:
    """Peak resident size of this process."""
    status = Path("/proc/self/status")
    if status.is_file():
        # Not ru_maxrss: on Linux a process inherits the value of its parent.
        for line in status.read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)  # bytes there, KiB elsewhere


if __name__ == "__main__":
    raise SystemExit(main())
