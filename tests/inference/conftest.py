"""Data shared by the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tests.scenes import data, scenes_dir

__all__ = ["data", "scenes_dir"]


@pytest.fixture(scope="package", autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small take longer in two threads, which wait for each other at every layer."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
