"""The sections of the benchmark by name; importing this module imports no other package."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.gpu.packages import OF_TRAININGS, torch_version

MINUTES = 8.0
"""Time of all sections on one card."""


@dataclass(frozen=True)
class Section:
    """One part of the benchmark, which runs in a process of its own."""

    name: str
    title: str
    limit_seconds: int
    """After which it is ended; those of all sections are :data:`MINUTES` together, and --minutes scales them."""
    cuda_reason: str = ""
    """Why it runs on CUDA devices alone; empty if it runs on a CPU too."""
    packages: Mapping[str, str] = field(default_factory=dict)
    """Module -> requirement, in addition to :data:`benchmarks.gpu.packages.REQUIRED`."""


SECTIONS = {
    section.name: section
    for section in (
        Section("step", "Time of a training step", 90),
        Section(
            "synchronization",
            "Device-to-host synchronizations of a training step",
            40,
            "torch.cuda.set_sync_debug_mode detects synchronizations of CUDA devices alone",
        ),
        Section("cuda_graph", "CUDA graph of the step", 50, "only CUDA devices have CUDA graphs"),
        Section("memory", "Peak memory, and trials per GPU", 40, packages=OF_TRAININGS),
        Section(
            "out_of_memory",
            "Errors when memory runs out",
            50,
            "torch can limit the memory of a process on CUDA devices alone",
            OF_TRAININGS,
        ),
        Section("processes", "Several trials on one device", 90),
        Section("compile", "torch.compile of the step", 120),
    )
}
"""In the order in which they run: the one that may take longest is the last."""


@dataclass(frozen=True)
class Settings:
    """What a section measures, and how often."""

    device: str | None = None
    """``cpu`` or ``cuda``; None is a GPU if torch finds one, else the CPU."""
    batch_size: int | None = None
    """None is 8 on a CPU, 16 on a GPU."""
    height: int | None = None
    """Of the network's input, pixels; None is 192 on a CPU, 480 on a GPU."""
    width: int | None = None
    """Of the network's input, pixels; None is 256 on a CPU, 640 on a GPU."""
    rounds: int = 15
    """Rounds of one step of each implementation."""
    processes: int = 8
    """Largest number of processes that train at the same time."""
    seconds: float = 5.0
    """Time for which each number of processes trains."""

    def recorded(self) -> dict[str, Any]:
        """These settings and the version of torch: what results must have in common to be reported together."""
        return {**asdict(self), "torch": torch_version()}
