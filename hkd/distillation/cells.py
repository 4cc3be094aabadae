"""Which cells of large feature maps are compared: a map's neighbouring cells say much the same, and cost as much."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from hkd.distillation.moments import cell_rows

ComparedCells = Literal["sample", "all"]
"""``sample``: of large maps one cell in 3 to 11, see :func:`step_between_cells`; ``all``: every cell."""

# From the largest on, each with the prime that no width may have.
_STEPS = ((11, 11), (9, 3), (7, 7), (5, 5), (3, 3))
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
    """The largest odd number from 3 to 11 that leaves at least 1,000 cells of maps (N, C, H, W), padding and all, and
    shares no factor with their width; 1 where there is none.

    So the rows take different columns, and all four places of a cell below one of the next coarser level are taken
    equally often. Next to a multiple of the step, a width lays the cells on diagonals.
    """
    count, _, height, width = features.shape
    for step, prime in _STEPS:
        if width % prime and count * height * width >= step * _ENOUGH_CELLS:
            return step
    return 1


def _every(step: int, features: Tensor) -> Tensor:
    return cell_rows(features)[::step].T[None, :, :, None]
