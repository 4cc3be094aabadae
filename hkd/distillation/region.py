"""Losses between region features, and between embeddings, of the student's sampled regions.

Teacher and student pool the same regions, which are compared one by one.
"""

from __future__ import annotations

from torch import Tensor

from hkd.config import ComparedCells, FeatureLoss
from hkd.distillation.cells import compared_maps, is_known_full
from hkd.distillation.feature_losses import feature_loss


def region_distillation_loss(
    student: Tensor,
    teacher: Tensor,
    valid: Tensor,
    kind: FeatureLoss,
    adapter_weight: Tensor | None = None,
    cells: ComparedCells = "all",
) -> Tensor:
    """Feature loss of RoI-aligned features over the cells of all valid regions.

    Args:
        student: (R, C, 7, 7), adapted to the teacher's channels unless ``adapter_weight`` is given.
        teacher: (R, C, 7, 7), for the same regions; receives no gradient.
        valid: (R,) bool; if no region is valid, the loss is 0.
        kind: the feature loss.
        adapter_weight: see :func:`hkd.distillation.feature_losses.pearson_loss`.
        cells: cells to compare, see :func:`hkd.distillation.cells.compared_maps`.

    Returns:
        () float32.
    """
    mask = None if is_known_full(valid) else valid[:, None, None, None].expand(-1, 1, *student.shape[2:])
    return feature_loss(*compared_maps(student, teacher, mask, cells), kind, adapter_weight)


def embedding_distillation_loss(
    student: Tensor, teacher: Tensor, valid: Tensor, kind: FeatureLoss, adapter_weight: Tensor | None = None
) -> Tensor:
    """Feature loss of the box head's embedding over all valid regions.

    Args:
        student: (R, D), adapted to the teacher's width unless ``adapter_weight`` is given.
        teacher: (R, D), for the same regions; receives no gradient.
        valid: (R,) bool; if no region is valid, the loss is 0.
        kind: the feature loss.
        adapter_weight: see :func:`hkd.distillation.feature_losses.pearson_loss`.

    Returns:
        () float32.
    """
    return feature_loss(
        student[:, :, None, None], teacher[:, :, None, None], valid[:, None, None, None], kind, adapter_weight
    )
