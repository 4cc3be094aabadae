"""Configurations that were not tried yet, where a space of steps and choices is nearly exhausted."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sweeps.search.costs import ExactCosts
from sweeps.search.encoding import Setting, Space
from sweeps.search.results import Params

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

MOST_SHAPES = 4096
"""Shapes whose costs are computed: all of a space with at most so many. One takes some tenths of a millisecond."""
_ENOUGH = 64


def all_shapes(space: Space, costs: ExactCosts) -> Floats | None:
    """A point (N, P) of each shape; None if there are more than ``MOST_SHAPES``."""
    settings = [setting for setting, is_shape in zip(space.settings, costs.is_shape, strict=True) if is_shape]
    counts = [setting.num_values for setting in settings]
    known = [count for count in counts if count is not None]
    if len(known) < len(counts) or math.prod(known) > MOST_SHAPES:
        return None
    positions = np.indices(known).reshape(len(known), -1) if known else np.zeros((0, 1), dtype=np.int64)
    points = space.snapped(np.full((positions.shape[1], len(space.settings)), 0.5))
    for column, setting, row in zip(np.flatnonzero(costs.is_shape), settings, positions, strict=True):
        points[:, column] = setting.units_of(row)
    return points


def untried(
    space: Space, costs: ExactCosts, tried: Sequence[Params], within: Floats, random: np.random.Generator
) -> Floats:
    """Points (N, P) within the limits that were not tried, of different shapes; none if a setting is continuous.

    All shapes of the space are searched; if they are more than ``MOST_SHAPES``, those that are reached from others
    within the limits in steps of one setting, until ``MOST_SHAPES`` have been compared with the limits.

    Args:
        within: Points (M, P) within the limits.
    """
    if any(setting.num_values is None for setting in space.settings):
        return np.empty((0, len(space.settings)))
    shapes = all_shapes(space, costs)
    known = {_key(space, params) for params in tried}
    if shapes is not None:
        shapes = shapes[costs.excesses(shapes) <= 0]
        return _with_other_settings(space, costs, random.permutation(shapes), known)
    start = np.vstack([within, space.units(tried)]) if tried else within
    return _reached(space, costs, start[costs.excesses(start) <= 0], known)


def _reached(space: Space, costs: ExactCosts, start: Floats, known: set[tuple[Any, ...]]) -> Floats:
    seen: set[bytes] = set()
    found = [np.empty((0, len(space.settings)))]
    level = start
    while len(level) and len(seen) < MOST_SHAPES and sum(map(len, found)) < _ENOUGH:
        level = level[: MOST_SHAPES - len(seen)]
        fresh = []
        for point in level:
            shape = point[costs.is_shape].tobytes()
            if shape not in seen:
                seen.add(shape)
                fresh.append(point)
        level = np.array(fresh).reshape(-1, len(space.settings))
        level = level[costs.excesses(level) <= 0]
        found.append(_with_other_settings(space, costs, level, known))
        level = np.vstack([level[:0], *(_neighbours(space, costs, point) for point in level)])
    return np.vstack(found)


def _neighbours(space: Space, costs: ExactCosts, point: Floats) -> Floats:
    """Points (N, P) whose shape differs in one setting: by one step of a number, or by a choice."""
    points = []
    for column in np.flatnonzero(costs.is_shape):
        setting = space.settings[column]
        assert setting.num_values is not None
        (position,) = setting.positions(point[[column]])
        nearby = np.array([position - 1, position + 1]) if setting.choices is None else np.arange(setting.num_values)
        nearby = nearby[(nearby >= 0) & (nearby < setting.num_values) & (nearby != position)]
        moved = np.repeat(point[None], len(nearby), axis=0)
        moved[:, column] = setting.units_of(nearby)
        points.append(moved)
    return np.vstack([np.empty((0, len(point))), *points])


def _with_other_settings(space: Space, costs: ExactCosts, shapes: Floats, known: set[tuple[Any, ...]]) -> Floats:
    """Of each shape (N, P) with an untried configuration, one; of the first ``_ENOUGH`` such shapes."""
    others = np.flatnonzero(~costs.is_shape)
    # Of n tried configurations at most n are in the way.
    options = [_some_units(space.settings[column], len(known) + 1).tolist() for column in others]
    found = []
    for shape in shapes[:, None]:
        point = shape.copy()
        for units in itertools.product(*options):
            point[0, others] = units
            if _key(space, space.configurations(point)[0]) not in known:
                found.append(point)
                break
        if len(found) == _ENOUGH:
            break
    return np.vstack([shapes[:0], *found])


def _some_units(setting: Setting, most: int) -> Floats:
    assert setting.num_values is not None
    positions: Integers = np.unique(np.linspace(0, setting.num_values - 1, min(setting.num_values, most)).astype(int))
    return setting.units_of(positions)


def _key(space: Space, params: Params) -> tuple[Any, ...]:
    return tuple(params[setting.name] for setting in space.settings)
