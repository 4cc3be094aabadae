"""Rules to compare with: asynchronous successive halving by a ranking of all objectives, and one early rung for all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hkd.dominance import non_dominated
from sweeps.scheduling.rules import CONTINUE, Decision, Verdict
from sweeps.scheduling.rungs import RungResults, Rungs

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

Ranking = Callable[[Floats, int], Iterator[int]]
"""From points (N, O), all finite and minimised, and the number of measured objectives, which come first, to the indices
of the points, the best first. Costs are logarithms. Who wants only the best asks for no more."""


class RankingRule:
    """MOASHA: at each rung, a trial continues if it is among the best 1 / ``reduction_factor`` of those so far.

    The first trial at a rung always continues, and no decision is revised. Baselines count as others do.

    Args:
        reads_order_as_priorities: As Syne Tune's class ``MOASHA`` does (0.16.0; ``NonDominatedPriority`` returns
            indices in sorted order, ``Bracket`` takes the k-th for the priority of trial k): whether a trial continues
            depends on when the last of the order arrived.

    References:
        Schmucker et al., "Multi-objective Asynchronous Successive Halving", arXiv:2106.12639.
    """

    def __init__(
        self, ranking: Ranking, reduction_factor: float = 3.0, *, reads_order_as_priorities: bool = False
    ) -> None:
        assert reduction_factor > 1, reduction_factor
        self._ranking, self._factor = ranking, reduction_factor
        self._reads_order_as_priorities = reads_order_as_priorities

    def __call__(self, rungs: Rungs, trial_id: str, epoch: int) -> Verdict:
        """Whether to stop a trial that has trained ``epoch`` epochs."""
        if epoch not in rungs.epochs or epoch not in rungs.reached_by(trial_id):
            return CONTINUE
        points, ids = finite_points(rungs.at(epoch))
        if trial_id not in ids:  # its result is not a number
            return Verdict(Decision.STOP, epoch) if ids else CONTINUE
        if len(ids) == 1:
            return CONTINUE
        order = list(self._ranking(points, rungs.at(epoch).measured.shape[1]))
        position = ids.index(trial_id)
        rank = order[position] if self._reads_order_as_priorities else order.index(position)
        return Verdict(Decision.STOP, epoch) if rank / len(ids) > 1 / self._factor else CONTINUE


class EarlyRungRule:
    """i-Epoch: all trials train to the first rung and wait; the best continue to the end.

    Egele et al., "The Unreasonable Effectiveness of Early Discarding After One Epoch in Neural Network Hyperparameter
    Optimization", Neurocomputing 597, 2024, for one objective. Here the best are those of the first layers of
    non-dominated trials, by :func:`by_hypervolume` within a layer.

    It needs a scheduler that can pause trials while others start, which a study's concurrency limit does not allow: it
    is for simulations.

    Args:
        num_trials: Trials that will reach the rung or fail.
        num_kept: How many of them continue.
    """

    def __init__(self, num_trials: int, num_kept: int, ranking: Ranking | None = None) -> None:
        self._num_trials, self._num_kept = num_trials, num_kept
        self._ranking = ranking or by_hypervolume

    def __call__(self, rungs: Rungs, trial_id: str, epoch: int) -> Verdict:
        """Whether to pause, stop or resume a trial that has trained ``epoch`` epochs."""
        rung = rungs.epochs[0]
        if epoch < rung or rung not in rungs.reached_by(trial_id):
            return CONTINUE
        results = rungs.at(rung)
        arrived = {each for each in results.trial_ids if not rungs.candidates[each].is_protected} | rungs.failed
        if len(arrived) < self._num_trials:
            return Verdict(Decision.PAUSE, rung)
        points, ids = finite_points(results)
        order = self._ranking(points, results.measured.shape[1]) if ids else ()
        ranked = (each for each in (ids[index] for index in order) if not rungs.candidates[each].is_protected)
        return CONTINUE if trial_id in islice(ranked, self._num_kept) else Verdict(Decision.STOP, rung)


def by_spacing(points: Floats, num_measured: int) -> Iterator[int]:  # noqa: ARG001
    """MOASHA's ranking: layers of non-dominated points; each layer starts with the lowest first objective and continues
    with the point that is farthest from those before.
    """
    for layer in layers(points):
        yield from layer[_spaced(points[layer])].tolist()


def by_spacing_as_published(points: Floats, num_measured: int) -> Iterator[int]:  # noqa: ARG001
    """As :func:`by_spacing`, with the order within a layer inverted: Syne Tune (0.16.0) takes ranks for an order."""
    for layer in layers(points):
        yield from layer[np.argsort(_spaced(points[layer]))].tolist()


def by_hypervolume(points: Floats, num_measured: int) -> Iterator[int]:
    """Layers of non-dominated points, each by the hypervolume that a point adds to the others of its layer.

    The reference point lies a tenth of the range beyond the highest values.
    """
    assert num_measured == 1, "one measured objective"
    lowest, highest = points.min(axis=0), points.max(axis=0)
    width = np.where(highest > lowest, highest - lowest, 1.0)
    scaled, reference = (points - lowest) / width, np.full(points.shape[1], 1.1)
    for layer in layers(points):
        yield from layer[np.argsort(-contributions(scaled[layer], reference), kind="stable")].tolist()


def contributions(points: Floats, reference: Floats) -> Floats:
    """Hypervolume (N,) that each of the points (N, 1 to 3), all below the reference point, dominates alone.

    Slabs between the points' first objectives are divided by the others into cells, of which each is counted once for
    every point that dominates it: O(N^3) additions in all.
    """
    count = len(points)
    # Objectives that do not exist are 0, with a reference of 1: an area or a length becomes a volume.
    missing = 3 - points.shape[1]
    points, reference = np.pad(points, ((0, 0), (0, missing))), np.pad(reference, (0, missing), constant_values=1.0)
    order = np.argsort(points[:, 0], kind="stable")
    heights = np.diff(points[order, 0], append=reference[0])
    edges, cells = zip(*(np.unique(points[:, axis], return_inverse=True) for axis in (1, 2)), strict=True)
    areas = np.diff(edges[0], append=reference[1])[:, None] * np.diff(edges[1], append=reference[2])
    dominators, owners = np.zeros(areas.shape, dtype=np.intp), np.zeros(areas.shape, dtype=np.intp)
    found = np.zeros(count)
    for index, height in zip(order, heights, strict=True):
        dominated = (slice(cells[0][index], None), slice(cells[1][index], None))
        dominators[dominated] += 1
        owners[dominated] += index  # of a cell that one point dominates, its index
        if height > 0:
            alone = dominators == 1
            found += height * np.bincount(owners[alone], areas[alone], minlength=count)
    return found


def moasha(reduction_factor: float = 3.0) -> RankingRule:
    """MOASHA with the ranking of its paper."""
    return RankingRule(by_spacing, reduction_factor)


def published_moasha(reduction_factor: float = 3.0) -> RankingRule:
    """MOASHA as Syne Tune publishes it."""
    return RankingRule(by_spacing_as_published, reduction_factor, reads_order_as_priorities=True)


def hypervolume_halving(reduction_factor: float = 3.0) -> RankingRule:
    """MOASHA with a ranking by hypervolume contribution."""
    return RankingRule(by_hypervolume, reduction_factor)


def layers(points: Floats) -> Iterator[Indices]:
    """Indices of the non-dominated points (N, O), then of those that only the former dominate, and so on."""
    left = np.arange(len(points))
    while len(left):
        is_first = non_dominated(points[left])
        yield left[is_first]
        left = left[~is_first]


def finite_points(results: RungResults) -> tuple[Floats, list[str]]:
    """Measured objectives and logarithms of costs (N, M + C) of the trials whose results are numbers, and their ids."""
    is_finite = np.isfinite(results.measured).all(axis=1)
    points = np.hstack([results.measured, np.log(results.costs)])[is_finite]
    return points, [results.trial_ids[index] for index in np.flatnonzero(is_finite).tolist()]


def _spaced(points: Floats) -> NDArray[Any]:
    """Order (N,) of points: the lowest first objective, then always the point farthest from those before.

    Clarkson, "Nearest-neighbor searching and metric space dimensions", 2005.
    """
    order = [int(np.argmin(points[:, 0]))]
    nearest = np.linalg.norm(points - points[order[0]], axis=1)
    while len(order) < len(points):
        nearest[order[-1]] = -1.0
        order.append(int(np.argmax(nearest)))
        nearest = np.minimum(nearest, np.linalg.norm(points - points[order[-1]], axis=1))
    return np.array(order, dtype=np.intp)
