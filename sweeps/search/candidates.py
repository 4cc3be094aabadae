"""Configurations within the limits on exact costs, from which the next trial is chosen."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import qmc

from sweeps.search.costs import ExactCosts
from sweeps.search.encoding import Space
from sweeps.search.remaining import MOST_SHAPES, all_shapes, untried
from sweeps.search.results import Params

Floats = NDArray[np.float64]

NUM_CANDIDATES = 1024
"""Of one draw; a power of 2, as Sobol sequences need."""
_ENOUGH_SHAPES = 16
_FIRST_CORNERS = 32
_SEARCHES = 12


class NoCandidateError(ValueError):
    """No configuration was found within the limits."""


class CandidatePool:
    """Draws configurations within the limits.

    Costs may take milliseconds and are computed for few shapes: those of one sequence for the whole study, of which
    each proposal uses a longer part, and a few near the parents of a proposal. The settings that no cost depends on are
    drawn for each candidate. What is drawn depends on the seed and on the arguments alone.

    Args:
        new_shapes: By how many shapes a proposal's part of the sequence is longer, and how many are near its parents.
            The part has 8 times as many at first, and 32 times as many at most.
    """

    def __init__(self, space: Space, costs: ExactCosts, seed: int, new_shapes: int) -> None:
        self._space, self._costs, self._seed, self._new_shapes = space, costs, seed, new_shapes
        self._is_shape = costs.is_shape

    def startup(self) -> Floats:
        """Points (N, P) within the limits for first trials, in their order: a Sobol sequence."""
        # All settings at once, so that shapes and other settings are not correlated.
        first = self._sequence(8 * self._new_shapes, 0)
        within = first[self._is_within(first)]
        return within if len(within) >= _ENOUGH_SHAPES else np.vstack([within, self.draw(0)])

    def draw(self, number: int) -> Floats:
        """``NUM_CANDIDATES`` points (N, P) within the limits, for the proposal with this number.

        Raises:
            NoCandidateError: naming the nearest configuration.
        """
        random = np.random.default_rng([self._seed, 1, number])
        points = self._sequence(NUM_CANDIDATES, 1 + number)
        if self._is_shape.any() or self._costs.limits:
            shapes = self._shapes(number)
            order = np.concatenate([random.permutation(len(shapes)) for _ in range(-(-len(points) // len(shapes)))])
            points[:, self._is_shape] = shapes[order[: len(points)]][:, self._is_shape]
        return points

    def near(self, parents: Floats, per_parent: int, width: float, random: np.random.Generator) -> Floats:
        """Points (N, P) within the limits near the parents, which must be within them, with few new shapes."""
        points = self._space.perturbed(np.repeat(parents, per_parent, axis=0), width, random)
        if self._is_shape.any():
            shapes = np.repeat(parents, per_parent, axis=0)
            # Every second one keeps the shape of its parent; the others share the new shapes.
            new = np.arange(0, len(points), 2)
            sources = new[random.permutation(len(new))[: self._new_shapes]]
            shapes[new] = points[sources[np.arange(len(new)) % len(sources)]]
            points[:, self._is_shape] = shapes[:, self._is_shape]
            points = points[self._is_within(points)]
        return points

    def untried(self, tried: Sequence[Params], number: int) -> Floats:
        """Points (N, P) within the limits that were not tried, of different shapes; none in a continuous space."""
        random = np.random.default_rng([self._seed, 3, number])
        return untried(self._space, self._costs, tried, self._shapes(number), random)

    def _sequence(self, count: int, number: int) -> Floats:
        """Snapped points (count, P) of a scrambled Sobol sequence; every second one is distributed as the priors."""
        random = np.random.default_rng([self._seed, 0, number])
        engine = qmc.Sobol(len(self._space.settings), scramble=True, rng=random)
        points = engine.random_base2(math.ceil(math.log2(count)))[:count]
        if self._space.has_priors:
            points[::2] = self._space.from_prior(points[::2])
        return self._space.snapped(points)

    def _shapes(self, number: int) -> Floats:
        """Different points within the limits, at least one."""
        sequence = self._sequence(32 * self._new_shapes, 0)[: (8 + number) * self._new_shapes]
        drawn = self._distinct(np.vstack([sequence, self._corners()]))
        excesses = self._costs.excesses(drawn)
        if (excesses <= 0).sum() < _ENOUGH_SHAPES:
            drawn, excesses = self._searched(drawn, excesses)
        if not (excesses <= 0).any():
            raise NoCandidateError(self._describe_nearest(drawn[int(np.argmin(excesses))], len(drawn)))
        return drawn[excesses <= 0]

    def _searched(self, drawn: Floats, excesses: Floats) -> tuple[Floats, Floats]:
        """More points, since few shapes or none are within the limits: all, or those near others.

        Of a space with more than ``MOST_SHAPES`` shapes, more corners, then points near those that exceed the limits
        least.
        """
        if not self._costs.limits:
            return drawn, excesses
        shapes = all_shapes(self._space, self._costs)
        if shapes is not None:
            return shapes, self._costs.excesses(shapes)
        drawn = self._distinct(np.vstack([drawn, self._corners(MOST_SHAPES)]))
        excesses = self._costs.excesses(drawn)
        random = np.random.default_rng([self._seed, 2])
        for search in range(_SEARCHES):
            best = drawn[np.argsort(np.maximum(excesses, 0.0), kind="stable")[:8]]
            near = self._space.perturbed(np.repeat(best, 2, axis=0), 0.2 * 0.7**search, random)
            drawn = self._distinct(np.vstack([drawn, near]))
            excesses = self._costs.excesses(drawn)
            if (excesses <= 0).sum() >= _ENOUGH_SHAPES:
                break
        return drawn, excesses

    def _corners(self, most: int = _FIRST_CORNERS) -> Floats:
        """All numbers of shapes at their low end, with combinations of choices; and all at their high end.

        Costs usually grow with each number: if any shape is within the limits, one of these is.
        """
        options: list[tuple[float, ...]] = []
        for setting, is_shape in zip(self._space.settings, self._is_shape, strict=True):
            choices = setting.choices if is_shape else None
            options.append((0.0,) if choices is None else tuple(setting.units(choices).tolist()))
        low = np.array(list(itertools.islice(itertools.product(*options), most)))
        return self._space.snapped(np.vstack([low, np.ones((1, len(options)))]))

    def _distinct(self, points: Floats) -> Floats:
        """The first point of each shape, in their order."""
        if not self._is_shape.any():
            return points[:1]
        _, first = np.unique(points[:, self._is_shape], axis=0, return_index=True)
        return points[np.sort(first)]

    def _is_within(self, points: Floats) -> NDArray[np.bool_]:
        if not self._costs.limits:
            return np.ones(len(points), dtype=np.bool_)
        return np.asarray(self._costs.excesses(points) <= 0, dtype=np.bool_)

    def _describe_nearest(self, point: Floats, count: int) -> str:
        (params,) = self._space.configurations(point[None])
        costs = self._costs.of(params)
        found = ", ".join(f"{name} {_shown(costs[name])}" for name in self._costs.limits)
        allowed = ", ".join(f"{name} {_shown(limit)}" for name, limit in self._costs.limits.items())
        settings = ", ".join(f"{name} = {value}" for name, value in params.items() if name in self._costs.shape_names)
        return (
            f"of {count} shapes in the searched space, none is within the limits (at most {allowed}); the nearest has "
            f"{found}: {settings or 'no searched setting changes the costs'}. Raise the limits or lower the ranges"
        )


def _shown(cost: float) -> str:
    return f"{cost:,.0f}" if cost >= 100 else f"{cost:g}"
