"""The state of a training between two epochs, as a file: what an interrupted training resumes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from hkd.files import read_record, replace_atomically
from hkd.models.weight_formats.errors import CheckpointError
from hkd.models.weight_formats.unpickling import load_tensors_only

STATE_FORMAT = "hkd.training_state.1"
_REMEDY = "start the training again in another folder"

T = TypeVar("T")


def save_state(
    path: Path,
    settings: Mapping[str, Any],
    modules: Sequence[nn.Module],
    optimizer: torch.optim.Optimizer,
    *,
    epoch: int,
) -> None:
    """Write a training's state.

    Args:
        settings: Those that must be the same when the state is restored, by dotted name.
        modules: All that are trained or averaged.
        epoch: Number of epochs trained.
    """
    state = {
        "format": STATE_FORMAT,
        "settings": settings,
        "epoch": epoch,
        "modules": [module.state_dict() for module in modules],
        "optimizer": optimizer.state_dict(),
    }
    with replace_atomically(path) as partial:
        torch.save(state, partial)


def restore_state(
    path: Path,
    settings: Mapping[str, Any],
    modules: Sequence[nn.Module],
    optimizer: torch.optim.Optimizer,
    *,
    total_epochs: int,
) -> int:
    """Load what :func:`save_state` wrote into the same modules and optimiser; returns the number of epochs trained.

    Raises:
        CheckpointError: as :func:`load_state`, or the state is not of these modules.
    """
    state = load_state(path, settings)
    try:
        for module, tensors in zip(modules, state["modules"], strict=True):
            module.load_state_dict(tensors)
        optimizer.load_state_dict(state["optimizer"])
        epoch = state["epoch"]
        if type(epoch) is not int or not 0 <= epoch <= total_epochs:
            raise ValueError(f"epoch {epoch!r}")
    except (KeyError, TypeError, AttributeError, ValueError, RuntimeError, IndexError) as error:
        raise CheckpointError(
            f"{path}: is a damaged training state ({type(error).__name__}: {str(error)[:200]}); {_REMEDY}"
        ) from error
    return epoch


def load_state(path: Path, settings: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Read what :func:`save_state` wrote, tensors on the CPU.

    Args:
        settings: Compared with those of the state; None compares nothing.

    Raises:
        CheckpointError: the file is absent, damaged, not a training state, or of a training with other settings.
    """
    state = load_tensors_only(path)
    if not isinstance(state, dict) or state.get("format") != STATE_FORMAT:
        raise CheckpointError(f'{path}: not a training state that this version of hkd reads ("{STATE_FORMAT}")')
    if settings is not None:
        saved = state.get("settings")
        if not isinstance(saved, dict):
            raise CheckpointError(f"{path}: is a damaged training state: it has no settings")
        different = [
            f"{name} was {saved.get(name)!r} and is {settings.get(name)!r}"
            for name in sorted(saved.keys() | settings.keys())
            if saved.get(name) != settings.get(name)
        ]
        if different:
            raise CheckpointError(
                f"{path}: is the state of a training with other settings: {'; '.join(different)}. "
                "Resume with the settings it was started with, or start a new training."
            )
    return state


def read_training_record(path: Path, kind: type[T]) -> T:
    """The content of a JSON file that a training wrote beside its state.

    Raises:
        CheckpointError: the file is absent or damaged, or its content is not of this kind.
    """
    try:
        content = read_record(path)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise CheckpointError(f"{path}: is damaged ({str(error)[:200]}); {_REMEDY}") from error
    if not isinstance(content, kind):
        raise CheckpointError(f"{path}: is damaged; {_REMEDY}")
    return content
