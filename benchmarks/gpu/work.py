"""The workload that settings describe."""

from __future__ import annotations

import torch

from benchmarks.gpu.sections import Settings
from benchmarks.step.workload import Workload, default_workload
from hkd.runtime.device import resolve_device


def workload_of(settings: Settings) -> Workload:
    """Device, batch and image size.

    Raises:
        DeviceError: the device is ``cuda``, and torch finds none.
    """
    assert settings.device in (None, "cpu", "cuda")
    device: torch.device = resolve_device("auto" if settings.device is None else settings.device)  # type: ignore[arg-type]
    return default_workload(device, settings.batch_size, settings.height, settings.width)
