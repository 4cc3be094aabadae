"""Geometry of fronts: hypervolume and knee. Arrays in, numbers out; all objectives are minimised."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from hkd.dominance import non_dominated

Points = NDArray[np.float64]

KNEE_RULE = (
    "the point of the front that lies furthest below the straight line between the front's two ends, with the miss "
    "rate and the logarithm of the cost both scaled to [0, 1] between those ends (Das 1999; Satopaa et al. 2011)"
)
_FLAT = 1e-9


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
    front = inside[non_dominated(inside)]
    front = front[np.argsort(front[:, -1], kind="stable")]
    heights = np.diff(front[:, -1], append=reference_point[-1])
    # Slabs of no height are those between points that are equal in the last objective.
    return math.fsum(
        height * hypervolume(front[: index + 1, :-1], reference_point[:-1])
        for index, height in enumerate(heights.tolist())
        if height > 0
    )


def knee_index(cost: Points, miss_rate: Points) -> tuple[int, float] | None:
    """The knee of a front and its distance to the line between the front's ends, by ``KNEE_RULE``.

    Args:
        cost: (N,) positive: parameters or FLOPs of the points of a front.
        miss_rate: (N,).

    Returns:
        (index, distance), of equal distances the cheaper point; None with fewer than three different points, or if no
        point lies below the line: such a front does not bend towards the origin.
    """
    cheapest, best = int(np.argmin(cost)), int(np.argmin(miss_rate))
    if len(np.unique(np.stack([cost, miss_rate], axis=1), axis=0)) < 3:
        return None
    log_cost = np.log10(cost)
    x = (log_cost - log_cost[cheapest]) / (log_cost[best] - log_cost[cheapest])
    y = (miss_rate - miss_rate[best]) / (miss_rate[cheapest] - miss_rate[best])
    # The line is x + y = 1.
    distance = (1 - x - y) / math.sqrt(2)
    furthest = np.flatnonzero(distance >= distance.max() - _FLAT)
    index = int(furthest[np.argmin(cost[furthest])])
    return (index, float(distance[index])) if distance[index] > _FLAT else None
