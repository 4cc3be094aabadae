"""Checks of the values of weights: a file of the right shapes may hold numbers with which nothing can be computed."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

_VARIANCE_SUFFIX = ".running_var"
_NOT_DENSE = "is sparse, quantized or without values; allowed: dense floating-point numbers"


def value_problem(weights: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str | None:
    """Why the first unusable tensor cannot be used, as the rest of a sentence that starts with its name.

    Args:
        weights: Tensors of a file, by name.
        expected: Those of the detector. Tensors of other names are not checked.
    """
    for name, tensor in weights.items():
        if name in expected and expected[name].is_floating_point():
            problem = _problem(tensor, is_variance=name.endswith(_VARIANCE_SUFFIX))
            if problem is not None:
                return f"{name} {problem}"
    return None


def storage_problem(tensors: Mapping[str, Tensor]) -> str | None:
    """Why the first tensor whose rows cannot be reordered cannot be used; a sentence that starts with its name.

    A stored tensor may state more numbers than there are bytes in its file, by steps of 0 between them.
    """
    for name, tensor in tensors.items():
        if not _is_dense(tensor):
            return f"{name} {_NOT_DENSE}"
        if tensor.numel() * tensor.itemsize > tensor.untyped_storage().nbytes():
            return f"{name} states more numbers than are stored"
    return None


def _is_dense(tensor: Tensor) -> bool:
    return tensor.layout == torch.strided and not tensor.is_quantized and not tensor.is_meta


def _problem(tensor: Tensor, *, is_variance: bool) -> str | None:
    kind = str(tensor.dtype).removeprefix("torch.")
    if not _is_dense(tensor):
        return _NOT_DENSE
    if not tensor.is_floating_point() or tensor.dtype.itemsize < torch.float16.itemsize:
        return f"holds {kind}; allowed: float32, float16, bfloat16, float64"
    # In float32, in which the detector has them: a float64 beyond its range becomes infinite.
    numbers = tensor.detach().float()
    if not bool(torch.isfinite(numbers).all()):
        return "holds numbers that are NaN or infinite; the training that wrote it probably diverged"
    if is_variance and bool((numbers < 0).any()):
        return "holds a variance below 0"
    return None
