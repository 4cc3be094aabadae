"""Losses between feature maps, and their sum over the levels of a pyramid.

Both losses leave out what a mask marks as padding, are computed in fp32 whatever the features' type, give the
teacher no gradient, and have fixed shapes throughout, so that no step waits for the host.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from hkd.distillation.cells import ComparedCells, compared_maps, is_known_whole
from hkd.distillation.moments import Moments, adapted_moments, channel_moments, count_cells

FeatureLoss = Literal["pearson", "mse"]
"""``pearson`` asks for the teacher's pattern, whatever its scale and offset; ``mse`` for its values."""

VARIANCE_EPSILON = 1e-8
"""Added to every variance. Small beside that of any living channel (1e-4 would be low), so that the loss stays free of
scale; large enough that a constant channel's gradient, whose norm is at most 1 / sqrt(epsilon * cells), is nothing
that clipping could not handle."""


def _assert_comparable(student: Tensor, teacher: Tensor, mask: Tensor | None, weight: Tensor | None = None) -> None:
    assert student.dim() == 4, f"{student.shape}, not (N, C, H, W)"
    adapted = student.shape[1] if weight is None else weight.shape[0]
    assert (student.shape[0], adapted, *student.shape[2:]) == teacher.shape, (
        f"student {student.shape} adapted to {adapted} channels, teacher {teacher.shape}"
    )
    if mask is not None:
        count, _, height, width = student.shape
        assert mask.dtype == torch.bool, f"a mask is bool, not {mask.dtype}"
        assert tuple(mask.shape) in ((count, 1, height, width), (count, 1, 1, 1)), f"mask {mask.shape}"


def pearson_loss(
    student: Tensor, teacher: Tensor, mask: Tensor | None = None, adapter_weight: Tensor | None = None
) -> Tensor:
    """Half the mean squared difference of standardised channels, which is ``1 - r`` averaged over the channels.

    Each channel is standardised to zero mean and unit variance over (N, H, W); ``r`` is Pearson's correlation of the
    student's channel with the teacher's. In [0, 2], and unchanged by any positive scaling or shift of a channel on
    either side. Reference: Cao et al., "PKD", NeurIPS 2022 (arXiv 2207.02039), section 3.

    A channel that is constant has no ``r``; it is standardised to zeros, as the formula then gives: 0 where both sides
    are constant (they are alike), 1/2 where one is.

    Args:
        student: (N, C, H, W), any floating type; before the adapter, with its own number of channels, where
            ``adapter_weight`` is given.
        teacher: (N, C, H, W); receives no gradient.
        mask: (N, 1, H, W) or (N, 1, 1, 1) bool, the cells that count; none = all. If no cell counts, the loss is 0.
        adapter_weight: (C, C_student) of a linear adapter to apply to the student first. The loss is that of the
            adapted map, which is never made (see :func:`hkd.distillation.moments.adapted_moments`).

    Returns:
        () float32.
    """
    _assert_comparable(student, teacher, mask, adapter_weight)
    with torch.autocast(student.device.type, enabled=False):
        if adapter_weight is None:
            return _pearson_loss_of(channel_moments(student, teacher, mask))
        return _pearson_loss_of(adapted_moments([student], [teacher], [mask], [adapter_weight]))


def _pearson_loss_of(moments: Moments) -> Tensor:
    """Mean over the channels, and over the maps where there are several; ()."""
    student_variance, teacher_variance, covariance = moments
    student_floored, teacher_floored = student_variance + VARIANCE_EPSILON, teacher_variance + VARIANCE_EPSILON
    # The squared difference written out: var(a) / 2 + var(b) / 2 - cov(a, b), a and b being standardised. One root of
    # the product, not two roots: sqrt(x * x) is exactly x, so that identical features give exactly 0.
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
        return difference.square().sum() / (count_cells(student, mask) * student.shape[1])


def feature_loss(
    student: Tensor,
    teacher: Tensor,
    mask: Tensor | None,
    kind: FeatureLoss,
    adapter_weight: Tensor | None = None,
) -> Tensor:
    """The loss called ``kind``; arguments and result as :func:`pearson_loss`, which alone takes an adapter's weight."""
    if kind == "pearson":
        return pearson_loss(student, teacher, mask, adapter_weight)
    assert kind == "mse", kind
    assert adapter_weight is None, "mse compares the adapted map itself"
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
    adapter_weights: Mapping[str, Tensor] | None = None,
    cells: ComparedCells = "all",
) -> Tensor:
    """Mean over the levels of the feature loss of each, padding left out.

    A mean of levels, each a mean of its own cells: a sum over cells would let p2, with three quarters of all cells,
    swamp the rest.

    Args:
        student: level -> (B, C, H, W), adapted to the teacher's channels, unless ``adapter_weights`` do that.
        teacher: the same levels and shapes; receives no gradient.
        valid_sizes: (B, 2), height and width of each image's picture, pixels of the network's input.
        image_size: height and width of the network's input, pixels.
        kind: which loss.
        adapter_weights: level -> (C, C_student), as :func:`pearson_loss` takes them.
        cells: which cells of a level, see :func:`hkd.distillation.cells.compared_maps`.

    Returns:
        () float32.
    """
    assert student.keys() == teacher.keys(), f"student's levels {list(student)}, teacher's {list(teacher)}"
    height, width = image_size
    is_padded = not is_known_whole((valid_sizes[:, 0] >= height) & (valid_sizes[:, 1] >= width))
    maps = []
    for level, features in student.items():
        _, _, rows, columns = features.shape
        mask = valid_cell_mask(valid_sizes, rows, columns, image_size) if is_padded else None
        _assert_comparable(features, teacher[level], mask, adapter_weights[level] if adapter_weights else None)
        maps.append(compared_maps(features, teacher[level], mask, cells))
    if adapter_weights is None:
        return torch.stack([feature_loss(*own, kind) for own in maps]).mean()
    assert kind == "pearson", f"{kind} compares the adapted maps themselves"
    with torch.autocast(valid_sizes.device.type, enabled=False):
        # All levels' moments as one tensor: they are small, and each operation on them costs as much as on all.
        students, teachers, masks = zip(*maps, strict=True)
        return _pearson_loss_of(adapted_moments(students, teachers, masks, [adapter_weights[k] for k in student]))
