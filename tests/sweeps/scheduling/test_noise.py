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


def test_noise_is_the_intercept_of_the_line_over_distance() -> None:
    # Three values at 0, 1 and 3 on a line. Nearest neighbours of each: (1, 3), (0, 3), (1, 0) at distances squared
    # (1, 9), (1, 4), (4, 9): means 2 and 22/3. With values 0, 2, 1 half the squared differences are (2, 0.5),
    # (2, 0.5), (0.5, 0.5): means 1.5 and 0.5. The line falls, which no noise explains: the mean, 1, is the variance.
    assert seed_noise(np.array([[0.0], [1.0], [3.0]]), np.array([0.0, 2.0, 1.0])) == pytest.approx(1.0)
    # With values 0, 1, 4: (0.5, 8), (0.5, 4.5), (4.5, 8): means 5.5 / 3 and 20.5 / 3 over 2 and 22 / 3. The slope is
    # 5 / (16 / 3) = 0.9375, the intercept 5.5 / 3 - 1.875 < 0: no noise.
    assert seed_noise(np.array([[0.0], [1.0], [3.0]]), np.array([0.0, 1.0, 4.0])) == 0.0
    # With values 0, 2, 4: (2, 8), (2, 2), (2, 8): means 2 and 6. The slope is 0.75, the intercept 0.5.
    assert seed_noise(np.array([[0.0], [1.0], [3.0]]), np.array([0.0, 2.0, 4.0])) == pytest.approx(np.sqrt(0.5))


@pytest.mark.parametrize("noise", [0.01, 0.02, 0.04])
def test_noise_of_a_smooth_function_is_found(noise: float) -> None:
    estimates = []
    for seed in range(10):
        random = np.random.default_rng(seed)
        x = random.random((100, 3))
        values = 0.5 - 0.2 * x[:, 0] + 0.1 * (x[:, 1] - 0.4) ** 2 + noise * random.standard_normal(100)
        estimates.append(seed_noise(x, values))
    # In three dimensions, neighbours of 100 are about 0.15 away, where the function differs by 0.02.
    assert np.mean(estimates) == pytest.approx(noise, rel=0.35)


def test_time_is_bounded_by_a_subset_of_results() -> None:
    random = np.random.default_rng(0)
    x, values = random.random((20_000, 2)), random.standard_normal(20_000)
    estimate = seed_noise(x, values)
    spaced = np.linspace(0, 19_999, MOST_RESULTS).round().astype(int)
    assert estimate == seed_noise(x[spaced], values[spaced])
