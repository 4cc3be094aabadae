"""Pareto dominance between points whose objectives are all minimised."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]


def non_dominated(points: Points) -> NDArray[np.bool_]:
    """Which of the points (N, M) no other point dominates in the M objectives -> (N,).

    A point dominates another if it is at most equal in every objective and less in one. Equal points do not dominate
    each other: both are kept. A point with a NaN is never kept and dominates nothing; inf is worse than any number.
    """
    at_most = np.all(points[:, None, :] <= points[None, :, :], axis=2)
    less = np.any(points[:, None, :] < points[None, :, :], axis=2)
    # A comparison with NaN is false, so a row with one is never at most equal: it dominates nothing.
    dominated = np.any(at_most & less, axis=0)
    return np.asarray(~dominated & ~np.isnan(points).any(axis=1), dtype=np.bool_)
