"""What a training takes of its machine: memory at its peak, and the share of time in which the device computes."""

from __future__ import annotations

import ctypes
import functools
import gc
import os
import re
import resource
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

import torch

from hkd.metric_names import PEAK_MEMORY_BYTES, UTILISATION

BYTES_PER_GIB = 2**30
SECONDS_BETWEEN_SAMPLES = 0.5
"""Of a GPU's utilisation, which the driver itself averages over a time between a sixth of a second and one second."""

_OWN_STATUS = Path("/proc/self/status")
_MACHINE_STATUS = Path("/proc/meminfo")
_OWN_GROUPS = Path("/proc/self/cgroup")
_GROUPS = Path("/sys/fs/cgroup")
_OWN_PEAK_RESET = Path("/proc/self/clear_refs")
# proc(5): "resets the peak resident set size to the process's current resident set size".
_RESET_PEAK = "5"

TellsUtilisation = Callable[[], float]
"""Utilisation of a device at this moment, in per cent."""


class UsageMeter:
    """Measures what is done in its ``with`` block.

    Args:
        device: Where the training computes. A process has one peak on each device, which entering the block begins
            anew: blocks must not overlap.
        gpu_utilisation: Asked now and then, in place of the CPU's clock. Unless given, on a GPU torch asks NVIDIA's
            driver by way of the package ``nvidia-ml-py``; where that is not installed utilisation is left out.
    """

    def __init__(self, device: torch.device, *, gpu_utilisation: TellsUtilisation | None = None) -> None:
        self._device = device
        self._tell = gpu_utilisation
        if device.type == "cuda" and gpu_utilisation is None:
            self._tell = functools.partial(torch.cuda.utilization, device)
        self._samples: _Samples | None = None
        self._measured: dict[str, float] = {}

    def __enter__(self) -> Self:
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        else:
            _reset_peak_resident_bytes()
        if self._tell is not None:
            self._samples = _Samples(self._tell)
        self._started = time.perf_counter()
        self._cpu_started = time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        wall_seconds = time.perf_counter() - self._started
        cpu_seconds = time.process_time() - self._cpu_started
        utilisation: float | None
        is_gpu = self._device.type == "cuda"
        peak = torch.cuda.max_memory_allocated(self._device) if is_gpu else peak_resident_bytes()
        if self._samples is not None:
            utilisation = self._samples.end()
        else:
            utilisation = cpu_utilisation(cpu_seconds, wall_seconds, torch.get_num_threads())
        self._measured = {PEAK_MEMORY_BYTES: float(peak)}
        if utilisation is not None:
            self._measured[UTILISATION] = utilisation

    def read(self) -> dict[str, float]:
        """What was taken, once the block has ended.

        Returns:
            ``peak_memory_bytes``: on a GPU the most that torch had allocated on it (weights, teacher, activations,
            not the CUDA context); on a CPU the most memory that the process had resident, libraries and mapped images
            included. ``utilisation``: on a CPU the process' CPU seconds over those of its threads, in [0, 1]; on a GPU
            the mean share of time in which it computed, for this process or for another.
        """
        return dict(self._measured)


def cpu_utilisation(cpu_seconds: float, wall_seconds: float, num_threads: int) -> float:
    """Share of the threads' time in which they computed, in [0, 1].

    Threads beside torch's (Ray's, the clock's own steps) may bring a process above its threads: that counts as 1.
    """
    return min(1.0, cpu_seconds / max(num_threads * wall_seconds, sys.float_info.min))


def peak_resident_bytes() -> int:
    """The most memory that this process had resident since that was last reset, or, off Linux, since it began."""
    try:
        found = re.search(r"^VmHWM:\s*(\d+) kB$", _OWN_STATUS.read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        found = None
    if found is not None:
        return int(found[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def release_memory(device: torch.device) -> None:
    """Give back to the system, or to the others on a GPU, what this process has freed but keeps for its next use."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif sys.platform.startswith("linux"):
        # What hkd.runtime.device.keep_freed_memory keeps; glibc's alone.
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def machine_bytes() -> int:
    """Memory of this machine, or of the container that this process runs in, whichever is less."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([physical, *(limit for limit, _ in _group_limits())])


def available_bytes() -> int:
    """Memory that could be had now without driving others out, or beyond the container; off Linux, all there is."""
    try:
        found = re.search(r"^MemAvailable:\s*(\d+) kB$", _MACHINE_STATUS.read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        found = None
    available = machine_bytes() if found is None else int(found[1]) * 1024
    return min([available, *(max(0, limit - used) for limit, used in _group_limits())])


def gibibytes(size_bytes: float) -> str:
    """A size for people: ``1.2 GiB``, of small ones ``340 MiB``."""
    if size_bytes < BYTES_PER_GIB:
        return f"{size_bytes / 2**20:.0f} MiB"
    return f"{size_bytes / BYTES_PER_GIB:.1f} GiB"


def _group_limits() -> list[tuple[int, int]]:
    """Limits of the memory of the control groups that this process is in, and what each uses of it; bytes.

    A group is bound by those above it as well. Where a container shows its own group as the root, the path that the
    process is told leads nowhere, and the root alone is read.
    """
    try:
        lines = _OWN_GROUPS.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    limits: list[tuple[int, int] | None] = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":  # version 2
            root, names = _GROUPS, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            root = _GROUPS / "memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        own = root / path.lstrip("/")
        limits += [_group_limit(group, *names) for group in (own, *own.parents) if group.is_relative_to(root)]
    return [limit for limit in limits if limit is not None]


def _group_limit(group: Path, limit_name: str, usage_name: str, cache_name: str) -> tuple[int, int] | None:
    """A group's limit and use, less the cached files that make way; None where it is bound to nothing."""
    try:
        limit = (group / limit_name).read_text(encoding="ascii").strip()
        usage = int((group / usage_name).read_text(encoding="ascii"))
        cached = re.search(rf"^{cache_name} (\d+)$", (group / "memory.stat").read_text(encoding="ascii"), re.MULTILINE)
    except (OSError, ValueError):
        return None
    if not limit.isdecimal():  # "max"
        return None
    return int(limit), usage - (0 if cached is None else int(cached[1]))


def _reset_peak_resident_bytes() -> None:
    # Elsewhere than on Linux, or where the kernel does not allow it, the peak is that of the process so far.
    try:
        _OWN_PEAK_RESET.write_text(_RESET_PEAK, encoding="ascii")
    except OSError:
        return


class _Samples:
    """Asks for a utilisation now and then, beside what is measured."""

    def __init__(self, tell: TellsUtilisation) -> None:
        self._tell = tell
        self._taken: list[float] = []
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._take, daemon=True)
        self._thread.start()

    def end(self) -> float | None:
        """Take no more; returns the mean of all as a fraction, None where there are none."""
        self._is_over.set()
        self._thread.join()
        return sum(self._taken) / len(self._taken) / 100 if self._taken else None

    def _take(self) -> None:
        while True:
            try:
                self._taken.append(float(self._tell()))
            except Exception:  # noqa: BLE001 (a figure for information: a silent driver must not end a training)
                return
            if self._is_over.wait(SECONDS_BETWEEN_SAMPLES):
                return
