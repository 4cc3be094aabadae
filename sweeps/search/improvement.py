"""Expected hypervolume improvement of candidates whose costs are exact and whose miss rate is normally distributed."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

Floats = NDArray[np.float64]
CostScale = Literal["linear", "log"]
COST_SCALES: tuple[CostScale, ...] = get_args(CostScale)
MOST_COSTS = 2
"""Objectives beside the measured one: areas are computed in two dimensions."""


def expected_improvement(mean: Floats, std: Floats, costs: Floats, front: Floats, reference: Floats) -> Floats:
    """Expected hypervolume that each of N candidates adds to a front; all objectives are minimised.

    A candidate whose miss rate turns out as m adds, at each miss rate t between m and the reference, the area of cost
    space that it alone dominates at t. That area changes at the miss rates t_1 <= ... <= t_K of the front only, with
    t_0 = -infinity and t_(K+1) the reference: EHVI = sum over k of A_k (E[(t_(k+1) - M)+] - E[(t_k - M)+]), where A_k
    is the area left by the first k points of the front. With one objective, this is expected improvement.

    Args:
        mean, std: (N,) of the miss rate M of each candidate.
        costs: (N, C) with at most two costs.
        front: (K, 1 + C): miss rate, then costs. Dominated points do no harm.
        reference: (1 + C,): points beyond it add nothing.

    Returns:
        (N,), at least 0.
    """
    front = front[(front < reference).all(axis=1)]
    front = front[np.argsort(front[:, 0], kind="stable")]
    # Candidates share their costs with many others.
    distinct, index = np.unique(costs, axis=0, return_inverse=True)
    areas = remaining_areas(distinct, front[:, 1:], reference[1:])[index.reshape(-1)]
    levels = np.append(front[:, 0], reference[0])
    shortfalls = expected_shortfall(levels, mean[:, None], std[:, None])
    gains = np.diff(shortfalls, axis=1, prepend=0.0)
    return np.asarray(np.maximum((areas * gains).sum(axis=1), 0.0), dtype=np.float64)


def expected_shortfall(level: Floats, mean: Floats, std: Floats) -> Floats:
    """E[(level - M)+] of a normal M, elementwise."""
    std = np.maximum(std, 1e-12)
    z = (level - mean) / std
    density = np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
    return np.asarray(std * (z * ndtr(z) + density), dtype=np.float64)


def remaining_areas(costs: Floats, front_costs: Floats, reference: Floats) -> Floats:
    """Area between each of N costs and the reference that the first k points of a front leave undominated.

    Args:
        costs: (N, C) with C at most 2.
        front_costs: (K, C) of the front's points, lowest miss rate first.

    Returns:
        (N, K + 1), for k = 0, ..., K.
    """
    # Costs that do not exist are 0, with a reference of 1: a length or a point becomes an area.
    missing = 2 - costs.shape[1]
    costs, front_costs = (np.pad(points, ((0, 0), (0, missing))) for points in (costs, front_costs))
    right, top = np.append(reference, np.ones(missing))
    x, y = costs[:, :1], costs[:, 1:]
    whole = np.maximum(right - x, 0.0) * np.maximum(top - y, 0.0)
    areas = [whole[:, 0]]
    order = np.argsort(front_costs[:, 0], kind="stable")
    for k in range(1, len(front_costs) + 1):
        steps = front_costs[order[order < k]]
        edges = np.maximum(np.append(steps[:, 0], right), x)
        heights = np.maximum(top - np.maximum(np.minimum.accumulate(steps[:, 1]), y), 0.0)
        dominated = (np.maximum(np.diff(edges, axis=1), 0.0) * heights).sum(axis=1)
        areas.append(np.maximum(whole[:, 0] - dominated, 0.0))
    return np.stack(areas, axis=1)
