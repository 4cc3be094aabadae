"""What makes a step fast must not move its result: the fast ways against the plain ones, step by step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hkd.data.prepare import PreparedData
from hkd.distillation import objective
from hkd.models.build import build_detector
from hkd.models.detector import Detector
from hkd.training import loop
from hkd.training.loop import Trainer
from hkd.training.step import StepLoss, training_loss
from tests.training.tiny import TEACHER_SHAPE, trial_config

STEPS_PER_EPOCH = 2
EPOCHS = 10


def test_fp32_losses_are_those_of_the_plain_paths_over_20_steps(
    scenes_dir: Path, data: PreparedData, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = trial_config(scenes_dir, training__total_epochs=EPOCHS, training__precision="fp32")
    torch.manual_seed(1)
    plain_teacher = build_detector(TEACHER_SHAPE).requires_grad_(False).eval()
    losses: list[tuple[StepLoss, StepLoss]] = []

    def make_the_map(adapter: nn.Module, features: Tensor, kind: str) -> tuple[Tensor, None]:
        return adapter(features), None

    def both_ways(student: Detector, teacher: Detector, *arguments: Any, **settings: Any) -> StepLoss:
        # From the same weights at every step: rounding alone, let run, ends in other proposals, and another training.
        fast = training_loss(student, teacher, *arguments, **settings)
        with monkeypatch.context() as plainly:
            plainly.setattr(objective, "_adapt", make_the_map)
            plain = training_loss(student, plain_teacher, *arguments, **settings)
        losses.append((fast, plain))
        return fast

    monkeypatch.setattr(loop, "training_loss", both_ways)
    trainer = Trainer(config, data, plain_teacher)
    for _ in range(EPOCHS):
        trainer.train_epoch()
    assert len(losses) == EPOCHS * STEPS_PER_EPOCH
    fast, plain = (
        torch.tensor([[float(value) for value in both[way].parts.values()] for both in losses]) for way in (0, 1)
    )
    torch.testing.assert_close(fast, plain, rtol=1e-4, atol=1e-6)
    assert not torch.equal(fast, plain), "both were the same path"
