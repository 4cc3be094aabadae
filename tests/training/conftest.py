"""Data shared by the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from hkd.data.prepare import PreparedData
from hkd.models.detector import Detector
from hkd.training.trainer import Trainer
from tests.scenes import data, scenes_dir
from tests.training.tiny import TEACHER_SHAPE, build, trial_config

__all__ = ["data", "scenes_dir"]


@pytest.fixture(scope="package", autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small take longer in two threads, which wait for each other at every layer."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def teacher() -> Detector:
    return build(TEACHER_SHAPE, 1)


@pytest.fixture
def make(scenes_dir: Path, data: PreparedData, teacher: Detector) -> Callable[..., Trainer]:
    """Builds a distilling trainer from changes of the configuration."""

    def make_trainer(**changes: Any) -> Trainer:
        return Trainer(trial_config(scenes_dir, **changes), data, teacher)

    return make_trainer
