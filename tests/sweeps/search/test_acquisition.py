"""The value of candidates, given results and running trials."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from optuna.distributions import BaseDistribution, FloatDistribution

from sweeps.search.acquisition import Acquisition, Floats
from sweeps.search.costs import ExactCosts
from sweeps.search.encoding import Space
from sweeps.search.results import Results

DISTRIBUTIONS: dict[str, BaseDistribution] = {"size": FloatDistribution(0.1, 1.0), "rate": FloatDistribution(0.0, 1.0)}
SPACE = Space(DISTRIBUTIONS, {})
COSTS = ExactCosts(SPACE, lambda params: {"size": params["size"]}, ("size",), {})
POINTS = SPACE.snapped(np.random.default_rng(0).random((200, 2)))


def results_of(points: Floats, running: Floats) -> Results:
    finished = [
        (params, [0.3 / params["size"] ** 0.5 * (1 + (params["rate"] - 0.4) ** 2), params["size"]])
        for params in SPACE.configurations(points)
    ]
    return Results(finished=list(finished), running=list(SPACE.configurations(running)), tried=[])


def acquisition_of(results: Results) -> Acquisition:
    return Acquisition(
        SPACE,
        COSTS,
        results,
        objectives=("miss_rate", "size"),
        measured="miss_rate",
        reference={"miss_rate": 1.0, "size": 1.0},
        cost_scale="linear",
        candidates=POINTS,
    )


def test_running_trial_lowers_the_value_of_its_neighbours() -> None:
    results = results_of(POINTS[:12], POINTS[:0])
    before = acquisition_of(results)(POINTS)
    best = POINTS[[before.argmax()]]
    after = acquisition_of(results_of(POINTS[:12], best))(POINTS)
    # Its expected result is part of the front, and little is left to learn there: less than a third of the improvement.
    assert after[before.argmax()] < before.max() - np.log(3)
    assert after.argmax() != before.argmax()


def test_stopped_trial_informs_the_model_and_is_not_part_of_the_front() -> None:
    """The 20 finished trials measured, after half of their epochs, 0.1 more than at their end."""
    finished = results_of(POINTS[:20], POINTS[:0])
    curves: list[Mapping[float, float]] = [{0.5: values[0] + 0.1} for _, values in finished.finished]
    # At the smallest student, for which no trial was finished: its end is predicted as 0.9 or 0.05.
    params = {"size": 0.1, "rate": 0.4}
    point = SPACE.units([params])

    def with_stopped(value: float) -> Acquisition:
        return acquisition_of(replace(finished, curves=curves, stopped=[(params, {0.5: value + 0.1})]))

    before, bad, good = acquisition_of(finished), with_stopped(0.9), with_stopped(0.05)
    assert bad(point)[0] < before(point)[0] < good(point)[0]
    # The front has the same points: a stopped trial is not one of them, as good as it may be.
    assert good.front_points.shape[1] == 2
    assert not (good.front_points == point).all(axis=1).any()


def test_dominated_and_too_costly_candidates_are_worth_least() -> None:
    values = acquisition_of(results_of(POINTS[:40], POINTS[:0]))(
        SPACE.snapped(np.array([[0.5, 0.4], [0.5, 1.0], [1.0, 0.4]]))
    )
    # Mistuned; beyond the reference cost.
    assert values[1] < values[0]
    assert values[2] < values[0]
