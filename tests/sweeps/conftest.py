"""Studies to run, and a process in which a worker runs, for the tests of this folder."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.sweeps.study_doubles import Place
from tests.sweeps.tiny import write_tiny_study


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    return Place(tmp_path, monkeypatch)


@pytest.fixture
def restored_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A worker changes settings of its process, which is pytest's here."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", os.environ.get("CUDA_VISIBLE_DEVICES", ""))
    folder, threads = Path.cwd(), torch.get_num_threads()
    yield
    os.chdir(folder)
    torch.set_num_threads(threads)
    gc.unfreeze()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Working directory with tiny.yaml, without a running cluster."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / "ray"))
    write_tiny_study(tmp_path / "tiny.yaml", tmp_path / "cache")
    return tmp_path
