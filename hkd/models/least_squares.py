"""Linear least squares from sums over rows, so that the rows need not be kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

_RIDGE: Final = 1e-3
"""Weight of the squared distance to the first weights, relative to the mean variance of the inputs."""
_TINY: Final = torch.finfo(torch.float32).tiny


@dataclass(frozen=True)
class LinearFit:
    """The map ``y = W x + b`` that predicts outputs from inputs best."""

    weight: Tensor
    """(O, I) float64."""
    bias: Tensor
    """(O,) float64."""
    means: Tensor
    """(O,) float64, means of ``W x``; with ``b`` they are the outputs' means."""
    variances: Tensor
    """(O,) float64, variances of ``W x``."""
    explained_before: float
    """Share of the outputs' variance that the first weights explain with the best bias; at most 1, perhaps negative."""
    explained: float
    """Share that ``W`` and ``b`` explain."""


class LeastSquares:
    """Sums over pairs of inputs (N, I) and outputs (N, O), in float64."""

    def __init__(self) -> None:
        self._count = 0
        self._sums: list[Tensor] = []

    def add(self, inputs: Tensor, outputs: Tensor) -> None:
        """Add pairs of rows."""
        x, y = inputs.double(), outputs.double()
        sums = [x.sum(dim=0), y.sum(dim=0), x.T @ x, y.T @ x, y.square().sum()]
        self._count += len(x)
        self._sums = [old + new for old, new in zip(self._sums, sums, strict=True)] if self._sums else sums

    def solve(self, start: Tensor) -> LinearFit:
        """Minimise ``sum |y - W x - b|^2 + ridge |W - start|^2`` over the rows.

        The ridge keeps ``start`` (O, I) in directions in which the inputs hardly vary.
        """
        first = start.double()
        x_mean, y_mean = self._sums[0] / self._count, self._sums[1] / self._count
        # Of centred inputs and outputs.
        inputs = self._sums[2] - self._count * torch.outer(x_mean, x_mean)
        products = self._sums[3] - self._count * torch.outer(y_mean, x_mean)
        total = (self._sums[4] - self._count * y_mean.square().sum()).clamp(min=_TINY)
        ridge = _RIDGE * inputs.diagonal().mean() + _TINY
        # In place on one copy: of fc6's 12,544 inputs, each such matrix takes 1.3 GB.
        regularised = inputs.clone()
        regularised.diagonal().add_(ridge)
        factor = torch.linalg.cholesky(regularised)
        del regularised
        weight = first + torch.cholesky_solve((products - first @ inputs).T, factor).T

        def explained(w: Tensor) -> float:
            return float((2 * (w * products).sum() - (w * (w @ inputs)).sum()) / total)

        means = weight @ x_mean
        return LinearFit(
            weight=weight,
            bias=y_mean - means,
            means=means,
            variances=(weight * (weight @ inputs)).sum(dim=1).clamp(min=0.0) / self._count,
            explained_before=explained(first),
            explained=explained(weight),
        )
