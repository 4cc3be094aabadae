"""Moments of feature maps over the cells of a mask, from which Pearson's correlation is computed.

Gradients are implemented by hand: autograd would keep about ten maps of the features' size. Shapes are fixed, and
nothing synchronizes with the host.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_CHANNEL_AXES = (0, 2, 3)


class Moments(NamedTuple):
    """Moments of each channel, (C,), or (L, C) for L maps, over the cells of a mask; fp32, fp64 for fp64 features."""

    student_variance: Tensor
    teacher_variance: Tensor
    """Has no gradient."""
    covariance: Tensor
    """Covariance of the student's channel with the teacher's."""


def channel_moments(student: Tensor, teacher: Tensor, mask: Tensor | None) -> Moments:
    """Moments (C,) of two maps (N, C, H, W) over the cells of a mask (N, 1, H, W) or (N, 1, 1, 1); None = all."""
    student, teacher = (features.to(_wide(features)) for features in (student, teacher.detach()))
    moments: tuple[Tensor, Tensor, Tensor] = _ChannelMoments.apply(student, teacher, mask)
    return Moments(*moments)


def adapted_moments(
    students: Sequence[Tensor], teachers: Sequence[Tensor], masks: Sequence[Tensor | None], weights: Sequence[Tensor]
) -> Moments:
    """Moments of L student maps *after* their linear adapters, without computing the adapted maps.

    An adapted channel is a weighted sum of the student's channels, so that its variance is ``w^T Cov(x) w`` and its
    covariance with the teacher's channel ``w^T Cov(x, t)``: two small matrices, each a product over the cells. They are
    computed in fp32 (fp64 for fp64 features), because the quadratic form of correlated channels cancels most digits.

    Args:
        students: L maps (N, C_s, H, W), of any sizes.
        teachers: L maps (N, C_t, H, W); receive no gradient.
        masks: L bool masks (N, 1, H, W) or (N, 1, 1, 1); None = all cells.
        weights: L adapter weights (C_t, C_s); a bias would change no moment.

    Returns:
        Moments of (L, C_t).
    """
    moments = [_cross_moments(*maps) for maps in zip(students, teachers, masks, strict=True)]
    covariances, teacher_variance = (torch.stack(per_map) for per_map in zip(*moments, strict=True))
    weight = torch.stack(list(weights)).to(covariances.dtype)
    channels = weight.shape[-1]
    within, across = covariances[..., :channels], covariances[..., channels:]
    covariance = (weight * across.mT).sum(dim=-1)
    student_variance = ((weight @ within) * weight).sum(dim=-1)
    # Rounding must not move the variance below cov^2 / var_t (Cauchy-Schwarz inequality). The value is corrected, its
    # gradient is not: at a correlation of 1 it must still cancel the covariance's gradient.
    least = covariance.detach().square() / teacher_variance.clamp(min=torch.finfo(teacher_variance.dtype).tiny)
    student_variance = student_variance + (least - student_variance.detach()).clamp(min=0)
    return Moments(student_variance, teacher_variance, covariance)


def _cross_moments(student: Tensor, teacher: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """(Cov(x), Cov(x, t)) (C_s, C_s + C_t) and Var(t) (C_t,) over the cells of a mask."""
    if mask is not None:
        mask = mask.expand(-1, 1, *student.shape[2:]).reshape(-1, 1)
    moments: tuple[Tensor, Tensor] = _CrossMoments.apply(cell_rows(student), cell_rows(teacher), mask)
    return moments


def _wide(features: Tensor) -> torch.dtype:
    """fp32, or the features' dtype if it is wider."""
    return torch.promote_types(features.dtype, torch.float32)


def cell_rows(features: Tensor) -> Tensor:
    """(N, C, H, W) to (N * H * W, C); a view if the layout is channels-last."""
    return features.permute(0, 2, 3, 1).reshape(-1, features.shape[1])


class _CrossMoments(torch.autograd.Function):
    """(Cov(X), Cov(X, T)) (C_s, C_s + C_t) and Var(T) (C_t,) of rows X (M, C_s) and T (M, C_t).

    With J = (X, T), centred, the covariances are ``X^T J / cells``. If G and H are the gradients of Cov(X) and
    Cov(X, T), the gradient of X is ``J (G + G^T, H)^T / cells``; it needs no centring, as J is centred.
    """

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        ctx.dtype, channels = student.dtype, student.shape[1]
        cells = count_cells(student, mask)
        joined = student.new_empty(len(student), channels + teacher.shape[1], dtype=_wide(student))
        joined[:, :channels], joined[:, channels:] = student, teacher
        if mask is None:
            joined -= joined.sum(dim=0) / cells
        else:
            # where, not a product: padding may hold NaN.
            joined = torch.where(mask, joined, 0.0)
            joined.addmm_(mask.to(joined.dtype), (joined.sum(dim=0) / cells)[None], alpha=-1)
        covariances = joined[:, :channels].T @ joined / cells
        teacher_variance = joined[:, channels:].square().sum(dim=0) / cells
        ctx.save_for_backward(joined, cells)
        ctx.mark_non_differentiable(teacher_variance)
        return covariances, teacher_variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        covariances_gradient, _ = gradients
        joined, cells = ctx.saved_tensors
        channels = len(covariances_gradient)
        factor = covariances_gradient.T / cells
        factor[:channels] += factor[:channels].T.clone()
        # One product without autocast: near a correlation of 1 the two terms cancel, and would leave rounding errors.
        with torch.autocast(joined.device.type, enabled=False):
            return (joined @ factor).to(ctx.dtype), None, None


class _ChannelMoments(torch.autograd.Function):
    """Variance of student and teacher and their covariance, per channel, over the cells of a mask.

    ``d variance / d student = 2 (student - mean) / cells`` and ``d covariance / d student = (teacher - mean) / cells``.
    """

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        cells = count_cells(student, mask)
        student, teacher = _centred(student, mask, cells), _centred(teacher, mask, cells)
        ctx.save_for_backward(student, teacher, cells)
        student_variance = (student * student).sum(_CHANNEL_AXES) / cells
        teacher_variance = (teacher * teacher).sum(_CHANNEL_AXES) / cells
        covariance = (student * teacher).sum(_CHANNEL_AXES) / cells
        ctx.mark_non_differentiable(teacher_variance)
        return student_variance, teacher_variance, covariance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        student_variance_gradient, _, covariance_gradient = gradients
        student, teacher, cells = ctx.saved_tensors
        student_factor = (2.0 * student_variance_gradient / cells)[None, :, None, None]
        teacher_factor = (covariance_gradient / cells)[None, :, None, None]
        return (student * student_factor).addcmul_(teacher, teacher_factor), None, None


def count_cells(features: Tensor, mask: Tensor | None) -> Tensor:
    """Number () of the N * H * W cells in the mask, at least 1 so that it can be divided by."""
    cells = features.numel() // features.shape[1]
    if mask is None:
        return torch.full((), max(1, cells), device=features.device)
    return mask.sum().clamp(min=1) * (cells // mask.numel())


def _centred(features: Tensor, mask: Tensor | None, cells: Tensor) -> Tensor:
    """Features minus their channel's mean, zero outside the mask.

    In two passes: sums of squares lose all digits if a channel's mean is large compared to its deviation.
    """
    if mask is None:
        return features - features.sum(_CHANNEL_AXES, keepdim=True) / cells
    # where, not a product: padding may hold NaN. The result is a copy, so the subtraction may be in place: at the size
    # of p2, a second copy costs more than the arithmetic.
    features = torch.where(mask, features, 0.0)
    mean = features.sum(_CHANNEL_AXES, keepdim=True) / cells
    return features.addcmul_(mean, mask.to(features.dtype), value=-1)
