"""Losses between feature maps, and their mean over the levels of a pyramid.

Losses exclude padding by a mask, are computed in fp32 for any dtype of the features, and give the teacher no gradient.
All shapes are fixed, and nothing synchronizes with the host.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from hkd.distillation.cells import ComparedCells, compared_maps, is_known_full
from hkd.distillation.moments import Moments, adapted_moments, channel_moments, count_cells

FeatureLoss = Literal["pearson", "mse"]
"""``pearson`` compares channels up to scale and offset, ``mse`` compares values."""

VARIANCE_EPSILON = 1e-8
"""Added to every variance. Far below the variance of a channel that carries information (1e-4 would be low), so that
the loss is scale-invariant; and large enough to bound the gradient of a constant channel, whose norm is at most
1 / sqrt(epsilon * cells)."""


def _assert_comparable(student: Tensor, teacher: Tensor, mask: Tensor | None, weight: Tensor | None = None) -> None:
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
    _assert_comparable(student, teacher, mask, adapter_weight)
    with torch.autocast(student.device.type, enabled=False):
        if adapter_weight is None:
            return _pearson_loss_of(channel_moments(student, teacher, mask))
        return _pearson_loss_of(adapted_moments([student], [teacher], [mask], [adapter_weight]))


def _pearson_loss_of(moments: Moments) -> Tensor:
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
    _assert_comparable(student, teacher, mask)
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


def valid_cell_mask(valid_sizes: Tensor, rows: int, columns: int, image_size: tuple[int, int]) -> Tensor:
    """Mask of the cells of a feature map whose centre is not in the padding.

    Args:
        valid_sizes: (B, 2), height and width of each image without padding, in pixels of the network's input.
        rows: height of the map.
        columns: width of the map.
        image_size: height and width of the network's input, in pixels. Cells tile it: the stride is image height over
            rows, which equals the level's stride if that divides the height, and else keeps the last row of p6.

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
    adapter_weights: Mapping[str, Tensor] | None = None,
    cells: ComparedCells = "all",
) -> Tensor:
    """Mean over the levels of each level's feature loss, without padding.

    Each level has the same weight: in a mean over all cells, p2 with three quarters of the cells would dominate.

    Args:
        student: level -> (B, C, H_l, W_l), adapted to the teacher's channels unless ``adapter_weights`` are given.
        teacher: the same levels and shapes; receives no gradient.
        valid_sizes: (B, 2), height and width of each image without padding, in pixels of the network's input.
        image_size: height and width of the network's input, in pixels.
        kind: the feature loss.
        adapter_weights: level -> (C, C_student), see :func:`pearson_loss`.
        cells: cells to compare, see :func:`hkd.distillation.cells.compared_maps`.

    Returns:
        () float32.
    """
    assert student.keys() == teacher.keys(), f"student levels {list(student)}, teacher levels {list(teacher)}"
    height, width = image_size
    is_padded = not is_known_full((valid_sizes[:, 0] >= height) & (valid_sizes[:, 1] >= width))
    maps = []
    for level, features in student.items():
        _, _, rows, columns = features.shape
        mask = valid_cell_mask(valid_sizes, rows, columns, image_size) if is_padded else None
        _assert_comparable(features, teacher[level], mask, adapter_weights[level] if adapter_weights else None)
        maps.append(compared_maps(features, teacher[level], mask, cells))
    if adapter_weights is None:
        return torch.stack([feature_loss(*of_level, kind) for of_level in maps]).mean()
    assert kind == "pearson", f"{kind} needs adapted features"
    with torch.autocast(valid_sizes.device.type, enabled=False):
        # The moments of all levels in one tensor: they are so small that an operation on all costs as much as on one.
        students, teachers, masks = zip(*maps, strict=True)
        return _pearson_loss_of(adapted_moments(students, teachers, masks, [adapter_weights[k] for k in student]))
