"""Benchmarks measure trainings in processes that are configured as for a training."""

from __future__ import annotations

import pytest
import torch

from benchmarks.step import contenders
from benchmarks.step.contenders import BASELINE_FP32, BASELINE_SAMPLED, OURS, prepare_process


@pytest.mark.parametrize(("name", "expected"), [(OURS, 1), (BASELINE_SAMPLED, 1), (BASELINE_FP32, 0)])
def test_step_benchmark_keeps_freed_memory_except_for_plain_baseline(
    monkeypatch: pytest.MonkeyPatch, name: str, expected: int
) -> None:
    calls: list[None] = []
    monkeypatch.setattr(contenders, "keep_freed_memory", lambda: calls.append(None))
    with torch.random.fork_rng(devices=[]):
        prepare_process(name, torch.device("cpu"))
    assert len(calls) == expected
