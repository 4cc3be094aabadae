"""Device usage of a training: peak memory, and the fraction of time in which the device computes."""

from __future__ import annotations

import functools
import sys
import threading
import time
from collections.abc import Callable
from typing import Self

import torch

from hkd.metric_names import PEAK_MEMORY_BYTES, UTILISATION
from hkd.runtime.memory import peak_resident_bytes, reset_peak_resident_bytes

SECONDS_BETWEEN_SAMPLES = 0.5
"""Between samples of a GPU's utilisation, which the driver averages over a sixth of a second to one second."""

UtilisationReader = Callable[[], float]
"""Current utilisation of a device, per cent."""


class UsageMeter:
    """Measures its ``with`` block.

    Args:
        device: Device of the training. Entering the block resets the process' peak memory on it, so that blocks must
            not overlap.
        read_gpu_utilisation: Sampled instead of the CPU's clock. The default on a GPU is NVIDIA's driver through torch
            and the package ``nvidia-ml-py``; without it utilisation is not measured.
    """

    def __init__(self, device: torch.device, *, read_gpu_utilisation: UtilisationReader | None = None) -> None:
        self._device = device
        self._read_gpu_utilisation = read_gpu_utilisation
        if device.type == "cuda" and read_gpu_utilisation is None:
            self._read_gpu_utilisation = functools.partial(torch.cuda.utilization, device)
        self._sampler: _Sampler | None = None
        self._measured: dict[str, float] = {}

    def __enter__(self) -> Self:
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        else:
            reset_peak_resident_bytes()
        if self._read_gpu_utilisation is not None:
            self._sampler = _Sampler(self._read_gpu_utilisation)
        self._started_at = time.perf_counter()
        self._cpu_seconds_before = time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        wall_seconds = time.perf_counter() - self._started_at
        cpu_seconds = time.process_time() - self._cpu_seconds_before
        utilisation: float | None
        is_gpu = self._device.type == "cuda"
        peak = torch.cuda.max_memory_allocated(self._device) if is_gpu else peak_resident_bytes()
        if self._sampler is not None:
            utilisation = self._sampler.stop()
        else:
            utilisation = cpu_utilisation(cpu_seconds, wall_seconds, torch.get_num_threads())
        self._measured = {PEAK_MEMORY_BYTES: float(peak)}
        if utilisation is not None:
            self._measured[UTILISATION] = utilisation

    def read(self) -> dict[str, float]:
        """The measurements, after the block.

        Returns:
            ``peak_memory_bytes``: on a GPU torch's peak allocation (weights, teacher, activations, without the CUDA
            context); on a CPU the peak resident memory of the process, including libraries and mapped images.
            ``utilisation``, in [0, 1]: on a CPU the process' CPU seconds over those of its threads; on a GPU the mean
            fraction of time in which it computed, for this process or another.
        """
        return dict(self._measured)


def cpu_utilisation(cpu_seconds: float, wall_seconds: float, num_threads: int) -> float:
    """CPU time over the time of all threads, in [0, 1].

    Threads other than torch's (Ray's), and the clock's resolution, may bring the ratio above 1: that counts as 1.
    """
    return min(1.0, cpu_seconds / max(num_threads * wall_seconds, sys.float_info.min))


class _Sampler:
    """Reads a utilisation at intervals in a thread."""

    def __init__(self, read: UtilisationReader) -> None:
        self._read = read
        self._samples: list[float] = []
        self._is_stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> float | None:
        """The mean of all samples as a fraction; None without samples."""
        self._is_stopped.set()
        self._thread.join()
        return sum(self._samples) / len(self._samples) / 100 if self._samples else None

    def _run(self) -> None:
        while True:
            try:
                self._samples.append(float(self._read()))
            except Exception:  # noqa: BLE001 (a figure for information: a driver's error must not end a training)
                return
            if self._is_stopped.wait(SECONDS_BETWEEN_SAMPLES):
                return
