"""Losses between feature maps of student and teacher.

Losses exclude padding by a mask, are computed in fp32 for any dtype of the features, and give the teacher no gradient.
All shapes are fixed, and nothing synchronizes with the host.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hkd.config import FeatureLoss
from hkd.distillation.moments import Moments, adapted_moments, channel_moments, count_cells

VARIANCE_EPSILON = 1e-8
"""Added to every variance. Far below the variance of a channel that carries information (1e-4 would be low), so that
the loss is scale-invariant; and large enough to bound the gradient of a constant channel, whose norm is at most
1 / sqrt(epsilon * cells)."""


def assert_comparable(student: Tensor, teacher: Tensor, mask: Tensor | None, weight: Tensor | None = None) -> None:
    """Check shapes and dtype of the arguments of a feature loss."""
    assert student.dim() == 4, f"{student.shape}, not (N, C, H, W)"
    adapted = student.shape[1] if weight is None else weight.shape[0]
    assert (student.shape[0], adapted, *student.shape[2:]) == teacher.shape, (
        f"student {student.shape} adapted to {adapted} channels, teacher {teacher.shape}"
    )
    if mask is not None:
        count, _, height, width = student.shape
        assert mask.dtype == torch.bool, f"mask {mask.dtype}, not bool"
        assert tuple(mask.shape) in ((count, 1, height, width), (count, 1, 1, 1)), f"mask {mask.shape}"


def pearson_loss(
    student: Tensor, teacher: Tensor, mask: Tensor | None = None, adapter_weight: Tensor | None = None
) -> Tensor:
    """``1 - r``, averaged over the channels: half the mean squared difference of standardised channels.

    Each channel is standardised to zero mean and unit variance over (N, H, W); ``r`` is Pearson's correlation of the
    student's channel with the teacher's. The loss is in [0, 2] and invariant to positive scaling and shift of any
    channel. Reference: Cao et al., "PKD: general distillation framework for object detectors via Pearson correlation
    coefficient", NeurIPS 2022 (arXiv 2207.02039), section 3.

    A constant channel, which has no ``r``, is standardised to zeros: its loss is 0 if both sides are constant and 1/2
    if one is.

    Args:
        student: (N, C, H, W), any floating dtype; (N, C_student, H, W) if ``adapter_weight`` is given.
        teacher: (N, C, H, W); receives no gradient.
        mask: (N, 1, H, W) or (N, 1, 1, 1) bool, cells to compare; None = all. The loss of an empty mask is 0.
        adapter_weight: (C, C_student) of a linear adapter to apply to the student first; the adapted map is not
            computed (see :func:`hkd.distillation.moments.adapted_moments`).

    Returns:
        () float32.
    """
    assert_comparable(student, teacher, mask, adapter_weight)
    with torch.autocast(student.device.type, enabled=False):
        if adapter_weight is None:
            return pearson_loss_of_moments(channel_moments(student, teacher, mask))
        return pearson_loss_of_moments(adapted_moments([student], [teacher], [mask], [adapter_weight]))


def pearson_loss_of_moments(moments: Moments) -> Tensor:
    """Mean () over the channels and, if there are several, over the maps."""
    student_variance, teacher_variance, covariance = moments
    student_floored, teacher_floored = student_variance + VARIANCE_EPSILON, teacher_variance + VARIANCE_EPSILON
    # Half the squared difference of standardised a and b is var(a) / 2 + var(b) / 2 - cov(a, b). The root of the
    # product, not the product of roots: sqrt(x * x) is exactly x, so that identical features give exactly 0.
    spread = 0.5 * (student_variance / student_floored + teacher_variance / teacher_floored)
    loss: Tensor = (spread - covariance / torch.sqrt(student_floored * teacher_floored)).mean()
    return loss


def mse_loss(student: Tensor, teacher: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean squared difference over channels and cells; arguments and result as :func:`pearson_loss`."""
    assert_comparable(student, teacher, mask)
    with torch.autocast(student.device.type, enabled=False):
        difference = student.float() - teacher.detach().float()
        if mask is not None:
            difference = torch.where(mask, difference, 0.0)
        return difference.square().sum() / (count_cells(student, mask) * student.shape[1])


def feature_loss(
    student: Tensor,
    teacher: Tensor,
    mask: Tensor | None,
    kind: FeatureLoss,
    adapter_weight: Tensor | None = None,
) -> Tensor:
    """The loss ``kind``; arguments and result as :func:`pearson_loss`. ``mse`` does not accept ``adapter_weight``."""
    if kind == "pearson":
        return pearson_loss(student, teacher, mask, adapter_weight)
    assert kind == "mse", kind
    assert adapter_weight is None, "mse needs adapted features"
    return mse_loss(student, teacher, mask)
