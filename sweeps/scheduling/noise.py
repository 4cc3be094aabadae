"""How much two trainings of one configuration differ by their seeds alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

MOST_RESULTS = 256
"""Results that are compared with each other."""
_NEIGHBOURS = 8
_NEAR = 1e-3
"""Squared distance below which pairs have about the same weight: a thirtieth of the range of one setting."""


def seed_noise(settings: Floats, values: Floats) -> float:
    """Standard deviation of a result over seeds, estimated from results of different configurations.

    A study trains each configuration once, so that no pair of its results differs by the seed alone. Half the squared
    difference of two results has as expected value the variance of the noise, plus what the difference of their
    settings contributes; this contribution goes to 0 with the squared distance of the settings, in proportion where the
    objective is smooth. A line is fitted to half the squared differences of each result and its eight nearest
    neighbours over their squared distances; its intercept is the variance of the noise, as in the Gamma test, which
    fits averages. A squared difference deviates from its expected value in proportion to it, so that pairs have weights
    inverse to their squared distance. Repetitions of a configuration are neighbours at a distance of 0.

    With few results the intercept is uncertain, and often below 0. One below its standard error is not distinguished
    from 0; the variance is then this error, since trials would be stopped for differences of chance with an estimate
    near 0. The estimate is therefore too high where the noise is a small part of the spread of results: for 20 results
    in six settings of a spread of 0.05, on average 0.028 where 0.02 is true and 0.023 where 0.005 is; for 80 results,
    0.022 and 0.013.

    Args:
        settings: (N, D) in the unit cube; N at least 2.
        values: (N,) finite.

    References:
        Evans and Jones, "A proof of the Gamma test", Proceedings of the Royal Society A 458, 2002.
    """
    if len(values) > MOST_RESULTS:
        spaced = np.linspace(0, len(values) - 1, MOST_RESULTS).round().astype(np.intp)
        settings, values = settings[spaced], values[spaced]
    squared_distances = np.square(settings[:, None] - settings[None]).sum(axis=2)
    np.fill_diagonal(squared_distances, np.inf)
    nearest = np.argsort(squared_distances, axis=1, kind="stable")[:, : min(_NEIGHBOURS, len(values) - 1)]
    distances = np.take_along_axis(squared_distances, nearest, axis=1)
    differences = 0.5 * np.square(values[:, None] - values[nearest])
    weights = 1.0 / np.square(distances + _NEAR)
    weights /= weights.sum()
    mean_distance, mean_difference = float((weights * distances).sum()), float((weights * differences).sum())
    centered = distances - mean_distance
    spread = float((weights * centered**2).sum())
    slope = float((weights * centered * differences).sum()) / spread if spread > 0 else 0.0
    if slope <= 0:  # chance: settings that differ more do not make results more alike
        return float(np.sqrt(mean_difference))
    # What each pair contributes to the error of the intercept. Pairs that share a result are not independent.
    errors = differences - mean_difference - slope * centered
    contributions = weights * (1 - mean_distance * centered / spread) * errors
    of_result = contributions.sum(axis=1)
    np.add.at(of_result, nearest, contributions)
    standard_error = float(np.sqrt(np.square(of_result).sum()))
    return float(np.sqrt(max(mean_difference - slope * mean_distance, standard_error)))
