"""Searched settings as points of the unit cube, one coordinate for each setting."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from scipy.special import ndtr, ndtri

Floats = NDArray[np.float64]
_ABSENT = object()


@dataclass(frozen=True)
class Prior:
    """Where good values of a setting are expected: a normal distribution over its range."""

    center: Any
    """The most probable value."""
    width: float
    """Standard deviation as a share of the range; of its logarithm where the setting has a logarithmic scale. Of
    choices: each other choice is exp(-1 / (2 width^2)) times as probable as the center."""


class Setting:
    """One searched setting.

    Values of a setting with a grid lie in the middles of equal intervals of [0, 1], so that uniform coordinates give
    each the same probability; integers on a logarithmic scale in proportion to their logarithm's interval.
    """

    def __init__(self, name: str, distribution: BaseDistribution, prior: Prior | None = None) -> None:
        self.name = name
        self.choices: tuple[Any, ...] | None = None
        self.count: int | None = None
        """Number of evenly spaced values; None for continuous and for logarithmic settings."""
        self._is_log = False
        self._is_integer = isinstance(distribution, IntDistribution)
        if isinstance(distribution, CategoricalDistribution):
            self.choices, self.count = tuple(distribution.choices), len(distribution.choices)
            self._low, self._high, self._step = 0.0, self.count - 1.0, 1.0
        else:
            assert isinstance(distribution, FloatDistribution | IntDistribution), distribution
            self._low, self._high = distribution.low, distribution.high
            self._is_log = distribution.log
            self._step = 0.0 if distribution.step is None else distribution.step
            if self._step and not self._is_log:
                self.count = round((self._high - self._low) / self._step) + 1
        low, high = self._low - self._step / 2, self._high + self._step / 2
        self._ends = (math.log(low), math.log(high)) if self._is_log else (low, high)
        self._center = None if prior is None else float(self.units([prior.center])[0])
        self._width = 1.0 if prior is None else prior.width

    def has(self, value: Any) -> bool:
        """Whether a value is one of the choices or within the range."""
        if self.choices is not None:
            return value in self.choices
        # A tuple: a union takes three times as long, for each setting of each trial at every proposal.
        return isinstance(value, (int, float)) and self._low <= value <= self._high

    def units(self, values: Sequence[Any]) -> Floats:
        """Coordinates (N,) of values."""
        if self.choices is not None:
            values = [self.choices.index(value) for value in values]
        numbers = np.array(values, dtype=np.float64)
        low, high = self._ends
        if high == low:
            return np.full(len(numbers), 0.5)
        return ((np.log(numbers) if self._is_log else numbers) - low) / (high - low)

    def snapped(self, units: Floats) -> Floats:
        """The coordinates (N,) of the nearest values."""
        units = np.clip(units, 0.0, 1.0)
        if self.count is not None:
            return (np.minimum(np.floor(units * self.count), self.count - 1) + 0.5) / self.count
        return self.units(self._numbers(units).tolist())

    @property
    def num_values(self) -> int | None:
        """How many values the setting has; None for a continuous one."""
        if self.count is None and self._is_integer:
            return round(self._high - self._low) + 1
        return self.count

    def units_of(self, positions: NDArray[np.int64]) -> Floats:
        """Coordinates (N,) of values by their positions (N,) among all, of a setting that is not continuous."""
        if self.count is not None:
            return np.asarray((positions + 0.5) / self.count, dtype=np.float64)
        return self.units((self._low + positions).tolist())

    def positions(self, units: Floats) -> NDArray[np.int64]:
        """Positions (N,) of the values at snapped coordinates (N,), of a setting that is not continuous."""
        if self.count is not None:
            return np.asarray(np.floor(units * self.count), dtype=np.int64)
        return np.asarray(np.round(self._numbers(units) - self._low), dtype=np.int64)

    def values(self, units: Floats) -> list[Any]:
        """Values at coordinates (N,) that :meth:`snapped` returned."""
        if self.choices is not None:
            return [self.choices[index] for index in (units * len(self.choices)).astype(int).tolist()]
        numbers = self._numbers(units)
        return list((numbers.round().astype(np.int64) if self._is_integer else numbers).tolist())

    def log_prior(self, units: Floats) -> Floats:
        """Logarithm of the prior's density at coordinates (N,), 0 at its center; 0 everywhere without a prior."""
        if self._center is None:
            return np.zeros(len(units))
        distance = np.abs(units - self._center)
        if self.choices is not None:
            distance = (distance > 0.5 / len(self.choices)).astype(np.float64)
        return np.asarray(-0.5 * (distance / self._width) ** 2, dtype=np.float64)

    def from_prior(self, uniform: Floats) -> Floats:
        """Coordinates (N,) distributed as the prior, from uniform ones."""
        if self._center is None:
            return uniform
        if self.choices is not None:
            middles = self.units(self.choices)
            share = np.exp(self.log_prior(middles))
            index = np.searchsorted(np.cumsum(share) / share.sum(), uniform, side="right")
            return np.asarray(middles[np.minimum(index, len(middles) - 1)], dtype=np.float64)
        low, high = ndtr((np.array([0.0, 1.0]) - self._center) / self._width)
        return np.asarray(np.clip(self._center + self._width * ndtri(low + uniform * (high - low)), 0.0, 1.0))

    def _numbers(self, units: Floats) -> Floats:
        low, high = self._ends
        numbers = low + units * (high - low)
        if self._is_log:
            numbers = np.exp(numbers)
        if self._step:
            numbers = self._low + np.round((numbers - self._low) / self._step) * self._step
        return np.clip(numbers, self._low, self._high)


class Space:
    """The searched settings, in a fixed order."""

    def __init__(self, distributions: Mapping[str, BaseDistribution], priors: Mapping[str, Prior]) -> None:
        if problems := list(_prior_problems(distributions, priors)):
            raise ValueError("; ".join(problems))
        self.settings = [Setting(name, each, priors.get(name)) for name, each in distributions.items()]
        self.has_priors = bool(priors)

    def part_of(self, params: Mapping[str, Any]) -> dict[str, Any] | None:
        """The searched settings among others; None where one is missing or has a value outside of its range."""
        found = {}
        for setting in self.settings:
            value = params.get(setting.name, _ABSENT)
            if value is _ABSENT or not setting.has(value):
                return None
            found[setting.name] = value
        return found

    def units(self, configurations: Sequence[Mapping[str, Any]]) -> Floats:
        """Points (N, P) of configurations."""
        columns = [setting.units([each[setting.name] for each in configurations]) for setting in self.settings]
        return np.stack(columns, axis=1)

    def snapped(self, points: Floats) -> Floats:
        """The nearest points (N, P) that are configurations."""
        return np.stack([setting.snapped(points[:, i]) for i, setting in enumerate(self.settings)], axis=1)

    def configurations(self, points: Floats) -> list[dict[str, Any]]:
        """The configurations of snapped points (N, P)."""
        columns = [setting.values(points[:, i]) for i, setting in enumerate(self.settings)]
        names = [setting.name for setting in self.settings]
        return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]

    def inputs(self, points: Floats) -> Floats:
        """Inputs (N, D) of a Gaussian process: a column for each number, one for each of more than two choices."""
        columns = []
        for setting, column in zip(self.settings, points.T, strict=True):
            if setting.choices is not None and len(setting.choices) > 2:
                index = (column * len(setting.choices)).astype(int)
                columns.append(np.eye(len(setting.choices))[index])
            else:
                columns.append(column[:, None])
        return np.hstack(columns)

    def log_prior(self, points: Floats) -> Floats:
        """Logarithm of the priors' density at points (N, P)."""
        terms = [setting.log_prior(points[:, i]) for i, setting in enumerate(self.settings)]
        return np.asarray(np.sum(terms, axis=0), dtype=np.float64)

    def from_prior(self, uniform: Floats) -> Floats:
        """Points (N, P) distributed as the priors, from uniform ones."""
        return np.stack([setting.from_prior(uniform[:, i]) for i, setting in enumerate(self.settings)], axis=1)

    def perturbed(self, points: Floats, width: float, random: np.random.Generator) -> Floats:
        """Points (N, P) near others: about a third of the coordinates are drawn again, one at least.

        Numbers are drawn from a normal distribution whose standard deviation is ``width``, or a grid step if that is
        larger; choices uniformly. A point may be drawn where it was.
        """
        num_settings = len(self.settings)
        is_moved = random.random(points.shape) < 1 / 3
        is_moved[np.arange(len(points)), random.integers(0, num_settings, len(points))] = True
        moved = points.copy()
        for i, setting in enumerate(self.settings):
            if setting.choices is not None:
                target = random.random(len(points))
            else:
                target = points[:, i] + random.normal(0.0, max(width, 1 / (setting.count or np.inf)), len(points))
            moved[:, i] = np.where(is_moved[:, i], target, points[:, i])
        return self.snapped(moved)


def _prior_problems(distributions: Mapping[str, BaseDistribution], priors: Mapping[str, Prior]) -> Iterator[str]:
    for name, prior in priors.items():
        if name not in distributions:
            yield f"prior of {name}: no such setting; available: {', '.join(distributions)}"
        elif not Setting(name, distributions[name]).has(prior.center):
            yield f"prior of {name}: the center {prior.center} is not in {distributions[name]}"
        elif not 0 < prior.width < math.inf:
            yield f"prior of {name}: found a width of {prior.width}; allowed: above 0"
