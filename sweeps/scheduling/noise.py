"""How much two trainings of one configuration differ by their seeds alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

MOST_RESULTS = 256
"""Results that are compared with each other."""
_NEIGHBOURS = 8


def seed_noise(settings: Floats, values: Floats) -> float:
    """Standard deviation of a result over seeds, estimated from results of different configurations.

    A study trains each configuration once, so that no pair of its results differs by the seed alone. Half the squared
    difference of two results has as expected value the variance of the noise, plus what the difference of their
    settings contributes; this contribution goes to 0 with the squared distance of the settings, in proportion where the
    objective is smooth. The Gamma test extrapolates it: for the k-th nearest neighbours, k = 1, ..., 8, the mean of
    half the squared differences is fitted by a line over the mean of the squared distances, whose intercept is the
    variance of the noise. Repetitions of a configuration are neighbours at a distance of 0.

    With few results, neighbours are far away and the estimate is too high rather than too low (with 20 results in six
    settings, two to three times for a noise of a tenth of the spread of results; right for a noise of half of it). A
    trial is then stopped later, not wrongly.

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
    distances = np.take_along_axis(squared_distances, nearest, axis=1).mean(axis=0)
    differences = 0.5 * np.square(values[:, None] - values[nearest]).mean(axis=0)
    centered = distances - distances.mean()
    spread = float(np.square(centered).sum())
    slope = max(float((centered * differences).sum()) / spread, 0.0) if spread > 0 else 0.0
    variance = float(differences.mean()) - slope * float(distances.mean())
    return float(np.sqrt(max(variance, 0.0)))
