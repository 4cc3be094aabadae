"""Losses between what two box heads see and make of the same regions.

The teacher's features are those of the student's sampled regions: the two are compared region by region.
"""

from __future__ import annotations

from torch import Tensor

from hkd.distillation.cells import ComparedCells, compared_maps, is_known_whole
from hkd.distillation.pyramid import FeatureLoss, feature_loss


def region_distillation_loss(
    student: Tensor,
    teacher: Tensor,
    valid: Tensor,
    kind: FeatureLoss,
    adapter_weight: Tensor | None = None,
    cells: ComparedCells = "all",
) -> Tensor:
    """Feature loss of RoI-aligned features; a channel's statistics run over valid regions and their cells.

    Args:
        student: (R, C, 7, 7), already adapted to the teacher's channels.
        teacher: (R, C, 7, 7), of the same regions; receives no gradient.
        valid: (R,) bool; if no region is valid, the loss is 0.
        kind: which loss.
        adapter_weight: as :func:`hkd.distillation.pyramid.pearson_loss` takes it, for a student not yet adapted.
        cells: which cells of the regions, see :func:`hkd.distillation.cells.compared_maps`.

    Returns:
        () float32.
    """
    mask = None if is_known_whole(valid) else valid[:, None, None, None].expand(-1, 1, *student.shape[2:])
    return feature_loss(*compared_maps(student, teacher, mask, cells), kind, adapter_weight)


def embedding_distillation_loss(
    student: Tensor, teacher: Tensor, valid: Tensor, kind: FeatureLoss, adapter_weight: Tensor | None = None
) -> Tensor:
    """Feature loss of the box head's embedding; a channel's statistics run over valid regions.

    Args:
        student: (R, D), already adapted to the teacher's width.
        teacher: (R, D), of the same regions; receives no gradient.
        valid: (R,) bool; if no region is valid, the loss is 0.
        kind: which loss.
        adapter_weight: as :func:`hkd.distillation.pyramid.pearson_loss` takes it, for a student not yet adapted.

    Returns:
        () float32.
    """
    return feature_loss(
        student[:, :, None, None], teacher[:, :, None, None], valid[:, None, None, None], kind, adapter_weight
    )
