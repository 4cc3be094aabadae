"""Every process that trains is configured first: a stand-in that records how."""

from __future__ import annotations

from types import ModuleType
from typing import Any, NoReturn

import pytest
import torch


class TrainerBuiltError(ValueError):
    """Ends a command where it would build its trainer."""


def record_configuration(
    monkeypatch: pytest.MonkeyPatch, module: ModuleType, builder: str = "Trainer"
) -> list[tuple[str, int]]:
    """Let ``module`` raise :class:`TrainerBuiltError` where it builds a trainer.

    Returns:
        Device type and number of threads of each earlier call of ``configure_process`` by the module.
    """
    configured: list[tuple[str, int]] = []

    def configure_process(device: torch.device, num_threads: int = 0) -> None:
        configured.append((device.type, num_threads))

    def stop(*_: Any, **__: Any) -> NoReturn:
        raise TrainerBuiltError

    monkeypatch.setattr(module, "configure_process", configure_process)
    monkeypatch.setattr(module, builder, stop)
    return configured
