"""Losses between feature maps, and their sum over the levels of a pyramid.

Both losses leave out what a mask marks as padding, are computed in fp32 whatever the features' type, give the
teacher no gradient, and have fixed shapes throughout, so that no step waits for the host.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

FeatureLoss = Literal["pearson", "mse"]
"""``pearson`` asks for the teacher's pattern, whatever its scale and offset; ``mse`` for its values."""

VARIANCE_EPSILON = 1e-8
"""Added to every variance. Small beside that of any living channel (1e-4 would be low), so that the loss stays free of
scale; large enough that a constant channel's gradient, whose norm is at most 1 / sqrt(epsilon * cells), is nothing
that clipping could not handle."""

_CHANNEL_AXES = (0, 2, 3)


class _ChannelMoments(torch.autograd.Function):
    """Variances of student and teacher and their covariance, of each channel, over the cells of a mask.

    Written out because autograd would keep and walk some ten maps as large as the feature map, where two are enough:
    ``d variance / d student = 2 (student - mean) / cells`` and ``d covariance / d student = (teacher - mean) / cells``.
    """

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        cells = _count_cells(student, mask)
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


def _count_cells(features: Tensor, mask: Tensor | None) -> Tensor:
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


def _assert_comparable(student: Tensor, teacher: Tensor, mask: Tensor | None) -> None:
    assert student.dim() == 4, f"{student.shape}, not (N, C, H, W)"
    assert student.shape == teacher.shape, f"student {student.shape}, teacher {teacher.shape}"
    if mask is not None:
        count, _, height, width = student.shape
        assert mask.dtype == torch.bool, f"a mask is bool, not {mask.dtype}"
        assert tuple(mask.shape) in ((count, 1, height, width), (count, 1, 1, 1)), f"mask {mask.shape}"


def pearson_loss(student: Tensor, teacher: Tensor, mask: Tensor | None = None) -> Tensor:
    """Half the mean squared difference of standardised channels, which is ``1 - r`` averaged over the channels.

    Each channel is standardised to zero mean and unit variance over (N, H, W); ``r`` is Pearson's correlation of the
    student's channel with the teacher's. In [0, 2], and unchanged by any positive scaling or shift of a channel on
    either side. Reference: Cao et al., "PKD", NeurIPS 2022 (arXiv 2207.02039), section 3.

    A channel that is constant has no ``r``; it is standardised to zeros, as the formula then gives: 0 where both sides
    are constant (they are alike), 1/2 where one is.

    Args:
        student: (N, C, H, W), any floating type.
        teacher: (N, C, H, W); receives no gradient.
        mask: (N, 1, H, W) or (N, 1, 1, 1) bool, the cells that count; none = all. If no cell counts, the loss is 0.

    Returns:
        () float32.
    """
    _assert_comparable(student, teacher, mask)
    with torch.autocast(student.device.type, enabled=False):
        moments: tuple[Tensor, Tensor, Tensor] = _ChannelMoments.apply(student.float(), teacher.detach().float(), mask)
        student_variance, teacher_variance, covariance = moments
        student_floored, teacher_floored = student_variance + VARIANCE_EPSILON, teacher_variance + VARIANCE_EPSILON
        # The squared difference written out: var(a) / 2 + var(b) / 2 - cov(a, b), a and b being standardised. One root
        # of the product, not two roots: sqrt(x * x) is exactly x, so that identical features give exactly 0.
        spread = 0.5 * (student_variance / student_floored + teacher_variance / teacher_floored)
        loss: Tensor = (spread - covariance / torch.sqrt(student_floored * teacher_floored)).mean()
        return loss


def mse_loss(student: Tensor, teacher: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean squared difference over the channels and the cells that count.

    Arguments and result as :func:`pearson_loss`.
    """
    _assert_comparable(student, teacher, mask)
    with torch.autocast(student.device.type, enabled=False):
        difference = student.float() - teacher.detach().float()
        if mask is not None:
            difference = torch.where(mask, difference, 0.0)
        return difference.square().sum() / (_count_cells(student, mask) * student.shape[1])


def feature_loss(student: Tensor, teacher: Tensor, mask: Tensor | None, kind: FeatureLoss) -> Tensor:
    """The loss called ``kind``; arguments and result as :func:`pearson_loss`."""
    if kind == "pearson":
        return pearson_loss(student, teacher, mask)
    assert kind == "mse", kind
    return mse_loss(student, teacher, mask)


def valid_cell_mask(valid_sizes: Tensor, rows: int, columns: int, image_size: tuple[int, int]) -> Tensor:
    """Marks the cells of a feature map whose centre lies on picture, not on padding.

    Args:
        valid_sizes: (B, 2), height and width of each image's picture, pixels of the network's input.
        rows: height of the map.
        columns: width of the map.
        image_size: height and width of the network's input, pixels. Cells tile it: their stride is image height over
            rows, which is the level's stride wherever that divides the image, and keeps p6's last row where it does
            not.

    Returns:
        (B, 1, rows, columns) bool.
    """
    image_height, image_width = image_size
    row_centres = (torch.arange(rows, device=valid_sizes.device) + 0.5) * (image_height / rows)
    column_centres = (torch.arange(columns, device=valid_sizes.device) + 0.5) * (image_width / columns)
    row_valid = row_centres < valid_sizes[:, 0, None]
    column_valid = column_centres < valid_sizes[:, 1, None]
    return (row_valid[:, :, None] & column_valid[:, None, :])[:, None]


def pyramid_distillation_loss(
    student: Mapping[str, Tensor],
    teacher: Mapping[str, Tensor],
    valid_sizes: Tensor,
    image_size: tuple[int, int],
    kind: FeatureLoss,
) -> Tensor:
    """Mean over the levels of the feature loss of each, padding left out.

    A mean of levels, each a mean of its own cells: a sum over cells would let p2, with three quarters of all cells,
    swamp the rest.

    Args:
        student: level -> (B, C, H, W), already adapted to the teacher's channels.
        teacher: the same levels and shapes; receives no gradient.
        valid_sizes: (B, 2), height and width of each image's picture, pixels of the network's input.
        image_size: height and width of the network's input, pixels.
        kind: which loss.

    Returns:
        () float32.
    """
    assert student.keys() == teacher.keys(), f"student's levels {list(student)}, teacher's {list(teacher)}"
    losses = []
    for level, features in student.items():
        rows, columns = features.shape[-2:]
        mask = valid_cell_mask(valid_sizes, rows, columns, image_size)
        losses.append(feature_loss(features, teacher[level], mask, kind))
    return torch.stack(losses).mean()
