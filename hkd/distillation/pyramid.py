"""The distillation loss of the pyramid: the mean over its levels of a feature loss without padding."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from hkd.config import ComparedCells, FeatureLoss
from hkd.distillation.cells import compared_maps, is_known_full
from hkd.distillation.feature_losses import assert_comparable, feature_loss, pearson_loss_of_moments
from hkd.distillation.moments import adapted_moments


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
        adapter_weights: level -> (C, C_student), see :func:`hkd.distillation.feature_losses.pearson_loss`.
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
        assert_comparable(features, teacher[level], mask, adapter_weights[level] if adapter_weights else None)
        maps.append(compared_maps(features, teacher[level], mask, cells))
    if adapter_weights is None:
        return torch.stack([feature_loss(*level_maps, kind) for level_maps in maps]).mean()
    assert kind == "pearson", f"{kind} needs adapted features"
    with torch.autocast(valid_sizes.device.type, enabled=False):
        # The moments of all levels in one tensor: they are so small that an operation on all costs as much as on one.
        students, teachers, masks = zip(*maps, strict=True)
        return pearson_loss_of_moments(
            adapted_moments(students, teachers, masks, [adapter_weights[k] for k in student])
        )
