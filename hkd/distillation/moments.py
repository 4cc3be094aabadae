"""Moments of feature maps over the cells of a mask: what Pearson's correlation is made of.

Gradients are written out: autograd would keep and walk some ten maps as large as the features. On a GPU, and in a
traced graph, shapes are fixed and the host waits for nothing; on a CPU, where looking costs nothing, masks are looked
at.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_CHANNEL_AXES = (0, 2, 3)
_PARTS = 2
# Up to so many rows products in fp32 take no longer than in bf16, twice over and put together.
_FEW_ROWS = 2048
# For a number next to a mean.
_SAMPLED_ROWS = 512
# From so many rows on, sums of batch norm's pass are over so many times fewer.
_MANY_ROWS = 8192
_ROWS_ABREAST = 64
# Of a variance of fp32 numbers that may be left where it is taken from a larger one; 1e-7 / 1e-2 of it is lost.
_KEPT_SHARE = 0.01


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
    covariance with the teacher's channel ``w^T Cov(x, t)``: two small matrices, one product over the cells, in the
    features' own type, summed and kept in fp32. That is a fraction of the adapted map's traffic in memory.

    Args:
        students: (N, C_s, H, W) each, of any sizes.
        teachers: (N, C_t, H, W) each, finite in cells that do not count as well; they receive no gradient.
        masks: (N, 1, H, W) or (N, 1, 1, 1) bool each, the cells that count; None = all.
        weights: (C_t, C_s) each, of the adapters; they have no bias, which would change no moment.

    Returns:
        Moments of (L, C_t).
    """
    of_maps = [_cross_moments(*maps) for maps in zip(students, teachers, masks, strict=True)]
    within, across, teacher_variance = (torch.stack(matrices) for matrices in zip(*of_maps, strict=True))
    weight = torch.stack(list(weights)).to(within.dtype)
    covariance = (weight * across.mT).sum(dim=-1)
    student_variance = ((weight @ within) * weight).sum(dim=-1)
    # No variance is below cov^2 / var_t (Cauchy and Schwarz), whatever rounding has left of it. Its gradient stays its
    # own: at a correlation of 1, where both are equal but for rounding, that is what holds the covariance's in check.
    least = covariance.detach().square() / teacher_variance.clamp(min=torch.finfo(teacher_variance.dtype).tiny)
    student_variance = student_variance + (least - student_variance.detach()).clamp(min=0)
    return Moments(student_variance, teacher_variance, covariance)


def _cross_moments(student: Tensor, teacher: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Cov(x) (C_s, C_s), Cov(x, t) (C_s, C_t) and Var(t) (C_t,) over the cells of a mask."""
    narrow = torch.promote_types(student.dtype, teacher.dtype)
    # Sums over cells soon pass what fp16 holds.
    if narrow == torch.float16 or student.numel() <= _FEW_ROWS * student.shape[1]:
        narrow = torch.promote_types(narrow, torch.float32)
    rows = None if mask is None else mask.expand(-1, 1, *student.shape[2:]).reshape(-1, 1)
    moments: tuple[Tensor, Tensor, Tensor] = _CrossMoments.apply(
        _rows(student.to(narrow)), _rows(teacher.to(narrow)), rows
    )
    return moments


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
    wide = _wide(left)
    if wide == left.dtype:
        return left.T @ right
    # By parts, which is faster on a CPU.
    parts = math.gcd(len(left), _PARTS)
    first = left.view(parts, -1, left.shape[1]).transpose(1, 2)
    second = right.view(parts, -1, right.shape[1])
    rounded = torch.bmm(first, second)
    return (rounded.to(wide) + torch.baddbmm(rounded, first, second, beta=-1).to(wide)).sum(dim=0)


class _CrossMoments(torch.autograd.Function):
    """Of rows X (M, C_s) and T (M, C_t): Cov(X) (C_s, C_s), Cov(X, T) (C_s, C_t) and the variances of T (C_t,).

    Both are brought next to a mean of zero before they are multiplied: products of what is not lose all digits where a
    mean is large beside the spread. What is left of the means, d and e, is taken off after: ``Cov(X) = X^T X / cells -
    d d^T`` and ``Cov(X, T) = X^T T / cells - d e^T``. With G and H the gradients of the two, that of X is
    ``(X - d) (G + G^T) / cells + (T - e) H^T / cells``. Rows that do not count are zero in X, and need not be in T: the
    products leave them out.
    """

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        if mask is not None and _may_ask(mask) and bool(mask.all()):
            mask = None
        cells = count_cells(student, mask)
        if mask is None:
            student = student - _near_mean(student, None)
        else:
            student = _zero_where_not(student, mask)
            student.addmm_(mask.to(student.dtype), _near_mean(student, mask)[None], alpha=-1)
        student_left = _product(student.new_ones(len(student), 1), student)[0] / cells
        teacher = teacher - _near_mean(teacher, mask)
        teacher_left, teacher_variance = _mean_and_variance(teacher, mask, cells)
        within = (_product(student, student) / cells).addr_(student_left, student_left, alpha=-1)
        across = (_product(student, teacher) / cells).addr_(student_left, teacher_left, alpha=-1)
        ctx.save_for_backward(student, teacher, mask, cells, student_left, teacher_left)
        ctx.mark_non_differentiable(teacher_variance)
        return within, across, teacher_variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        of_within, of_across, _ = gradients
        student, teacher, mask, cells, student_left, teacher_left = ctx.saved_tensors
        with torch.autocast(student.device.type, enabled=False):
            of_student = ((of_within + of_within.T) / cells).to(student.dtype)
            of_teacher = (of_across.T / cells).to(student.dtype)
            of_left = student_left @ of_student.to(_wide(student)) + teacher_left @ of_teacher.to(_wide(student))
            gradient = torch.addmm(-of_left.to(student.dtype), teacher, of_teacher).addmm_(student, of_student)
        return gradient if mask is None else _zero_where_not(gradient, mask), None, None


def _may_ask(tensor: Tensor) -> bool:
    """Whether the host may look into a tensor: not where it would wait for a GPU's answer, nor in a traced graph."""
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling()


def _near_mean(rows: Tensor, mask: Tensor | None) -> Tensor:
    """Numbers (C,) next to the means of the rows (M, C) that count, which are finite in the others: those of a sample.

    Of equal numbers that number itself, if they are of bf16, and in fp32 next to it.
    """
    # Where nobody may look whether it holds one that counts, the sample is all.
    step = -(-len(rows) // _SAMPLED_ROWS) if mask is None or _may_ask(mask) else 1
    sample = rows[::step].to(_wide(rows))
    if mask is None:
        return sample.mean(dim=0).to(rows.dtype)
    kept = mask[::step].to(sample.dtype)
    return ((sample * kept).sum(dim=0) / kept.sum().clamp(min=1)).to(rows.dtype)


def _zero_where_not(rows: Tensor, mask: Tensor) -> Tensor:
    """Rows (M, C), zero where the mask (M, 1) is False, whatever stood there, NaN as well.

    As integers: a product would keep NaN, and torch fills by a mask at half the speed.
    """
    bits = {2: torch.int16, 4: torch.int32, 8: torch.int64}[rows.dtype.itemsize]
    return (rows.view(bits) & -mask.to(bits)).view(rows.dtype)


def _mean_and_variance(rows: Tensor, mask: Tensor | None, cells: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance (C,) of the rows (M, C) that count, finite in the others; in fp32 or wider.

    Rows come with their means next to zero: no digits are lost to those.
    """
    if _may_ask(rows):
        return _mean_and_variance_of_all(rows) if mask is None else _mean_and_variance_of_some(rows, mask.flatten())
    # In fixed shapes: what does not count is set to zero, and its part taken out again.
    kept = rows if mask is None else _zero_where_not(rows, mask)
    variance, mean = torch.var_mean(kept.to(_wide(rows)), dim=0, correction=0)
    nothing = torch.zeros_like(mean)
    # As a number of their type: a quotient of integers would be of fp32.
    return _merged((mean, variance, len(rows)), (nothing, nothing, cells.to(mean.dtype) - len(rows)))


def _mean_and_variance_of_some(rows: Tensor, is_counted: Tensor) -> tuple[Tensor, Tensor]:
    """As :func:`_mean_and_variance`, in as few passes over memory as what is left out allows."""
    left_out = (~is_counted).nonzero().flatten()
    if not len(left_out):
        return _mean_and_variance_of_all(rows)
    if 2 * len(left_out) < len(rows):
        mean, variance = _mean_and_variance_of_all(rows)
        out = _mean_and_variance_of_all(rows[left_out])
        mean, kept = _merged((mean, variance, len(rows)), (*out, -len(left_out)))
        # Digits are lost where what is left out is far from the rest.
        if bool((kept >= _KEPT_SHARE * variance).all()):
            return mean, kept
    return _mean_and_variance_of_all(rows[is_counted.nonzero().flatten()])


def _mean_and_variance_of_all(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Of rows (M, C), in fp32 or wider; 0 where there are none.

    By batch norm's own pass over its input, which copies nothing. It adds up row after row, and loses digits over many:
    those are laid side by side, as channels of their own, and the few sums put together.
    """
    count, channels = rows.shape
    abreast = _ROWS_ABREAST if count >= _MANY_ROWS else 1
    whole = count // abreast * abreast
    # It answers in the type of the running statistics, which with a momentum of 0 stay as they are.
    running = rows.new_zeros(2, abreast * channels, dtype=_wide(rows))
    if not count:
        return running[0], running[1]
    found = torch.batch_norm_update_stats(rows[:whole].reshape(-1, abreast * channels), running[0], running[1], 0.0)
    if abreast == 1:
        return found
    means, variances = (statistic.view(abreast, channels) for statistic in found)
    mean = means.mean(dim=0)
    variance = (variances + (means - mean).square()).mean(dim=0)
    if whole < count:
        rest = _mean_and_variance_of_all(rows[whole:])
        mean, variance = _merged((mean, variance, whole), (*rest, count - whole))
    return mean, variance


def _merged(first: tuple[Tensor, Tensor, int], second: tuple[Tensor, Tensor, int | Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and variance of two sets of numbers, each its mean, variance and count; with a negative count, of the first
    less the second, which it contains (Chan, Golub and LeVeque, 1979).
    """
    (mean, variance, count), (other_mean, other_variance, other_count) = first, second
    total = count + other_count
    shift = other_mean - mean
    squares = count * variance + other_count * other_variance + shift.square() * (count * other_count / total)
    return mean + shift * (other_count / total), (squares / total).clamp(min=0)


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
