"""Pareto dominance and hypervolume of points whose objectives are all minimised."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]

MOST_COMPARED_IN_PAIRS = 256
"""Up to so many points, comparing all pairs at once is faster."""
_NUM_LOWEST = 64


def non_dominated(points: Points) -> NDArray[np.bool_]:
    """Which of the points (N, M) no other point dominates in the M objectives -> (N,).

    A point dominates another if it is at most equal in every objective and less in one. Equal points do not dominate
    each other: both are kept. A point with a NaN is never kept and dominates nothing; inf is worse than any number.
    """
    number = len(points)
    if number <= MOST_COMPARED_IN_PAIRS:
        at_most = np.all(points[:, None, :] <= points[None, :, :], axis=2)
        less = np.any(points[:, None, :] < points[None, :, :], axis=2)
        # A comparison with NaN is false, so a row with one is never at most equal: it dominates nothing.
        dominated = np.any(at_most & less, axis=0)
        return np.asarray(~dominated & ~np.isnan(points).any(axis=1), dtype=np.bool_)
    return _swept(points)


def hypervolume(points: Points, reference_point: Points) -> float:
    """Exact volume that the points (N, M) dominate below the reference point (M,), all objectives minimised.

    Sweeps the last objective and adds up slabs, each the hypervolume of the points so far in the others (While et al.,
    "A Faster Algorithm for Calculating Hypervolume", 2006: "hypervolume by slicing objectives"). Duplicates add
    nothing; a point that is no better than the reference in some objective, or has a NaN, adds nothing; no points: 0.

    Raises:
        ValueError: the reference point is not finite.
    """
    if not np.isfinite(reference_point).all():
        raise ValueError(f"the reference point must be finite; found {reference_point.tolist()}")
    inside = points[(points < reference_point).all(axis=1)]
    if len(inside) == 0:
        return 0.0
    if inside.shape[1] == 1:
        return float(reference_point[0] - inside.min())
    if inside.shape[1] == 2:
        return _area(inside, reference_point)
    front = inside[non_dominated(inside)]
    front = front[np.argsort(front[:, -1], kind="stable")]
    heights = np.diff(front[:, -1], append=reference_point[-1])
    # Slabs of no height are those between points that are equal in the last objective.
    return math.fsum(
        height * hypervolume(front[: index + 1, :-1], reference_point[:-1])
        for index, height in enumerate(heights.tolist())
        if height > 0
    )


def _area(inside: Points, reference_point: Points) -> float:
    """The hypervolume of points in two objectives, which are better than the reference point in both."""
    inside = inside[np.lexsort(inside.T)]
    lowest_before = np.minimum.accumulate(np.append(np.inf, inside[:-1, 0]))
    front = inside[inside[:, 0] < lowest_before]
    heights = np.diff(front[:, 1], append=reference_point[1])
    return math.fsum((heights * (reference_point[0] - front[:, 0])).tolist())


def _swept(points: Points) -> NDArray[np.bool_]:
    """As above, in time and memory that grow with the number of points times that on the front."""
    number, objectives = points.shape
    kept = np.zeros(number, dtype=np.bool_)
    valid = np.flatnonzero(~np.isnan(points).any(axis=1))
    # Most points are dominated by a few: of points that are about equal in the first objective, one low in all.
    ranks = points[valid].argsort(axis=0).argsort(axis=0)
    similar = np.array_split(np.argsort(ranks[:, 0]), min(_NUM_LOWEST, len(valid)))
    lowest = [indices[ranks[indices].sum(axis=1).argmin()] for indices in similar if len(indices)]
    for point in points[valid[lowest]]:
        others = points[valid]
        valid = valid[~((point <= others).all(axis=1) & (point < others).any(axis=1))]
    # In lexicographic order, a point can only be dominated by an earlier one, and then also by one of the front.
    order = valid[np.lexsort(points[valid].T[::-1])]
    front = np.empty((len(order), objectives))
    size = 0
    for index in order.tolist():
        point = points[index]
        others = front[:size]
        # Equal points are at most equal everywhere: they are kept, as they are less nowhere.
        if not ((others <= point).all(axis=1) & (others < point).any(axis=1)).any():
            front[size] = point
            size += 1
            kept[index] = True
    return kept
