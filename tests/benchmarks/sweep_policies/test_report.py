"""Tests of the tables of simulated studies."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks.sweep_policies.plots import draw
from benchmarks.sweep_policies.report import (
    ASHA,
    OURS,
    RANDOM,
    goals,
    largest_deficit,
    quantiles_to_reach,
    report,
    shares_at,
)
from benchmarks.sweep_policies.runs import Result


def reaching(trainings: float) -> Result:
    """A study that has half of the hypervolume after one training, and 96 % after this number."""
    return Result([1.0, trainings], [1.0, trainings], [0.5, 0.96], finished=2, stopped=1)


def test_compute_to_reach_a_share_is_that_after_the_first_trial_that_has_it() -> None:
    result = reaching(7.0)
    assert [result.to_reach(share) for share in (0.5, 0.51, 0.96, 0.97)] == [1.0, 7.0, 7.0, math.inf]


def test_quartiles_count_studies_that_did_not_reach_the_share() -> None:
    results = [reaching(trainings) for trainings in (2.0, 3.0, 4.0, 5.0)]
    # Of four: the second, the first and the third.
    assert quantiles_to_reach(results, 0.95) == (3.0, 2.0, 4.0)
    assert quantiles_to_reach([*results, *[Result([], [], [], 0, 0)] * 4], 0.95) == (5.0, 3.0, math.inf)


def test_share_is_a_step_function_of_compute() -> None:
    shares = shares_at([reaching(7.0), Result([], [], [], 0, 0)], np.array([0.5, 1.0, 6.9, 7.0, 60.0]))
    assert shares.tolist() == [[0.0, 0.5, 0.5, 0.96, 0.96], [0.0] * 5]


def test_goals_and_deficit_come_from_medians() -> None:
    results = {
        (RANDOM, 8): [reaching(5.0)],
        (ASHA, 8): [reaching(30.0)],
        (OURS, 8): [reaching(9.0)],
    }
    (goal,) = goals(results)
    assert (goal.other, goal.workers) == (ASHA, 8)
    assert goal.ratio == pytest.approx(9 / 30)
    deficit = largest_deficit(results, 8, 60.0)
    assert deficit is not None
    # From 5 to 9 trainings, random search has 96 %, ours 50 %.
    assert deficit[0] == pytest.approx(0.46)
    assert 5 <= deficit[1] < 9
    text = report(results, 60.0)
    assert f"| {OURS} | 8 | 1 | 9.0 [9.0, 9.0] | 9.0 [9.0, 9.0] | > 60 [> 60, > 60] | 2 | 1 |" in text
    assert "0.30 times" in text
    assert draw(results, 60.0).startswith(b"\x89PNG")


def test_ratio_is_not_known_where_a_median_is_not_reached() -> None:
    (goal,) = goals({(ASHA, 1): [Result([], [], [], 0, 0)], (OURS, 1): [reaching(9.0)]})
    assert math.isnan(goal.ratio)
