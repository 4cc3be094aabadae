"""What trials that were not trained to their end are expected to reach there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
BudgetCurve = Mapping[float, float]
"""Values that a trial measured, by the share of its budget in (0, 1]: epochs trained over epochs planned."""

LEAST_PAIRS = 6
"""Finished trials with a value at the same share of the budget, from which the end is predicted."""
MOST_PAIRS = 500
_SLOPE_DEVIATION = 0.5
"""Standard deviation of the slope around 1 before any result."""


class EndPrediction:
    """Linear regression of the value at the end on that at an earlier share of the budget.

    One line for each share, from the finished trials that had a value there. That only some trials were finished does
    not bias the line: which ones depended on the earlier values, and these are the regression's input. The slope is
    drawn towards 1, so that the difference between early and late values is learnt from few trials.

    Args:
        curves: Of finished trials, with their last value.
    """

    def __init__(self, curves: Sequence[tuple[BudgetCurve, float]]) -> None:
        pairs: dict[float, list[tuple[float, float]]] = {}
        for curve, end in curves[-MOST_PAIRS:]:
            for share, value in curve.items():
                if share < 1 and np.isfinite(value):
                    pairs.setdefault(share, []).append((value, end))
        self._lines = {share: _Line(np.array(found)) for share, found in pairs.items() if len(found) >= LEAST_PAIRS}

    def __call__(self, curve: BudgetCurve) -> tuple[float, float] | None:
        """Mean and variance of the value at the end, predicted from the latest value.

        None if it has no value, or too few finished trials had one at that share.
        """
        if not curve:
            return None
        share = max(curve)
        line = self._lines.get(share)
        return None if line is None or not np.isfinite(curve[share]) else line.predict(curve[share])


class _Line:
    """Bayesian linear regression with a flat prior of the intercept.

    Args:
        pairs: (N, 2) earlier and last values.
    """

    def __init__(self, pairs: Floats) -> None:
        earlier, last = pairs.T
        self._count = len(pairs)
        self._center, self._mean = float(earlier.mean()), float(last.mean())
        x, y = earlier - self._center, last - self._mean
        spread = float((x**2).sum())
        # The prior counts as much as pairs of this sum of squares.
        noise = max(float(((y - x) ** 2).mean()), 1e-12)
        prior = noise / _SLOPE_DEVIATION**2
        self._slope = (float((x * y).sum()) + prior) / (spread + prior)
        residuals = y - self._slope * x
        self._variance = max(float((residuals**2).sum()) / (self._count - 2), 1e-12)
        self._precision = spread + prior

    def predict(self, value: float) -> tuple[float, float]:
        distance = value - self._center
        variance = self._variance * (1 + 1 / self._count + distance**2 / self._precision)
        return self._mean + self._slope * distance, variance
