"""What a stopped trial would have reached, predicted from finished ones."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sweeps.search.early import LEAST_PAIRS, EndPrediction


def pairs(
    slope: float, count: int = 200, noise: float = 0.0, share: float = 0.25
) -> list[tuple[dict[float, float], float]]:
    random = np.random.default_rng(0)
    earlier = np.linspace(0.4, 0.8, count)
    return [
        ({share: float(value), 1.0: 9.0}, float(slope * (value - 0.6) + 0.3 + random.normal(0, noise)))
        for value in earlier
    ]


@pytest.mark.parametrize("slope", [0.3, 1.0, 1.5])
def test_line_of_finished_trials_predicts_the_end(slope: float) -> None:
    found = EndPrediction(pairs(slope))({0.125: 0.9, 0.25: 0.7})
    assert found is not None
    # The latest value counts: slope * (0.7 - 0.6) + 0.3.
    assert found[0] == pytest.approx(slope * 0.1 + 0.3, abs=0.005)


def test_variance_is_that_of_the_finished_trials_and_grows_outside_of_them() -> None:
    predict = EndPrediction(pairs(1.0, noise=0.05))
    inside, outside = predict({0.25: 0.6}), predict({0.25: 3.0})
    assert inside is not None
    assert outside is not None
    # Of 200 residuals, the standard deviation is known to 5 %.
    assert math.sqrt(inside[1]) == pytest.approx(0.05, rel=0.15)
    # 0.05^2 (1 + 2.4^2 / S), with S = 200 * 0.4^2 / 12 = 2.7 the spread of the earlier values: 3.1 times as much.
    assert outside[1] / inside[1] == pytest.approx(3.1, rel=0.1)


def test_few_trials_give_the_difference_with_a_slope_near_1() -> None:
    # Of six trials 0.02 apart, the noise of 0.03 hides the slope: least squares alone finds -0.3, and predicts 0.2.
    values = np.linspace(0.5, 0.52, 6)
    few = [({0.5: float(value)}, float(value) - 0.2 + 0.03 * (-1) ** i) for i, value in enumerate(values)]
    predicted = EndPrediction(few)({0.5: 0.9})
    assert predicted is not None
    assert predicted[0] == pytest.approx(0.9 - 0.2, abs=0.1)


def test_nothing_is_predicted_from_too_few_trials_or_another_share() -> None:
    assert EndPrediction(pairs(1.0, count=LEAST_PAIRS - 1))({0.25: 0.5}) is None
    predict = EndPrediction(pairs(1.0))
    assert predict({}) is None
    assert predict({0.25: 0.5, 0.5: 0.4}) is None
    assert predict({0.25: math.nan}) is None
    # The last value itself is not early.
    assert predict({1.0: 0.5}) is None
