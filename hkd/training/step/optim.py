"""Optimiser, learning-rate schedule and weight averaging of one training."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer


def trainable_parameters(modules: Iterable[nn.Module]) -> list[nn.Parameter]:
    """All parameters of the modules that require a gradient, without duplicates."""
    seen: dict[nn.Parameter, None] = {}
    for module in modules:
        for parameter in module.parameters():
            if parameter.requires_grad:
                seen[parameter] = None
    return list(seen)


def build_optimizer(
    modules: Iterable[nn.Module],
    *,
    name: Literal["sgd", "adamw"],
    learning_rate: float,
    momentum: float,
    weight_decay: float,
) -> Optimizer:
    """An optimiser over all trainable parameters of the modules (the student and its adapters).

    Weight decay is not applied to vectors: biases, and scales and shifts of norms. ``momentum`` is used by SGD; AdamW
    has betas (0.9, 0.999). Both run as fused kernels, on CPU and GPU.
    """
    parameters = trainable_parameters(modules)
    groups: list[dict[str, Any]] = [
        {"params": [parameter for parameter in parameters if parameter.ndim > 1], "weight_decay": weight_decay},
        {"params": [parameter for parameter in parameters if parameter.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if name == "sgd":
        return SGD(groups, lr=learning_rate, momentum=momentum, fused=True)
    return AdamW(groups, lr=learning_rate, betas=(0.9, 0.999), fused=True)


def step_clipped(optimizer: Optimizer, parameters: Iterable[nn.Parameter], largest_norm: float | None) -> Tensor:
    """One step of a fused optimiser with gradients clipped to a norm; returns the norm () before clipping.

    Equals ``torch.nn.utils.clip_grad_norm_`` followed by a step, but in one pass: the fused kernels divide the
    gradients by ``grad_scale``, an attribute meant for gradient scalers.

    Args:
        parameters: All of the optimiser.
        largest_norm: Gradients with a larger norm, of all together, are scaled to it; None does not clip.
    """
    norm = nn.utils.get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])
    if largest_norm is not None:
        scaled: Any = optimizer
        scaled.grad_scale = (norm / largest_norm).clamp(min=1.0)
    optimizer.step()
    return norm


def learning_rate_at(
    step: int, *, total_steps: int, peak: float, warmup_fraction: float, final_fraction: float
) -> float:
    """The learning rate of one step: a linear rise from 0, then half a cosine.

    The warm-up takes ``warmup = round(warmup_fraction * total_steps)`` steps and reaches the peak at step
    ``warmup - 1``, so that no step has rate 0. The cosine (Loshchilov & Hutter, 2017) starts at the peak and reaches
    ``final_fraction * peak`` at the last step.

    Args:
        step: Counted from 0 over the whole training.
    """
    assert 0 <= step < total_steps, f"step {step} of {total_steps}"
    warmup_steps = round(warmup_fraction * total_steps)
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    first_step = max(0, warmup_steps - 1)
    progress = (step - first_step) / max(1, total_steps - 1 - first_step)
    return peak * (final_fraction + (1.0 - final_fraction) * 0.5 * (1.0 + math.cos(math.pi * progress)))


def set_learning_rate(optimizer: Optimizer, learning_rate: float) -> None:
    """Set the learning rate of all parameter groups."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, *, step: int, decay: float) -> None:
    """Update an exponential moving average of a model's weights: ``a <- d * a + (1 - d) * w``.

    The decay is warmed up, ``d = min(decay, (1 + step) / (10 + step))``, so that the random first weights lose their
    influence in a short training too. Norm statistics are averaged like weights; counters are copied.

    Args:
        average: A copy of ``model``, changed in place.
        step: Number of earlier optimiser steps.
    """
    decay_now = min(decay, (1 + step) / (10 + step))
    averaged: list[Tensor] = []
    current: list[Tensor] = []
    for ours, theirs in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        if ours.is_floating_point():
            averaged.append(ours)
            current.append(theirs)
        else:
            ours.copy_(theirs)
    torch._foreach_lerp_(averaged, current, 1.0 - decay_now)
