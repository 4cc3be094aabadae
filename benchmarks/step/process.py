"""What only a process of one's own can tell: the time to its first step, and the peak of its memory.

``python -m benchmarks.step.process OURS_OR_BASELINE ...`` makes a few steps and prints what they took, as JSON.
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
from benchmarks.step.timing import tell
from benchmarks.step.workload import Workload, default_workload

_IMPORTED = "imported"
_STEPPED = "first step done"
_STEPS = 3
"""Of a process: the second has the optimiser's state as well, the third what the allocator makes of both."""


@dataclass(frozen=True)
class ProcessFigures:
    """What one contender's own process took; seconds are medians over the processes."""

    label: str
    first_step_seconds: float
    """From the command to the end of the first step."""
    import_seconds: float
    """Of these: starting Python, and importing torch, torchvision, hkd and both contenders."""
    build_seconds: float
    """Detectors, optimiser, pictures."""
    step_seconds: float
    """The first step."""
    peak_mebibytes: float
    """On a CPU the process's largest resident size; on a GPU the largest sum of tensors."""
    imports_mebibytes: float
    """Of these: the process before anything was built; on a GPU 0."""


def measure_processes(
    names: Sequence[str], workload: Workload, threads: int, processes: int
) -> tuple[ProcessFigures, ...]:
    """The figures of each contender, from processes that run one after another, in turns."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for number in range(processes):
        for name in names:
            tell(f"fresh process {number + 1} of {processes}: {LABELS[name]}")
            found[name].append(_run(name, workload, threads))
    return tuple(
        ProcessFigures(LABELS[name], **{key: statistics.median(one[key] for one in all_) for key in all_[0]})
        for name, all_ in found.items()
    )


def _run(name: str, workload: Workload, threads: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.step.process", name, "--device", workload.device.type]
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
        raise RuntimeError(f"{' '.join(command)} ended with status {process.returncode}; its message stands above")
    figures: dict[str, float] = json.loads(rest)
    return {"first_step_seconds": first_step_seconds, "import_seconds": import_seconds, **figures}


def _wait_for(line: str, output: IO[str]) -> float:
    """When the child said so; or when it ended, should it break off."""
    for found in output:
        if found.strip() == line:
            break
    return time.perf_counter()


def main() -> int:
    """Make a few steps of one contender."""
    print(_IMPORTED, flush=True)
    arguments = _parser().parse_args()
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    imports_mebibytes = 0.0 if device.type == "cuda" else _resident_peak_mebibytes()
    prepare_process(arguments.name, device)
    began = time.perf_counter()
    workload = default_workload(device, arguments.batch_size, arguments.height, arguments.width)
    contender = Contenders(workload).make(arguments.name)
    built = time.perf_counter()
    float(contender.step())  # waits for a GPU
    first = time.perf_counter()
    print(_STEPPED, flush=True)
    for _ in range(_STEPS - 1):
        contender.step()
    is_gpu = device.type == "cuda"
    figures = {
        "build_seconds": built - began,
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
    """The largest resident size this process has had."""
    status = Path("/proc/self/status")
    if status.is_file():
        # Not ru_maxrss: on Linux a process starts with that of the one that forked it.
        for line in status.read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)  # bytes there, KiB elsewhere


if __name__ == "__main__":
    raise SystemExit(main())
