"""Losses between the box heads' outputs for the same regions."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def kl_distillation_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float, valid: Tensor) -> Tensor:
    """``T^2 * KL(softmax(teacher / T) || softmax(student / T))``, mean over the valid regions.

    The factor T^2 keeps the size of the gradient independent of T. Reference: Hinton, Vinyals, Dean, "Distilling the
    knowledge in a neural network", 2015 (arXiv 1503.02531), section 2.

    Args:
        student_logits: (R, K), any floating dtype.
        teacher_logits: (R, K); receives no gradient.
        temperature: T, above 0.
        valid: (R,) bool; if no region is valid, the loss is 0.

    Returns:
        () float32.
    """
    assert student_logits.shape == teacher_logits.shape, (
        f"student {student_logits.shape}, teacher {teacher_logits.shape}"
    )
    with torch.autocast(student_logits.device.type, enabled=False):
        # Before the softmax, whose gradient would propagate NaN in unused slots: equal logits have divergence 0.
        student = torch.where(valid[:, None], student_logits.float(), 0.0)
        teacher = torch.where(valid[:, None], teacher_logits.detach().float(), 0.0)
        divergence = functional.kl_div(
            functional.log_softmax(student / temperature, dim=1),
            functional.log_softmax(teacher / temperature, dim=1),
            reduction="sum",
            log_target=True,
        )
        return temperature**2 * divergence / valid.sum().clamp(min=1)


def box_delta_loss(student: Tensor, teacher: Tensor, valid: Tensor) -> Tensor:
    """Mean squared difference of the foreground classes' box deltas over the valid regions.

    The background's deltas are excluded: no detection loss trains them.

    Args:
        student: (R, 4 * K), torchvision's layout: four deltas per class, the background's first; any floating dtype.
        teacher: (R, 4 * K), for the same regions; receives no gradient.
        valid: (R,) bool; if no region is valid, the loss is 0.

    Returns:
        () float32.
    """
    assert student.shape == teacher.shape, f"student {student.shape}, teacher {teacher.shape}"
    assert student.shape[1] % 4 == 0, f"{student.shape[1]} deltas are not four per class"
    with torch.autocast(student.device.type, enabled=False):
        difference = student[:, 4:].float() - teacher[:, 4:].detach().float()
        difference = torch.where(valid[:, None], difference, 0.0)
        return difference.square().sum() / (valid.sum().clamp(min=1) * difference.shape[1])
