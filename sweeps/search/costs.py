"""Exact costs of configurations, and the limits on them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sweeps.search.encoding import Space

Floats = NDArray[np.float64]


class ExactCosts:
    """Costs by name, computed once for each shape of a configuration.

    Args:
        costs: Function from a configuration to its costs by name.
        shape_names: Of the settings that the costs depend on: a configuration's shape.
        limits: Highest allowed cost by name.
    """

    def __init__(
        self,
        space: Space,
        costs: Callable[[Mapping[str, Any]], Mapping[str, float]],
        shape_names: Collection[str],
        limits: Mapping[str, float],
    ) -> None:
        self._space, self._costs, self.limits = space, costs, dict(limits)
        self.shape_names = tuple(setting.name for setting in space.settings if setting.name in shape_names)
        self.is_shape = np.array([setting.name in shape_names for setting in space.settings], dtype=np.bool_)
        """Which coordinates (P,) of a point the costs depend on."""
        self._known: dict[tuple[Any, ...], Mapping[str, float]] = {}
        self._at: dict[bytes, Mapping[str, float]] = {}
        """The same by the coordinates of a shape: reading settings from points takes most of the time."""

    def of(self, params: Mapping[str, Any]) -> Mapping[str, float]:
        """Costs of a configuration."""
        shape = tuple(params[name] for name in self.shape_names)
        if shape not in self._known:
            self._known[shape] = self._costs(params)
        return self._known[shape]

    def at(self, points: Floats, names: Sequence[str]) -> Floats:
        """The named costs (N, C) of points (N, P)."""
        if not self.is_shape.any():
            first, index = np.arange(min(1, len(points))), np.zeros(len(points), dtype=np.intp)
        else:
            _, first, index = np.unique(points[:, self.is_shape], axis=0, return_index=True, return_inverse=True)
        distinct = points[first]
        keys = [row.tobytes() for row in distinct[:, self.is_shape]]
        new = [position for position, key in enumerate(keys) if key not in self._at]
        for position, params in zip(new, self._space.configurations(distinct[new]), strict=True):
            self._at[keys[position]] = self.of(params)
        costs = [[self._at[key][name] for name in names] for key in keys]
        return np.array(costs, dtype=np.float64).reshape(len(first), len(names))[index.reshape(-1)]

    def excesses(self, points: Floats) -> Floats:
        """Largest logarithm (N,) of a cost over its limit: 0 or less at points (N, P) within all limits."""
        costs = self.at(points, list(self.limits))
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(costs / list(self.limits.values())).max(axis=1, initial=-np.inf), dtype=np.float64)
