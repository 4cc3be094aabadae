"""Fast paths of a step do not change its result: compared with plain paths, step by step."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor, nn

from hkd.data.prepare import PreparedData
from hkd.distillation import objective
from hkd.distillation.objective import build_objective
from hkd.models import detector
from hkd.models.build import build_detector
from hkd.models.components.regions import region_table
from hkd.models.detector import Detector
from hkd.models.fused import fuse_for_inference
from hkd.structures import Batch, TabledPyramid, Targets
from hkd.training import trainer as trainer_module
from hkd.training.step.loss import StepLoss, forward_teacher_pyramid, training_loss
from hkd.training.trainer import Trainer
from tests.training.tiny import ALL_STAGES, SAMPLING, STUDENT, TEACHER_SHAPE, build, trial_config

STEPS_PER_EPOCH = 2
EPOCHS = 10


def make_the_map(adapter: nn.Module, features: Tensor, kind: str) -> tuple[Tensor, None]:
    """In the place of ``objective._adapt``: the adapted map itself, for every loss."""
    return adapter(features), None


def test_fp32_losses_equal_plain_paths_over_20_steps(
    scenes_dir: Path, data: PreparedData, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = trial_config(scenes_dir, training__total_epochs=EPOCHS, training__precision="fp32")
    torch.manual_seed(1)
    plain_teacher = build_detector(TEACHER_SHAPE).requires_grad_(False).eval()
    losses: list[tuple[StepLoss, StepLoss]] = []

    def both_ways(student: Detector, teacher: Detector, *arguments: Any, **settings: Any) -> StepLoss:
        # From the same weights at every step: rounding alone, let run, ends in other proposals, and another training.
        fast = training_loss(student, teacher, *arguments, **settings)
        with monkeypatch.context() as plainly:
            plainly.setattr(objective, "_adapt", make_the_map)
            plain = training_loss(student, plain_teacher, *arguments, **settings)
        losses.append((fast, plain))
        return fast

    monkeypatch.setattr(trainer_module, "training_loss", both_ways)
    trainer = Trainer(config, data, plain_teacher)
    for _ in range(EPOCHS):
        trainer.train_epoch()
    assert len(losses) == EPOCHS * STEPS_PER_EPOCH
    fast, plain = (
        torch.tensor([[float(value) for value in both[way].parts.values()] for both in losses]) for way in (0, 1)
    )
    torch.testing.assert_close(fast, plain, rtol=1e-4, atol=1e-6)
    assert not torch.equal(fast, plain), "both were the same path"


def batch_of(images: int, objects: int, height: int, width: int, seed: int) -> Batch:
    """Noise with pedestrians of all sizes; every second image is padded, every third has nobody in it.

    With no objects there is one slot, which is empty: a batch has at least one.
    """
    generator = torch.Generator().manual_seed(seed)
    people, objects = objects, max(1, objects)
    heights = (0.05 + 0.8 * torch.rand(images, objects, generator=generator)) * height
    corners = torch.rand(images, objects, 2, generator=generator) * torch.stack(
        [width - 0.4 * heights, height - heights], dim=-1
    ).clamp(min=0)
    boxes = torch.cat([corners, corners + torch.stack([0.4 * heights, heights], dim=-1)], dim=-1)
    valid = (torch.arange(images) % 3 != 2)[:, None] & (torch.arange(objects) < people)
    sizes = torch.tensor([[height, width], [0.7 * height, 0.9 * width]]).repeat(images, 1)[:images]
    boxes = torch.minimum(boxes, sizes.flip(1).repeat(1, 2)[:, None]) * valid[..., None]
    valid = valid & (boxes[..., 2:] > boxes[..., :2]).all(dim=-1)
    return Batch(
        images=torch.rand(images, 3, height, width, generator=generator),
        valid_sizes=sizes,
        targets=Targets(boxes * valid[..., None], valid, torch.zeros_like(valid)),
    )


@pytest.mark.parametrize("precision", [None, torch.bfloat16])
def test_losses_of_any_batch_equal_plain_paths(monkeypatch: pytest.MonkeyPatch, precision: torch.dtype | None) -> None:
    # One student and one teacher for all sizes, one after another, as what is laid out for one size must not serve
    # another: one image and many, nobody and 200 people, an image of a few cells, and the first size again.
    student, plain_teacher = build(STUDENT, 0), build(TEACHER_SHAPE, 1).requires_grad_(False).eval()
    teacher = fuse_for_inference(plain_teacher, precision or torch.float32)
    all_stages = build_objective(ALL_STAGES, STUDENT, TEACHER_SHAPE, 3)
    sizes = [(2, 4, 64, 96), (1, 0, 64, 96), (1, 1, 64, 64), (5, 200, 96, 64), (3, 0, 33, 65), (2, 4, 64, 96)]
    for number, (images, objects, height, width) in enumerate(sizes):
        batch = batch_of(images, objects, height, width, seed=number)
        keys = student.draw_sampling_keys(batch.images, batch.targets, torch.Generator().manual_seed(number))
        results = []
        for way in ("fast", "kept", "plain"):
            pyramid = None
            if way == "kept":
                live = forward_teacher_pyramid(teacher, batch, precision)
                grids = {name: (len(level), level.shape[2], level.shape[3]) for name, level in live.items()}
                pyramid = TabledPyramid(region_table(list(live.values())), grids)
            joined = mock.Mock(wraps=region_table)
            with monkeypatch.context() as plainly:
                plainly.setattr(detector, "region_table", joined)
                if way == "plain":
                    plainly.setattr(objective, "_adapt", make_the_map)
                loss = training_loss(
                    student,
                    plain_teacher if way == "plain" else teacher,
                    all_stages,
                    batch,
                    anchor_keys=keys[0],
                    region_keys=keys[1],
                    sampling=SAMPLING,
                    autocast_dtype=precision,
                    teacher_pyramid=pyramid,
                )
            # The student's levels are concatenated for RoIAlign, and the teacher's where they are separate.
            assert joined.call_count == (1 if way == "kept" else 2)
            gradients = torch.autograd.grad(loss.total, list(student.parameters()))
            parts = torch.stack(list(loss.parts.values()))
            pulls = torch.stack([gradient.norm() for gradient in gradients])
            assert torch.isfinite(parts).all(), (way, sizes[number])
            assert torch.isfinite(pulls).all(), (way, sizes[number])
            results.append((parts, pulls))
        (fast, fast_pulls), (kept, kept_pulls), (plain, plain_pulls) = results
        assert torch.equal(fast, kept)
        assert torch.equal(fast_pulls, kept_pulls)
        # bf16 keeps 8 bits: an activation is off by 0.4 % at most, a loss of many by less.
        rtol, atol = (1e-4, 1e-6) if precision is None else (2e-2, 2e-2)
        torch.testing.assert_close(fast, plain, rtol=rtol, atol=atol)
        if precision is None:
            torch.testing.assert_close(fast_pulls, plain_pulls, rtol=1e-3, atol=1e-5)
