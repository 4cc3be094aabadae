"""Optimiser groups, the learning rate's curve and the average of weights, against closed forms."""

from __future__ import annotations

import math
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from hkd.models.build import build_detector
from hkd.training.step.optim import (
    build_optimizer,
    learning_rate_at,
    step_clipped,
    trainable_parameters,
    update_average,
)
from tests.training.tiny import STUDENT


def test_learning_rate_rises_linearly_then_follows_cosine() -> None:
    # 10 steps, 4 of warm-up: 1/4, 2/4, 3/4, 1 of the peak at steps 0..3. The cosine spans steps 3..9, so that step 6
    # is its middle: halfway between 1 and the final fraction 0.2, 0.6; step 9 is its end, 0.2.
    rates = [
        learning_rate_at(step, total_steps=10, peak=2.0, warmup_fraction=0.4, final_fraction=0.2) for step in range(10)
    ]
    assert rates[:4] == pytest.approx([0.5, 1.0, 1.5, 2.0])
    assert rates[6] == pytest.approx(1.2)
    assert rates[9] == pytest.approx(0.4)
    # A third of the way: 0.2 + 0.8 * (1 + cos(pi / 3)) / 2 = 0.8 of the peak.
    assert rates[5] == pytest.approx(2.0 * (0.2 + 0.8 * 0.5 * (1 + math.cos(math.pi / 3))))


@pytest.mark.parametrize(
    ("total_steps", "warmup_fraction", "expected"),
    [
        (1, 0.0, [1.0]),  # a single step has the peak rate
        (3, 0.0, [1.0, 0.5, 0.0]),  # no warm-up: the cosine spans all steps
        (2, 1.0, [0.5, 1.0]),  # nothing but warm-up
        (2, 0.1, [1.0, 0.0]),  # a warm-up that rounds to no step
    ],
)
def test_learning_rate_at_the_edges(total_steps: int, warmup_fraction: float, expected: list[float]) -> None:
    rates = [
        learning_rate_at(step, total_steps=total_steps, peak=1.0, warmup_fraction=warmup_fraction, final_fraction=0.0)
        for step in range(total_steps)
    ]
    assert rates == pytest.approx(expected)


def test_weight_decay_is_not_applied_to_biases_and_norms() -> None:
    detector, adapters = build_detector(STUDENT), nn.Linear(3, 2)
    optimizer = build_optimizer([detector, adapters], name="adamw", learning_rate=1.0, momentum=0.9, weight_decay=0.05)
    decayed, spared = optimizer.param_groups
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.05, 0.0)
    names = {parameter: name for name, parameter in detector.named_parameters()}
    names |= {parameter: f"adapters.{name}" for name, parameter in adapters.named_parameters()}
    norms = {module for module in detector.modules() if isinstance(module, nn.BatchNorm2d)}
    of_norms = {parameter for norm in norms for parameter in norm.parameters()}
    expected = {name for parameter, name in names.items() if name.endswith(".bias") or parameter in of_norms}
    assert {names[parameter] for parameter in spared["params"]} == expected
    assert {names[parameter] for parameter in decayed["params"]} == set(names.values()) - expected


def test_frozen_parameters_are_not_optimised() -> None:
    frozen, free = nn.Linear(2, 2).requires_grad_(False), nn.Linear(2, 2)
    assert trainable_parameters([frozen, free, free]) == [free.weight, free.bias]


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_fused_kernels_equal_plain_loop_on_channels_last_weights(name: Literal["sgd", "adamw"]) -> None:
    # A fused kernel walks memory: it is right only where weights, gradients and moments are laid out alike.
    def train(fused: bool) -> list[Tensor]:
        torch.manual_seed(0)
        # No bias before the norm, which would cancel it: its gradient is noise, and Adam scales noise up.
        model = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3))
        model = model.to(memory_format=torch.channels_last)
        optimizer = build_optimizer([model], name=name, learning_rate=0.01, momentum=0.9, weight_decay=0.1)
        for group in optimizer.param_groups:
            group["fused"] = fused
        for _ in range(3):
            optimizer.zero_grad()
            images = torch.rand(2, 3, 8, 8).contiguous(memory_format=torch.channels_last)
            torch.autograd.backward(model(images).square().mean())
            optimizer.step()
        return [parameter.detach() for parameter in model.parameters()]

    with torch.random.fork_rng():
        for fused, plain in zip(train(True), train(False), strict=True):
            torch.testing.assert_close(fused, plain, rtol=1e-5, atol=1e-6)


def test_average_follows_its_formula_and_copies_counters() -> None:
    model, average = nn.BatchNorm1d(1), nn.BatchNorm1d(1)
    with torch.no_grad():
        average.weight.fill_(1.0)
        average.running_mean = torch.tensor([4.0])
        model.weight.fill_(2.0)
        model.running_mean = torch.tensor([0.0])
        model.num_batches_tracked = torch.tensor(7)
    # Step 8: the warmed-up decay is (1 + 8) / (10 + 8) = 0.5, below 0.9: 0.5 * 1 + 0.5 * 2 = 1.5; 0.5 * 4 = 2.
    update_average(average, model, step=8, decay=0.9)
    assert average.weight.item() == pytest.approx(1.5)
    assert average.running_mean is not None
    assert average.running_mean.item() == pytest.approx(2.0)
    assert average.num_batches_tracked is not None
    assert average.num_batches_tracked.item() == 7
    # Late on, the decay is 0.9: 0.9 * 1.5 + 0.1 * 2 = 1.55.
    update_average(average, model, step=10_000, decay=0.9)
    assert average.weight.item() == pytest.approx(1.55)
    assert model.weight.item() == 2.0


@pytest.mark.parametrize("name", ["sgd", "adamw"])
@pytest.mark.parametrize("largest_norm", [0.5, 1e3, None])
def test_clipped_step_equals_clipping_and_step(name: Literal["sgd", "adamw"], largest_norm: float | None) -> None:
    results = []
    for is_ours in (True, False):
        torch.manual_seed(0)
        layer = nn.Linear(5, 3)
        optimizer = build_optimizer([layer], name=name, learning_rate=0.1, momentum=0.9, weight_decay=0.01)
        for _ in range(3):  # momentum and moments carry what was clipped from step to step
            optimizer.zero_grad()
            torch.autograd.backward(layer(torch.ones(4, 5)).square().sum())
            norm = nn.utils.get_total_norm([p.grad for p in layer.parameters() if p.grad is not None])
            assert 0.5 < norm < 1e3
            if is_ours:
                assert step_clipped(optimizer, layer.parameters(), largest_norm) == norm
            else:
                if largest_norm is not None:
                    nn.utils.clip_grad_norm_(layer.parameters(), largest_norm)
                optimizer.step()
        results.append(torch.cat([parameter.detach().flatten() for parameter in layer.parameters()]))
    # torch's own clipping adds 1e-6 to the norm.
    torch.testing.assert_close(*results, rtol=1e-5, atol=1e-6)
