"""Moments of feature maps over the cells of a mask: what Pearson's correlation is made of.

Fixed shapes, no wait for the host, and gradients written out: autograd would keep and walk some ten maps as large as
the features.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_CHANNEL_AXES = (0, 2, 3)
_PARTS = 8


class Moments(NamedTuple):
    """Of each of C channels, over all cells that count; fp32 (fp64 for fp64 features)."""

    student_variance: Tensor
    """(C,)."""
    teacher_variance: Tensor
    """(C,); without gradient."""
    covariance: Tensor
    """(C,) of the student's channel with the teacher's."""


def channel_moments(student: Tensor, teacher: Tensor, mask: Tensor | None) -> Moments:
    """Moments of two maps (N, C, H, W), channel by channel, over the cells of a mask (N, 1, H or 1, W or 1)."""
    student, teacher = (features.to(_wide(features)) for features in (student, teacher.detach()))
    moments: tuple[Tensor, Tensor, Tensor] = _ChannelMoments.apply(student, teacher, mask)
    return Moments(*moments)


def adapted_moments(student: Tensor, teacher: Tensor, mask: Tensor | None, weight: Tensor) -> Moments:
    """Moments of the student's map *after* a linear adapter, without ever making the adapted map.

    An adapted channel is a weighted sum of the student's channels, so its variance is ``w^T Cov(x) w`` and its
    covariance with the teacher's channel ``w^T Cov(x, t)``: two small matrices, one product over the cells, in the
    features' own type, summed and kept in fp32. That is a fraction of the adapted map's traffic in memory.

    Args:
        student: (N, C_s, H, W).
        teacher: (N, C_t, H, W), finite in cells that do not count as well; receives no gradient.
        mask: (N, 1, H, W) or (N, 1, 1, 1) bool, the cells that count; None = all.
        weight: (C_t, C_s), of the adapter; it has no bias, which would change no moment.
    """
    narrow = torch.promote_types(student.dtype, teacher.dtype)
    rows = None if mask is None else mask.expand(-1, 1, *student.shape[2:]).reshape(-1, 1)
    within, across, teacher_variance = _CrossMoments.apply(_rows(student.to(narrow)), _rows(teacher.to(narrow)), rows)
    weight = weight.to(within.dtype)
    covariance = (weight * across.T).sum(dim=1)
    # No variance is below cov^2 / var_t (Cauchy and Schwarz), whatever rounding has left of it.
    least = covariance.detach().square() / teacher_variance.clamp(min=torch.finfo(teacher_variance.dtype).tiny)
    student_variance = torch.maximum(((weight @ within) * weight).sum(dim=1), least)
    return Moments(student_variance, teacher_variance, covariance)


def _wide(features: Tensor) -> torch.dtype:
    """fp32, or wider where the features are: moments need its digits."""
    return torch.promote_types(features.dtype, torch.float32)


def _rows(features: Tensor) -> Tensor:
    """(N, C, H, W) to (N * H * W, C): free where the layout is channels last."""
    return features.permute(0, 2, 3, 1).reshape(-1, features.shape[1])


def _product(left: Tensor, right: Tensor) -> Tensor:
    """``left^T right`` of two matrices of as many rows, to at least 18 bits, in fp32 or wider.

    A product of bf16 matrices is summed in fp32 and then rounded to bf16. Its 8 bits would not do: a quadratic form
    ``w^T Cov w`` of correlated channels cancels most of them, and an adapter in training finds the directions where it
    cancels all. What was rounded off is had by the same product once more, with the rounded one taken from its sum.
    """
    # By parts, which is faster on a CPU.
    parts = math.gcd(len(left), _PARTS)
    first = left.view(parts, -1, left.shape[1]).transpose(1, 2)
    second = right.view(parts, -1, right.shape[1])
    rounded = torch.bmm(first, second)
    wide = _wide(left)
    if wide == left.dtype:
        return rounded.sum(dim=0)
    return (rounded.to(wide) + torch.baddbmm(rounded, first, second, beta=-1).to(wide)).sum(dim=0)


class _CrossMoments(torch.autograd.Function):
    """Of rows X (M, C_s) and T (M, C_t): Cov(X) (C_s, C_s), Cov(X, T) (C_s, C_t) and the variances of T (C_t,).

    With both centred, ``Cov(X) = X^T X / cells`` and ``Cov(X, T) = X^T T / cells``; so ``dX`` is ``X (G + G^T) / cells
    + T H^T / cells`` for their gradients G and H. Rows that do not count are zero in X, and need not be in T: the
    products leave them out.
    """

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        cells = count_cells(student, mask)
        counts = student.new_ones(1, len(student)) if mask is None else mask.T.to(student.dtype)
        # Filled, not multiplied: what stands in padding may be anything, NaN as well.
        student = student.clone() if mask is None else student.masked_fill(~mask, 0)
        # Centred first: products of what is not lose all digits where a mean is large beside the spread.
        mean, teacher_mean = (
            (_product(counts.T, features) / cells).to(features.dtype) for features in (student, teacher)
        )
        student.addmm_(counts.T, mean, alpha=-1)
        teacher = teacher - teacher_mean
        teacher_variance = _product(counts.T, teacher.square())[0] / cells
        within, across = (_product(student, features) / cells for features in (student, teacher))
        ctx.save_for_backward(student, teacher, mask, cells)
        ctx.mark_non_differentiable(teacher_variance)
        return within, across, teacher_variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        of_within, of_across, _ = gradients
        student, teacher, mask, cells = ctx.saved_tensors
        of_student = ((of_within + of_within.T) / cells).to(student.dtype)
        of_teacher = (of_across.T / cells).to(student.dtype)
        gradient = torch.addmm(student @ of_student, teacher, of_teacher)
        return gradient if mask is None else gradient.masked_fill_(~mask, 0), None, None


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
        return torch.full((), cells, device=features.device)
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
