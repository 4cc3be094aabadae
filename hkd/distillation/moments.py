"""Moments of feature maps over the cells of a mask: what Pearson's correlation is made of.

Gradients are written out: autograd would keep and walk some ten maps as large as the features. Shapes are fixed, and
no host waits for its GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_CHANNEL_AXES = (0, 2, 3)


class Moments(NamedTuple):
    """Of each of C channels, (C,) or (L, C) for L maps, over all cells that count; fp32 (fp64 for fp64 features)."""

    student_variance: Tensor
    teacher_variance: Tensor
    """Without gradient."""
    covariance: Tensor
    """Of the student's channel with the teacher's."""


def channel_moments(student: Tensor, teacher: Tensor, mask: Tensor | None) -> Moments:
    """Moments of two maps (N, C, H, W), channel by channel, over the cells of a mask (N, 1, H or 1, W or 1)."""
    student, teacher = (features.to(_wide(features)) for features in (student, teacher.detach()))
    moments: tuple[Tensor, Tensor, Tensor] = _ChannelMoments.apply(student, teacher, mask)
    return Moments(*moments)


def adapted_moments(
    students: Sequence[Tensor], teachers: Sequence[Tensor], masks: Sequence[Tensor | None], weights: Sequence[Tensor]
) -> Moments:
    """Moments of L students' maps *after* a linear adapter each, without ever making the adapted maps.

    An adapted channel is a weighted sum of the student's channels, so its variance is ``w^T Cov(x) w`` and its
    covariance with the teacher's channel ``w^T Cov(x, t)``: two small matrices, each a product over the cells, in fp32
    (fp64 for fp64 features): a quadratic form of correlated channels cancels what narrower types hold of it.

    Args:
        students: (N, C_s, H, W) each, of any sizes.
        teachers: (N, C_t, H, W) each; they receive no gradient.
        masks: (N, 1, H, W) or (N, 1, 1, 1) bool each, the cells that count; None = all.
        weights: (C_t, C_s) each, of the adapters; they have no bias, which would change no moment.

    Returns:
        Moments of (L, C_t).
    """
    of_maps = [_cross_moments(*maps) for maps in zip(students, teachers, masks, strict=True)]
    covariances, teacher_variance = (torch.stack(of_all) for of_all in zip(*of_maps, strict=True))
    weight = torch.stack(list(weights)).to(covariances.dtype)
    channels = weight.shape[-1]
    within, across = covariances[..., :channels], covariances[..., channels:]
    covariance = (weight * across.mT).sum(dim=-1)
    student_variance = ((weight @ within) * weight).sum(dim=-1)
    # No variance is below cov^2 / var_t (Cauchy and Schwarz), whatever rounding has left of it. Its gradient stays its
    # own: at a correlation of 1, where both are equal but for rounding, that is what holds the covariance's in check.
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
    """fp32, or wider where the features are: moments need its digits."""
    return torch.promote_types(features.dtype, torch.float32)


def cell_rows(features: Tensor) -> Tensor:
    """(N, C, H, W) to (N * H * W, C): free where the layout is channels last."""
    return features.permute(0, 2, 3, 1).reshape(-1, features.shape[1])


class _CrossMoments(torch.autograd.Function):
    """Of rows X (M, C_s) and T (M, C_t): (Cov(X), Cov(X, T)) (C_s, C_s + C_t) and the variances of T (C_t,).

    Of J = (X, T), centred and side by side, ``X^T J / cells``. With G and H the gradients of its two parts, that of X
    is ``J (G + G^T, H)^T / cells``, whose rows sum to zero as J's do.
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
            # where, not a product: what stands in padding may be anything, NaN as well.
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
        of_covariances, _ = gradients
        joined, cells = ctx.saved_tensors
        channels = len(of_covariances)
        factor = of_covariances.T / cells
        factor[:channels] += factor[:channels].T.clone()
        # Rounded at the end alone: near a correlation of 1 the two parts cancel, and would leave each one's rounding.
        with torch.autocast(joined.device.type, enabled=False):
            return (joined @ factor).to(ctx.dtype), None, None


class _ChannelMoments(torch.autograd.Function):
    """Variances of student and teacher and their covariance, of each channel, over the cells of a mask.

    Written out because autograd would keep and walk some ten maps as large as the feature map, where two are enough:
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
        of_student = (2.0 * student_variance_gradient / cells)[None, :, None, None]
        of_teacher = (covariance_gradient / cells)[None, :, None, None]
        return (student * of_student).addcmul_(teacher, of_teacher), None, None


def count_cells(features: Tensor, mask: Tensor | None) -> Tensor:
    """How many of the N * H * W cells the mask keeps, at least 1 so that an empty mask divides nothing by 0."""
    cells = features.numel() // features.shape[1]
    if mask is None:
        return torch.full((), max(1, cells), device=features.device)
    return mask.sum().clamp(min=1) * (cells // mask.numel())


def _centred(features: Tensor, mask: Tensor | None, cells: Tensor) -> Tensor:
    """Features less their channel's mean; zero outside the mask.

    Two passes: the sums of squares that one pass would need lose all digits where a channel's mean is large beside
    its spread.
    """
    if mask is None:
        return features - features.sum(_CHANNEL_AXES, keepdim=True) / cells
    # where, not a product: what stands in padding may be anything, NaN as well. It makes a copy, so that what follows
    # may work in place: at the size of p2, another copy costs more than the arithmetic.
    features = torch.where(mask, features, 0.0)
    mean = features.sum(_CHANNEL_AXES, keepdim=True) / cells
    return features.addcmul_(mean, mask.to(features.dtype), value=-1)
