"""Cells of large feature maps at which features are compared: neighbouring cells carry nearly the same information."""

from __future__ import annotations

from torch import Tensor

from hkd.config import ComparedCells
from hkd.distillation.moments import cell_rows
from hkd.runtime.device import is_host_readable

# Strides by descending size, each with its prime factor.
_STRIDES = ((11, 11), (9, 3), (7, 7), (5, 5), (3, 3))
_MINIMUM_CELLS = 1000


def is_known_full(mask: Tensor) -> bool:
    """Whether a bool mask is True everywhere, if that can be read without a synchronization or a graph break.

    On a GPU and in a traced graph the answer is False.
    """
    return is_host_readable(mask) and bool(mask.all())


def compared_maps(
    student: Tensor, teacher: Tensor, mask: Tensor | None, cells: ComparedCells
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Student's and teacher's maps (N, C, H, W), and their mask (N, 1, H, W), at the cells that are compared.

    A sample is every n-th cell of the whole batch, counted row by row, with n of :func:`sampling_stride`. It depends on
    the maps' shape only; augmentation brings every part of a scene to the sampled cells.

    Returns:
        The arguments if all cells are compared; else maps and mask of shape (1, C, M, 1) with M sampled cells.
    """
    stride = 1 if cells == "all" else sampling_stride(student)
    if stride == 1:
        return student, teacher, mask
    return _sample(student, stride), _sample(teacher, stride), None if mask is None else _sample(mask, stride)


def sampling_stride(features: Tensor) -> int:
    """The largest odd stride from 3 to 11 that samples at least 1,000 cells of maps (N, C, H, W); 1 if there is none.

    Padding counts as cells. The stride has no common factor with the width, so that different rows sample different
    columns, and each of the four cells below a cell of the next coarser level is sampled equally often.
    """
    count, _, height, width = features.shape
    for stride, prime in _STRIDES:
        if width % prime and count * height * width >= stride * _MINIMUM_CELLS:
            return stride
    return 1


def _sample(features: Tensor, stride: int) -> Tensor:
    return cell_rows(features)[::stride].T[None, :, :, None]
