"""Expected hypervolume improvement: by hand, and against hypervolumes of sampled results."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtri

from hkd.dominance import hypervolume
from sweeps.search.improvement import expected_improvement, expected_shortfall, remaining_areas


def improvement_of(mean: float, std: float, costs: list[float], front: list[list[float]]) -> float:
    reference = np.ones(1 + len(costs))
    points = np.array(front, dtype=np.float64).reshape(len(front), 1 + len(costs))
    found = expected_improvement(np.array([mean]), np.array([std]), np.array([costs]), points, reference)
    return float(found[0])


def test_one_objective_gives_expected_improvement() -> None:
    # Mean at the best of the front, deviation 0.1: 0.1 phi(0) = 0.1 / sqrt(2 pi).
    assert improvement_of(0.5, 0.1, [], [[0.5], [0.7]]) == pytest.approx(0.0398942, rel=1e-4)


def test_two_objectives_by_hand() -> None:
    # Known miss rate 0.25 at cost 0.25: its box is 0.75 x 0.75, of which the front's (0.5, 0.5) has 0.5 x 0.5.
    assert improvement_of(0.25, 0.0, [0.25], [[0.5, 0.5]]) == pytest.approx(0.5625 - 0.25)
    # The front's point dominates it.
    assert improvement_of(0.6, 0.0, [0.6], [[0.5, 0.5]]) == pytest.approx(0.0)
    # An empty front: all of its box.
    assert improvement_of(0.25, 0.0, [0.25], []) == pytest.approx(0.5625)


def test_three_objectives_by_hand() -> None:
    # Beside (0.5; 0.2, 0.6) and (0.4; 0.6, 0.2), the candidate's 0.5 x 0.5 of cost space loses 0.5 x 0.4 to the first;
    # to both: their union in x, y >= 0.5 is [0.5, 1] x [0.6, 1] and [0.6, 1] x [0.5, 1]: 0.2 + 0.2 - 0.16 = 0.24.
    areas = remaining_areas(np.array([[0.5, 0.5]]), np.array([[0.6, 0.2], [0.2, 0.6]]), np.ones(2))
    assert areas == pytest.approx(np.array([[0.25, 0.25 - 0.2, 0.25 - 0.24]]))


@pytest.mark.parametrize("num_costs", [0, 1, 2])
def test_expectation_equals_mean_hypervolume_gain_of_sampled_results(num_costs: int) -> None:
    random = np.random.default_rng(num_costs)
    reference = np.ones(1 + num_costs)
    # With dominated points, and one beyond the reference.
    front = np.vstack([random.random((6, 1 + num_costs)), np.full(1 + num_costs, 1.2)])
    costs = random.random((3, num_costs))
    mean, std = np.array([0.2, 0.5, 0.9]), np.array([0.3, 0.05, 0.2])
    before = hypervolume(front, reference)
    # Midpoints of 200 equally probable intervals.
    quantiles = ndtri((np.arange(200) + 0.5) / 200)
    sampled = [
        np.mean([hypervolume(np.vstack([front, [m + s * q, *cost]]), reference) - before for q in quantiles])
        for m, s, cost in zip(mean, std, costs, strict=True)
    ]
    assert max(sampled) > 0.01
    assert expected_improvement(mean, std, costs, front, reference) == pytest.approx(np.array(sampled), abs=2e-3)


def test_shortfall_of_a_known_value() -> None:
    found = expected_shortfall(np.array([0.5, 0.5]), np.array([0.2, 0.8]), np.zeros(2))
    assert found == pytest.approx([0.3, 0.0])
