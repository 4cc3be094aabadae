"""Settings of a process before it trains."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from hkd.runtime import process
from hkd.runtime.process import configure_process


@pytest.fixture
def allocator_calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    calls: list[str] = []
    threads = torch.get_num_threads()
    monkeypatch.setattr(process, "keep_freed_memory", lambda: calls.append("keep_freed_memory"))
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    yield calls
    torch.set_num_threads(threads)


def test_cpu_keeps_freed_memory(allocator_calls: list[str]) -> None:
    configure_process(torch.device("cpu"))
    assert allocator_calls == ["keep_freed_memory"]
    assert not torch.backends.cudnn.benchmark


def test_gpu_lets_cudnn_choose_kernels(allocator_calls: list[str]) -> None:
    configure_process(torch.device("cuda"))
    assert allocator_calls == []
    assert torch.backends.cudnn.benchmark


@pytest.mark.usefixtures("allocator_calls")
def test_threads_are_set_unless_zero() -> None:
    configure_process(torch.device("cpu"), num_threads=3)
    assert torch.get_num_threads() == 3
    configure_process(torch.device("cpu"))
    assert torch.get_num_threads() == 3
