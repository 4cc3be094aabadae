from __future__ import annotations

import numpy as np
import pytest

from sweeps.scheduling.noise import MOST_RESULTS, seed_noise


def test_pairs_of_equal_settings_give_their_own_noise() -> None:
    # Four repetitions of one configuration: half the squared difference of a pair, averaged over all pairs, is the
    # unbiased variance. Values 0, 1, 2, 5: mean 2, squares 4 + 1 + 0 + 9 = 14, over 3.
    settings = np.full((4, 2), 0.5)
    assert seed_noise(settings, np.array([0.0, 1.0, 2.0, 5.0])) == pytest.approx(np.sqrt(14 / 3))


def test_linear_function_without_noise_has_none() -> None:
    # f = 3 x on a grid: half the squared difference is 4.5 times the squared distance, a line through 0.
    x = np.linspace(0, 1, 30)[:, None]
    assert seed_noise(x, 3 * x[:, 0]) == pytest.approx(0.0, abs=1e-6)


def test_noise_is_the_intercept_of_the_weighted_line_over_pairs() -> None:
    # Eight results: each has all others among its eight neighbours.
    random = np.random.default_rng(4)
    x, values = random.random((8, 2)), random.standard_normal(8)
    pairs = [(i, j) for i in range(8) for j in range(8) if i != j]
    distances = np.array([((x[i] - x[j]) ** 2).sum() for i, j in pairs])
    halves = np.array([(values[i] - values[j]) ** 2 / 2 for i, j in pairs])
    # polyfit's weights apply to residuals before they are squared.
    slope, intercept = np.polyfit(distances, halves, 1, w=1 / (distances + 1e-3))
    assert slope > 0
    assert intercept > 0
    assert seed_noise(x, values) == pytest.approx(np.sqrt(intercept))


def test_falling_line_is_chance() -> None:
    # Nearest pairs differ most: the weighted mean of half the squared differences, without a slope.
    x = np.array([[0.0], [0.1], [1.0]])
    values = np.array([0.0, 2.0, 0.5])
    weights = {(0, 1): 1 / 0.011**2, (1, 2): 1 / 0.811**2, (0, 2): 1 / 1.001**2}
    halves = {(0, 1): 2.0, (1, 2): 1.125, (0, 2): 0.125}
    expected = sum(weights[pair] * halves[pair] for pair in weights) / sum(weights.values())
    assert seed_noise(x, values) == pytest.approx(np.sqrt(expected))


def test_intercept_below_its_standard_error_is_not_distinguished_from_0() -> None:
    # A parabola rises faster than a line over the squared distance: the intercept is below 0.
    x = np.array([0.0, 0.1, 1.0])
    pairs = [(0, 1), (0, 2), (1, 2)]
    distances = np.array([(x[i] - x[j]) ** 2 for i, j in pairs])
    halves = np.array([(x[i] ** 2 - x[j] ** 2) ** 2 / 2 for i, j in pairs])
    weights = 1 / (distances + 1e-3) ** 2
    # Weighted least squares: (X' W X)^-1 X' W y; each residual contributes with its column of that matrix.
    design = np.stack([np.ones(3), distances], axis=1)
    solution = np.linalg.inv(design.T @ (weights[:, None] * design)) @ (design.T * weights)
    intercept, slope = solution @ halves
    assert intercept < 0
    contributions = solution[0] * (halves - intercept - slope * distances)
    # Of each result, with the pairs that it is part of.
    of_result = [sum(c for c, pair in zip(contributions, pairs, strict=True) if i in pair) for i in range(3)]
    standard_error = np.sqrt(np.square(of_result).sum())
    assert seed_noise(x[:, None], x**2) == pytest.approx(np.sqrt(standard_error))


def test_few_results_do_not_make_the_noise_vanish() -> None:
    """Trials would be stopped for differences of chance."""
    random = np.random.default_rng(0)
    estimates = []
    for _ in range(100):
        x = random.random((12, 6))
        values = 0.06 * (x @ random.standard_normal(6)) + 0.02 * random.standard_normal(12)
        estimates.append(seed_noise(x, values))
    # The intercept alone is below 0.01 in a quarter of these samples.
    assert np.mean(np.array(estimates) < 0.01) < 0.05


@pytest.mark.parametrize("noise", [0.01, 0.02, 0.04])
def test_noise_of_a_smooth_function_is_found(noise: float) -> None:
    estimates = []
    for seed in range(10):
        random = np.random.default_rng(seed)
        x = random.random((100, 3))
        values = 0.5 - 0.2 * x[:, 0] + 0.1 * (x[:, 1] - 0.4) ** 2 + noise * random.standard_normal(100)
        estimates.append(seed_noise(x, values))
    assert np.mean(estimates) == pytest.approx(noise, rel=0.2)


def test_time_is_bounded_by_a_subset_of_results() -> None:
    random = np.random.default_rng(0)
    x, values = random.random((20_000, 2)), random.standard_normal(20_000)
    estimate = seed_noise(x, values)
    spaced = np.linspace(0, 19_999, MOST_RESULTS).round().astype(int)
    assert estimate == seed_noise(x[spaced], values[spaced])
