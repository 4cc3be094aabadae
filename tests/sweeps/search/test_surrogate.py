"""The Gaussian process: its posterior, repeated observations, and estimated hyperparameters."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from sweeps.search.surrogate import MOST_FITTED, Hyperparameters, Surrogate, estimated_hyperparameters

Floats = NDArray[np.float64]
GIVEN = Hyperparameters(length_scales=(0.3, 0.7), noise=0.1)
RANDOM = np.random.default_rng(0)
INPUTS, NEW = RANDOM.random((12, 2)), RANDOM.random((5, 2))
VALUES = np.sin(4 * INPUTS[:, 0]) + INPUTS[:, 1] ** 2


def kernel(a: Floats, b: Floats) -> Floats:
    """Matern 5/2 (Rasmussen and Williams, 2006, equation 4.17) of distances in length scales."""
    distance = np.sqrt((((a[:, None] - b[None]) / np.array(GIVEN.length_scales)) ** 2).sum(axis=2)) * np.sqrt(5)
    return np.asarray((1 + distance + distance**2 / 3) * np.exp(-distance))


def posterior(inputs: Floats, values: Floats, noise: Floats, scale: tuple[float, float]) -> tuple[Floats, Floats]:
    """Equations 2.23 and 2.24 of Rasmussen and Williams, 2006."""
    weights = np.linalg.solve(kernel(inputs, inputs) + np.diag(noise), kernel(inputs, NEW)).T
    mean = weights @ ((values - scale[0]) / scale[1])
    variance = 1 - (weights * kernel(NEW, inputs)).sum(axis=1)
    return mean * scale[1] + scale[0], np.sqrt(variance) * scale[1]


def test_posterior_equals_plain_formula() -> None:
    mean, std = Surrogate(INPUTS, VALUES, GIVEN).predict(NEW)
    expected = posterior(INPUTS, VALUES, np.full(12, 0.1), (VALUES.mean(), VALUES.std()))
    assert mean == pytest.approx(expected[0], abs=1e-6)
    assert std == pytest.approx(expected[1], abs=1e-6)


def test_two_seeds_of_one_configuration_count_as_their_mean_with_half_the_noise() -> None:
    repeated = np.vstack([INPUTS, INPUTS[:1]])
    mean, std = Surrogate(repeated, np.append(VALUES, VALUES[0] + 0.4), GIVEN, scale=(0.0, 1.0)).predict(NEW)
    noise = np.full(12, 0.1)
    noise[0] /= 2
    averaged = VALUES.copy()
    averaged[0] += 0.2
    expected = posterior(INPUTS, averaged, noise, (0.0, 1.0))
    assert mean == pytest.approx(expected[0], abs=1e-6)
    assert std == pytest.approx(expected[1], abs=1e-6)


def test_expected_results_keep_means_and_shrink_deviations() -> None:
    model = Surrogate(INPUTS, VALUES, GIVEN)
    (mean, std), (mean_after, std_after) = model.predict(NEW), model.with_expected(NEW[:2]).predict(NEW)
    assert mean_after == pytest.approx(mean, abs=1e-6)
    assert (std_after < std).all()
    assert (std_after[:2] < 0.8 * std[:2]).all()


def test_noise_of_seeds_is_estimated() -> None:
    random = np.random.default_rng(1)
    inputs = np.repeat(random.random((20, 2)), 3, axis=0)
    values = np.sin(4 * inputs[:, 0]) + inputs[:, 1] + random.normal(0, 0.2, 60)
    noise = estimated_hyperparameters(inputs, values).noise * values.var()
    # 0.2 squared; the estimate from 60 values is within a factor of two.
    assert 0.02 < noise < 0.08


def test_setting_without_influence_gets_the_longer_scale() -> None:
    inputs = np.random.default_rng(2).random((40, 2))
    scales = estimated_hyperparameters(inputs, np.sin(6 * inputs[:, 1])).length_scales
    assert scales[0] > 5 * scales[1]


def test_hyperparameters_change_only_as_results_grow_by_an_eighth() -> None:
    random = np.random.default_rng(3)
    inputs, values = random.random((40, 2)), random.random(40)
    # The numbers of results that are used: ..., 16, 18, 20, 22, 24, 27, 30, 33, 37: an eighth more, rounded down.
    found = {count: estimated_hyperparameters(inputs[:count], values[:count]) for count in range(29, 38)}
    assert found[30] == found[31] == found[32]
    assert len(set(found.values())) == 4


def test_only_some_of_many_results_are_used_for_hyperparameters() -> None:
    random = np.random.default_rng(4)
    inputs, values = random.random((1000, 2)), random.random(1000)
    many = estimated_hyperparameters(inputs, values)
    # Results beside the evenly spaced ones do not matter.
    values[1] += 100
    assert estimated_hyperparameters(inputs, values) == many
    assert MOST_FITTED == 100


def test_equal_values_are_accepted() -> None:
    inputs = INPUTS[:3]
    model = Surrogate(inputs, np.full(3, 0.5), estimated_hyperparameters(inputs, np.full(3, 0.5)))
    assert model.predict(NEW)[0] == pytest.approx(np.full(5, 0.5))


def test_a_later_outlier_changes_neither_noise_nor_deviations() -> None:
    random = np.random.default_rng(5)
    inputs = random.random((34, 2))
    values = 0.2 + 0.02 * np.sin(5 * inputs[:, 0]) + 0.003 * random.standard_normal(34)
    diverged = np.append(values[:33], 1.0)
    # Hyperparameters are those of the first 33, and deviations depend on them and on the inputs alone.
    found = [estimated_hyperparameters(inputs, each) for each in (values, diverged)]
    assert found[0] == found[1]
    assert found[0].scale == pytest.approx((values[:33].mean(), values[:33].std()))
    deviations = [Surrogate(inputs, each, found[0]).predict(NEW)[1] for each in (values, diverged)]
    assert deviations[0] == pytest.approx(deviations[1], rel=1e-9)
