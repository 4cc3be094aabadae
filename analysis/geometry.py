"""The knee of a front. Arrays in, numbers out; all objectives are minimised."""

from __future__ import annotations

import math

import numpy as np

from hkd.dominance import Points

KNEE_RULE = (
    "the point of the front that lies furthest below the straight line between the front's two ends, with the miss "
    "rate and the logarithm of the cost both scaled to [0, 1] between those ends (Das 1999; Satopaa et al. 2011)"
)
_FLAT = 1e-9


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
