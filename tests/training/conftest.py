"""Data that the tests of this folder share: reading it is not what they test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from hkd.data.prepare import PreparedData, prepare_data
from tests.training.tiny import trial_config


@pytest.fixture(scope="package", autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small take longer in two threads, which wait for each other at every layer."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def scenes_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scenes")


@pytest.fixture(scope="session")
def data(scenes_dir: Path) -> PreparedData:
    """Five training scenes and three validation scenes."""
    return prepare_data(trial_config(scenes_dir).data, progress=False)
