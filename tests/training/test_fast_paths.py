"""What makes a step fast must not move its result: the fast ways against the plain ones, step by step."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from hkd.data.prepare import PreparedData
from hkd.distillation import objective
from hkd.models.build import build_detector
from hkd.models.detector import Detector
from hkd.training import loop
from hkd.training.loop import Trainer
from tests.training.tiny import TEACHER_SHAPE, trial_config

STEPS_PER_EPOCH = 2
EPOCHS = 10


def _losses(trainer: Trainer) -> Tensor:
    """The total loss of every step."""
    losses: list[float] = []
    for _ in range(EPOCHS):
        trainer.train_epoch(lambda _step, _steps, parts: losses.append(parts["loss_total"]))
    assert len(losses) == EPOCHS * STEPS_PER_EPOCH
    return torch.tensor(losses)


def test_fp32_losses_are_those_of_the_plain_paths_over_20_steps(
    scenes_dir: Path, data: PreparedData, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = trial_config(scenes_dir, training__total_epochs=EPOCHS, training__precision="fp32")
    torch.manual_seed(1)
    teacher = build_detector(TEACHER_SHAPE)
    fast = _losses(Trainer(config, data, teacher))

    def leave_as_it_is(detector: Detector, dtype: torch.dtype) -> Detector:
        return detector.requires_grad_(False).eval()

    def make_the_map(adapter: nn.Module, features: Tensor, kind: str) -> tuple[Tensor, None]:
        return adapter(features), None

    monkeypatch.setattr(loop, "freeze_detector", leave_as_it_is)
    monkeypatch.setattr(objective, "_adapt", make_the_map)
    plain = _losses(Trainer(config, data, teacher))
    torch.testing.assert_close(fast, plain, rtol=1e-4, atol=0)
    assert not torch.equal(fast, plain), "both were the same path"
