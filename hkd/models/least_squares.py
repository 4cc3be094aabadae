"""Linear least squares from sums over rows, so that the rows need not be kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

_RIDGES: Final = (10.0, 1.0, 0.1, 0.01, 0.001)
"""Weights of the squared distance to the first weights, relative to the mean variance of the inputs."""
EXACT: Final = 1.0 - 1e-6
"""Explained share of the variance from which on the first weights are kept, so that an equal network stays equal."""
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
    ridge: float | None
    """Of :data:`_RIDGES`, the one that was chosen; None: the first weights are kept."""
    explained_before: float
    """Share of the outputs' variance that the first weights explain with the best bias; at most 1, perhaps negative."""
    explained: float
    """Share that ``W`` and ``b`` explain of rows on which they were not fitted: of each half by the other."""


class LeastSquares:
    """Sums over pairs of inputs (N, I) and outputs (N, O), in float64, in two halves."""

    def __init__(self, num_rows: int) -> None:
        """Expect ``num_rows`` pairs, of which the first half of the images comes first."""
        self._num_left = num_rows // 2
        self._halves: list[_Sums | None] = [None, None]

    def add(self, inputs: Tensor, outputs: Tensor) -> None:
        """Add pairs of rows."""
        num_first = min(self._num_left, len(inputs))
        self._num_left -= num_first
        for half, rows in enumerate((slice(num_first), slice(num_first, None))):
            x, y = inputs[rows].double(), outputs[rows].double()
            if len(x) == 0:
                continue
            added = _Sums(len(x), x.sum(dim=0), y.sum(dim=0), x.T @ x, y.T @ x, y.square().sum())
            known = self._halves[half]
            self._halves[half] = added if known is None else known.plus(added)

    def solve(self, start: Tensor) -> LinearFit:
        """Minimise ``sum |y - W x - b|^2 + ridge |W - start|^2`` over all rows, which are consumed.

        The ridge keeps ``start`` (O, I) in directions in which the inputs hardly vary. Of several, the one is chosen
        that predicts each half best from the other: with more inputs than independent rows, as of small feature maps
        or of pooled regions, a small ridge follows the noise of the rows with weights a hundred times as large.
        """
        first = start.double()
        one, other = (None if half is None else half.centred() for half in self._halves)
        self._halves = [None, None]
        if one is None or other is None:
            # A single row: nothing but the bias can be fitted.
            both = one or other
            assert both is not None, "rows were added"
            return _fit_of(both, first, None, 0.0, 0.0)
        folds = ((one, other), (other, one))
        total = float(one.outputs + other.outputs)
        ridge = None
        smallest = error_before = sum(held_out.error(fitted, first) for fitted, held_out in folds)

        def explained(error: float) -> float:
            return (total - error) / max(total, _TINY)

        if explained(error_before) < EXACT:
            for candidate in _RIDGES:
                error = sum(held_out.error(fitted, fitted.weight(first, candidate)) for fitted, held_out in folds)
                if error >= smallest:
                    # From the largest ridge on, errors fall and then rise.
                    break
                ridge, smallest = candidate, error
        return _fit_of(one.merged(other), first, ridge, explained(error_before), explained(smallest))


@dataclass
class _Sums:
    """Sums over rows ``x`` and ``y``."""

    count: int
    x: Tensor
    y: Tensor
    xx: Tensor
    yx: Tensor
    yy: Tensor

    def plus(self, other: _Sums) -> _Sums:
        """Add the sums over other rows, in place."""
        self.count += other.count
        for name in ("x", "y", "xx", "yx", "yy"):
            getattr(self, name).add_(getattr(other, name))
        return self

    def centred(self) -> _Centred:
        """The sums over rows from which their means are subtracted, in the memory of these sums."""
        x_mean, y_mean = self.x / self.count, self.y / self.count
        # In place: of fc6's 12,544 inputs, such a matrix takes 1.3 GB.
        return _Centred(
            self.count,
            x_mean,
            y_mean,
            self.xx.addr_(x_mean, x_mean, alpha=-self.count),
            self.yx.addr_(y_mean, x_mean, alpha=-self.count),
            (self.yy - self.count * y_mean.square().sum()).clamp(min=0.0),
        )


@dataclass
class _Centred:
    """Means of rows, and sums of products of their deviations."""

    count: int
    x_mean: Tensor
    y_mean: Tensor
    inputs: Tensor
    """(I, I), of inputs and inputs."""
    products: Tensor
    """(O, I), of outputs and inputs."""
    outputs: Tensor
    """Sum of the squared deviations of all outputs."""

    def weight(self, first: Tensor, ridge: float) -> Tensor:
        """(O, I), fitted to these rows."""
        regularised = self.inputs.clone()
        regularised.diagonal().add_(ridge * self.inputs.diagonal().mean() + _TINY)
        factor = torch.linalg.cholesky(regularised)
        return first + torch.cholesky_solve((self.products - first @ self.inputs).T, factor).T

    def error(self, fitted: _Centred, weight: Tensor) -> float:
        """Sum of the squared errors on these rows of a weight and of the bias that fits it to other rows."""
        around_means = self.outputs - 2 * (weight * self.products).sum() + (weight * (weight @ self.inputs)).sum()
        shift = (self.y_mean - fitted.y_mean) - weight @ (self.x_mean - fitted.x_mean)
        return float(around_means + self.count * shift.square().sum())

    def merged(self, other: _Centred) -> _Centred:
        """Both together, in the memory of these sums."""
        count = self.count + other.count
        x_step, y_step = other.x_mean - self.x_mean, other.y_mean - self.y_mean
        factor = self.count * other.count / count
        return _Centred(
            count,
            self.x_mean + other.count / count * x_step,
            self.y_mean + other.count / count * y_step,
            self.inputs.add_(other.inputs).addr_(x_step, x_step, alpha=factor),
            self.products.add_(other.products).addr_(y_step, x_step, alpha=factor),
            self.outputs + other.outputs + factor * y_step.square().sum(),
        )


def _fit_of(rows: _Centred, first: Tensor, ridge: float | None, explained_before: float, explained: float) -> LinearFit:
    weight = first if ridge is None else rows.weight(first, ridge)
    means = weight @ rows.x_mean
    variances = (weight * (weight @ rows.inputs)).sum(dim=1).clamp(min=0.0) / rows.count
    return LinearFit(weight, rows.y_mean - means, means, variances, ridge, explained_before, explained)
