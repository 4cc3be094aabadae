"""Which cells of large feature maps are compared: a map's neighbouring cells say much the same, and cost as much."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

ComparedCells = Literal["sample", "all"]
"""``sample``: of maps of 3,000 cells and more one in 3 to 11, evenly spread; ``all``: every cell."""

_LARGEST_STEP = 11
_ENOUGH_CELLS = 1000


def is_known_whole(mask: Tensor) -> bool:
    """Whether a bool mask leaves nothing out, where it may be looked at: not where the host would wait for a GPU's
    answer, nor in a traced graph.
    """
    return mask.device.type == "cpu" and not torch.compiler.is_compiling() and bool(mask.all())


def compared_maps(
    student: Tensor, teacher: Tensor, mask: Tensor | None, cells: ComparedCells
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Maps (N, C, H, W) of any channels, and their mask (N, 1, H, W), at the cells that are compared.

    A sample is every n-th cell, counted through the whole batch, row after row, with :func:`step_between_cells`'s n. It
    is a function of the maps' size alone; training's batches, which differ, bring every place of a scene to it.

    Returns:
        The maps as they are where all cells are compared; else (1, C, M, 1) each, whose gradient is 0 elsewhere.
    """
    step = 1 if cells == "all" else step_between_cells(student)
    if step == 1:
        return student, teacher, mask
    return _every(step, student), _every(step, teacher), None if mask is None else _every(step, mask)


def step_between_cells(features: Tensor) -> int:
    """The largest odd number up to 11 that leaves at least 1,000 cells of maps (N, C, H, W), and shares no factor with
    their width; 1 where there is none.

    So the rows take different columns, and all four places of a cell below one of the next coarser level are taken
    equally often.
    """
    width = features.shape[3]
    step = _LARGEST_STEP
    while step > 1 and (math.gcd(step, width) > 1 or features.numel() < step * _ENOUGH_CELLS * features.shape[1]):
        step -= 2
    return step


def _every(step: int, features: Tensor) -> Tensor:
    rows = features.permute(0, 2, 3, 1).reshape(-1, features.shape[1])
    return rows[::step].T[None, :, :, None]
