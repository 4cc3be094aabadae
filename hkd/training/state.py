"""The state of a training between two epochs, as a file: what an interrupted training resumes from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from hkd.files import replace_atomically
from hkd.models.weights import CheckpointError, load_tensors_only

STATE_FORMAT = "hkd.training_state.1"


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write nested dicts and lists of tensors, numbers and strings."""
    with replace_atomically(path) as partial:
        torch.save({"format": STATE_FORMAT, **state}, partial)


def load_state(path: Path) -> dict[str, Any]:
    """Read what :func:`save_state` wrote, tensors on the CPU.

    Raises:
        CheckpointError: the file is absent, damaged, or not a training state.
    """
    state = load_tensors_only(path)
    if not isinstance(state, dict) or state.get("format") != STATE_FORMAT:
        raise CheckpointError(f'{path}: not a training state that this version of hkd reads ("{STATE_FORMAT}")')
    return state
