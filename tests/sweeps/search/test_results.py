"""What counts as a result, and which results the model uses."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState

from sweeps.search.encoding import Space
from sweeps.search.results import MOST_RESULTS, Results, informative

SPACE: dict[str, BaseDistribution] = {"x": FloatDistribution(0.0, 1.0)}


def trial(number: int, x: float, state: TrialState, values: list[float] | None = None, minutes: int = 0) -> FrozenTrial:
    wide: dict[str, BaseDistribution] = {"x": FloatDistribution(-9.0, 9.0), "other": FloatDistribution(0.0, 1.0)}
    made = optuna.create_trial(state=state, params={"x": x, "other": 0.5}, distributions=wide, values=values)
    made.number = number
    if made.datetime_complete is not None:
        made.datetime_complete = datetime(2026, 1, 1) + timedelta(minutes=minutes)  # noqa: DTZ001
    return made


def test_trials_by_state_in_the_order_of_their_end() -> None:
    complete = TrialState.COMPLETE
    results = Results.of(
        [
            trial(0, 0.1, complete, [0.5, 1.0], minutes=9),
            trial(1, 0.2, TrialState.RUNNING),
            trial(2, 0.3, complete, [0.4, 2.0], minutes=3),
            trial(3, 0.4, TrialState.PRUNED),
            trial(4, 0.5, TrialState.FAIL),
            # An infinite result, and a setting outside of the space.
            trial(5, 0.6, complete, [float("inf"), 1.0]),
            trial(6, -2.0, complete, [0.1, 1.0]),
            trial(7, 0.7, TrialState.PRUNED),
        ],
        Space(SPACE, {}),
        lambda trial: {0.5: trial.params["x"]} if trial.number != 3 else {},
    )
    assert results.finished == [({"x": 0.3}, [0.4, 2.0]), ({"x": 0.1}, [0.5, 1.0])]
    assert results.running == [{"x": 0.2}]
    assert [params["x"] for params in results.tried] == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]
    # With what they measured after half of their epochs, where they did.
    assert results.curves == [{0.5: 0.3}, {0.5: 0.1}]
    assert results.measured_running == [({"x": 0.2}, {0.5: 0.2})]
    assert results.stopped == [({"x": 0.7}, {0.5: 0.7})]


def test_latest_of_many_running_and_stopped_trials_are_used() -> None:
    trials = [
        trial(number, number / 1000, TrialState.RUNNING if number % 2 else TrialState.PRUNED) for number in range(1000)
    ]
    results = Results.of(trials, Space(SPACE, {}), lambda _: {0.5: 1.0})
    assert [params["x"] for params in results.running] == [number / 1000 for number in range(601, 1000, 2)]
    assert [params["x"] for params, _ in results.stopped] == [number / 1000 for number in range(600, 1000, 2)]
    assert len(results.tried) == 1000


def test_all_of_few_results_are_used() -> None:
    assert informative(np.arange(600.0), np.zeros((600, 1))).tolist() == list(range(600))


def test_lowest_of_each_cost_and_evenly_spaced_ones_of_many_results_are_used() -> None:
    random = np.random.default_rng(0)
    values, costs = random.random(5000), random.random((5000, 2))
    chosen = informative(values, costs)
    assert len(chosen) <= MOST_RESULTS
    # In the order of time, first and last among them.
    assert (np.diff(chosen) > 0).all()
    assert {0, 4999} <= set(chosen.tolist())
    # 75 classes of cost: the lowest value of the first tenth of costs is among them, and that of the last.
    for low, high in ((0.0, 0.1), (0.9, 1.0)):
        similar = np.flatnonzero((costs[:, 0] >= low) & (costs[:, 0] < high))
        assert similar[values[similar].argmin()] in chosen


def test_lowest_results_are_used_without_costs() -> None:
    values = np.random.default_rng(0).random(5000)
    assert set(np.argsort(values)[:300].tolist()) <= set(informative(values, np.zeros((5000, 0))).tolist())
