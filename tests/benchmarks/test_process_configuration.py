"""Benchmarks measure trainings in processes that are configured as for a training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks import distillation_gain
from benchmarks.step import contenders
from benchmarks.step.contenders import BASELINE_FP32, BASELINE_SAMPLED, OURS, prepare_process
from tests.process_configuration import TrainerBuiltError, record_configuration
from tests.sweeps.tiny import tiny_trial


def test_training_of_distillation_gain_is_configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configured = record_configuration(monkeypatch, distillation_gain)
    raw = tiny_trial(tmp_path / "cache")
    raw["training"]["device"] = "cpu"
    with pytest.raises(TrainerBuiltError):
        distillation_gain._train(raw, "alone", 0, 3, Path("teachers/key/teacher.safetensors"), tmp_path)
    assert configured == [("cpu", 3)]


@pytest.mark.parametrize(("name", "expected"), [(OURS, 1), (BASELINE_SAMPLED, 1), (BASELINE_FP32, 0)])
def test_step_benchmark_keeps_freed_memory_except_for_plain_baseline(
    monkeypatch: pytest.MonkeyPatch, name: str, expected: int
) -> None:
    calls: list[None] = []
    monkeypatch.setattr(contenders, "keep_freed_memory", lambda: calls.append(None))
    with torch.random.fork_rng(devices=[]):
        prepare_process(name, torch.device("cpu"))
    assert len(calls) == expected
