from __future__ import annotations

import math

import numpy as np
import pytest

from hkd.dominance import hypervolume
from sweeps.scheduling.rankings import (
    EarlyRungRule,
    by_hypervolume,
    by_spacing,
    contributions,
    hypervolume_halving,
    layers,
    moasha,
    published_moasha,
)
from sweeps.scheduling.rules import CONTINUE, Decision, EarlyStopping, Rule
from sweeps.scheduling.rungs import Candidate


def stops(rule: Rule, points: list[tuple[float, float]]) -> list[bool]:
    """Whether each of several trials with (miss rate, cost) is stopped as it reaches the only rung."""
    stopping = EarlyStopping([1], rule)
    return [
        stopping.report(Candidate(f"trial-{i}", (cost,)), 1, [miss_rate]).decision is Decision.STOP
        for i, (miss_rate, cost) in enumerate(points)
    ]


def test_layers_are_peeled_off() -> None:
    points = np.array([[3.0, 3.0], [1.0, 2.0], [2.0, 1.0], [2.0, 2.0], [1.0, 2.0]])
    # Equal points do not dominate each other.
    assert [each.tolist() for each in layers(points)] == [[1, 2, 4], [3], [0]]


def test_spacing_starts_with_the_lowest_and_continues_with_the_farthest() -> None:
    # One layer on a line, at 0, 1, 3, 10 of its length: 0 first, then 10, then 3 (3 from 0, 7 from 10), then 1.
    points = np.array([[t, -t] for t in (1.0, 10.0, 0.0, 3.0)])
    assert list(by_spacing(points, 1)) == [2, 1, 3, 0]


def test_hypervolume_prefers_the_point_that_alone_dominates_most() -> None:
    # Scaled to [0, 1] with the reference (1.1, 1.1). Points (0, 1), (0.5, 0.5), (0.6, 0.4), (1, 0) dominate alone:
    # (0, 1): 0.5 * 0.1; (0.5, 0.5): (0.6 - 0.5) * (1 - 0.5); (0.6, 0.4): (1 - 0.6) * (0.5 - 0.4); (1, 0): 0.1 * 0.4,
    # that is 0.05, 0.05, 0.04, 0.04; the dominated (0.9, 0.9) comes last.
    points = np.array([[0.9, 0.9], [1.0, 0.0], [0.6, 0.4], [0.5, 0.45], [0.0, 1.0]])
    # (0.5, 0.45) instead of (0.5, 0.5): 0.1 * 0.55 = 0.055; then (0.6, 0.4): 0.4 * 0.05 = 0.02; (0, 1): 0.05.
    assert list(by_hypervolume(points, 1)) == [3, 4, 1, 2, 0]


@pytest.mark.parametrize("objectives", [1, 2, 3])
def test_contribution_is_what_the_hypervolume_loses_without_the_point(objectives: int) -> None:
    points = np.random.default_rng(objectives).random((12, objectives)).round(1)  # with ties
    points[5] = points[2]  # of equal points, none dominates anything alone
    reference = np.full(objectives, 1.1)
    whole = hypervolume(points, reference)
    expected = [whole - hypervolume(np.delete(points, index, axis=0), reference) for index in range(len(points))]
    assert contributions(points, reference) == pytest.approx(expected, abs=1e-12)


def test_better_third_continues() -> None:
    # On one cost, the ranking is that of miss rates. Rank over number: 0/1, 1/2 > 1/3, 0/3, 3/4, 1/5.
    points = [(0.5, 1.0), (0.6, 1.0), (0.4, 1.0), (0.9, 1.0), (0.45, 1.0)]
    for rule in (moasha(3.0), hypervolume_halving(3.0)):
        assert stops(rule, points) == [False, True, False, True, False]


def test_published_moasha_takes_the_last_of_the_order_for_the_newcomers_rank() -> None:
    # The newcomer (trial 2) dominates both. Sorted order: [2, 0, 1]. Read as priorities, the newcomer has the priority
    # 1, of rank 1: 1/3 is not above 1/3. After another that dominates all, the order is [3, 2, 0, 1]: rank 1 of 4.
    assert stops(published_moasha(3.0), [(0.5, 1.0), (0.6, 1.0), (0.4, 1.0), (0.3, 1.0)]) == [False, True, False, False]
    # The first trial is the best here: sorted [0, 1], priority of the newcomer 1 of 2 > 1/3. Next, a newcomer that
    # dominates all while trial 1 is the worst but one: [2, 0, 1] as above. Then the last of the order is trial 3, the
    # newcomer, wherever it ranks; a dominating one comes first, and the last, trial 2, gives 2/4 > 1/3: stopped.
    assert stops(published_moasha(3.0), [(0.5, 1.0), (0.6, 1.0), (0.7, 1.0), (0.1, 1.0)])[3]
    assert not stops(moasha(3.0), [(0.5, 1.0), (0.6, 1.0), (0.7, 1.0), (0.1, 1.0)])[3]


def test_later_results_and_unreached_rungs_change_nothing() -> None:
    stopping = EarlyStopping([2], moasha())
    for name in ("a", "b", "c"):
        assert stopping.report(Candidate(name, (1.0,)), 1, [0.5]) == CONTINUE
    stopping.report(Candidate("a", (1.0,)), 2, [0.1])
    assert stopping.report(Candidate("b", (1.0,)), 2, [0.5]).decision is Decision.STOP
    assert stopping.report(Candidate("a", (1.0,)), 3, [0.9]) == CONTINUE


@pytest.mark.parametrize("rule", [moasha(), published_moasha(), hypervolume_halving()])
def test_nan_is_last_and_ties_are_ordered(rule: Rule) -> None:
    assert stops(rule, [(math.nan, 1.0), (0.5, 1.0), (math.nan, 1.0)]) == [False, False, True]
    stops(rule, [(0.5, 1.0)] * 6)  # does not raise


def test_all_wait_at_the_early_rung_and_the_best_continue() -> None:
    stopping = EarlyStopping([1], EarlyRungRule(num_trials=5, num_kept=2))
    stopping.report(Candidate("baseline-a", (0.5,), is_protected=True), 1, [0.05])  # continues beside the two
    # Costs fall and miss rates rise: a, b and c are a layer (after the baseline), d is dominated; e fails.
    points = {"a": (0.1, 4.0), "b": (0.2, 3.0), "c": (0.7, 0.1), "d": (0.9, 5.0)}
    for name, (miss_rate, cost) in points.items():
        assert stopping.report(Candidate(name, (cost,)), 1, [miss_rate]).decision is Decision.PAUSE
    stopping.fail("e")
    decisions = {name: stopping.verdict(name, 1).decision for name in points}
    # The baseline dominates a, b and d. First layer: baseline, c. Second: a, b. Ends of a layer of two are apart from
    # the reference by a tenth: scaled to the ranges (0.05..0.9, 0.1..5 in logarithms), a = (0.059, 0.943) adds
    # (0.176 - 0.059) * (1.1 - 0.943) = 0.018, b = (0.176, 0.869) adds (1.1 - 0.176) * (0.943 - 0.869) = 0.068.
    assert decisions == {"a": Decision.STOP, "b": Decision.CONTINUE, "c": Decision.CONTINUE, "d": Decision.STOP}
    assert stopping.verdict("b", 5) == CONTINUE
