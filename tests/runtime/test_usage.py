"""Measurement of peak memory and utilisation."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from hkd.runtime.allocator import release_memory
from hkd.runtime.memory import peak_resident_bytes
from hkd.runtime.usage import UsageMeter, cpu_utilisation

CPU = torch.device("cpu")


def test_cpu_utilisation_is_cpu_time_over_time_of_all_threads() -> None:
    # 3 CPU seconds in 2 s of two threads: 3 of 4.
    assert cpu_utilisation(3.0, 2.0, 2) == 0.75
    assert cpu_utilisation(2.5, 2.0, 1) == 1.0
    assert cpu_utilisation(0.0, 0.0, 1) == 0.0


def test_each_measurement_resets_peak_memory() -> None:
    release_memory(CPU)
    with UsageMeter(CPU) as nothing:
        pass
    with UsageMeter(CPU) as large:
        torch.ones(64 * 2**20, dtype=torch.uint8).sum()
    release_memory(CPU)
    with UsageMeter(CPU) as after:
        pass
    peaks = [meter.read()["peak_memory_bytes"] for meter in (nothing, large, after)]
    # 64 MiB were written; 8 MiB of tolerance for Python and torch themselves.
    assert peaks[1] - peaks[0] > 56 * 2**20
    assert peaks[1] - peaks[2] > 56 * 2**20
    assert peaks[2] <= peak_resident_bytes()


def test_cpu_meter_measures_utilisation_in_unit_interval() -> None:
    with UsageMeter(CPU) as meter:
        torch.ones(2**20).sin().sum()
    assert meter.read().keys() == {"peak_memory_bytes", "utilisation"}
    assert 0 < meter.read()["utilisation"] <= 1


def test_gpu_utilisation_is_mean_of_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hkd.runtime.usage.SECONDS_BETWEEN_SAMPLES", 0.001)
    answers: Iterator[float] = iter([60.0, 100.0])

    def read() -> float:
        # The third call raises StopIteration, which ends sampling.
        return next(answers)

    with UsageMeter(CPU, read_gpu_utilisation=read) as meter:
        while meter._sampler is not None and meter._sampler._thread.is_alive():
            pass
    assert meter.read()["utilisation"] == 0.8


def test_utilisation_is_left_out_without_driver_package() -> None:
    def read() -> float:
        raise ModuleNotFoundError("nvidia-ml-py does not seem to be installed or it can't be imported.")

    with UsageMeter(CPU, read_gpu_utilisation=read) as meter:
        pass
    assert meter.read().keys() == {"peak_memory_bytes"}


def test_sampling_stops_after_error_in_block() -> None:
    meter = UsageMeter(CPU, read_gpu_utilisation=lambda: 50.0)
    with pytest.raises(MemoryError), meter:
        raise MemoryError
    assert meter._sampler is not None
    assert not meter._sampler._thread.is_alive()
