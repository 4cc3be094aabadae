"""Candidates within the limits on exact costs, and how often costs are computed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from sweeps.search.candidates import NUM_CANDIDATES, CandidatePool, NoCandidateError
from sweeps.search.costs import ExactCosts
from sweeps.search.encoding import Space

DISTRIBUTIONS: dict[str, BaseDistribution] = {
    "kind": CategoricalDistribution(("small", "large")),
    "rate": FloatDistribution(1e-4, 1e-2, log=True),
    "width": FloatDistribution(0.1, 1.0),
    "depth": IntDistribution(1, 20),
}
SHAPE = ("kind", "width", "depth")


class Counted:
    """Costs, and the configurations for which they were computed."""

    def __init__(self) -> None:
        self.calls: list[Mapping[str, Any]] = []

    def __call__(self, params: Mapping[str, Any]) -> dict[str, float]:
        self.calls.append(params)
        size = params["width"] ** 2 * params["depth"] * (10 if params["kind"] == "large" else 1)
        return {"size": size, "time": params["depth"]}


def pool_of(seed: int = 0, **limits: float) -> tuple[CandidatePool, Space, Counted]:
    space, counted = Space(DISTRIBUTIONS, {}), Counted()
    return CandidatePool(space, ExactCosts(space, counted, SHAPE, limits), seed, 8), space, counted


@pytest.mark.parametrize("limits", [{"size": 2.0}, {"size": 0.0102}, {"size": 3.0, "time": 1.0}])
def test_all_candidates_are_within_the_limits(limits: dict[str, float]) -> None:
    # 0.0102: only the smallest width, 0.1, with depth 1 and kind small is: 0.1^2 = 0.01.
    pool, space, _ = pool_of(0, **limits)
    near = pool.near(pool.draw(3)[:4], 32, 0.1, np.random.default_rng(0))
    for points in (pool.startup(), pool.draw(3), near):
        assert len(points) >= 16
        for params in space.configurations(points):
            costs = Counted()(params)
            assert all(costs[name] <= limit for name, limit in limits.items())


def test_candidates_depend_on_seed_and_number() -> None:
    first, again, other = (pool_of(seed, size=2.0)[0].draw(5) for seed in (0, 0, 1))
    assert first.shape == (NUM_CANDIDATES, 4)
    assert (first == again).all()
    assert (first != other).any()
    pool = pool_of(0, size=2.0)[0]
    pool.draw(1)
    assert (pool.draw(5) == first).all()
    assert (pool.draw(6) != first).any()


def test_costs_are_computed_for_few_new_shapes_in_one_proposal() -> None:
    pool, _, counted = pool_of(size=5.0)
    parents = pool.draw(10)[:8]
    # Eight times as many as each proposal adds, those of 10 proposals, and the corners.
    before = len(counted.calls)
    assert before <= 8 * (8 + 10) + 5
    pool.draw(11)
    assert len(counted.calls) - before <= 8
    before = len(counted.calls)
    pool.near(parents, 32, 0.1, np.random.default_rng(0))
    assert 0 < len(counted.calls) - before <= 8
    # Settings that no cost depends on are drawn for each candidate.
    assert len(np.unique(pool.draw(10)[:, 1])) > NUM_CANDIDATES // 2


def test_without_limits_startup_computes_no_costs() -> None:
    pool, _, counted = pool_of()
    assert len(pool.startup()) == 64
    assert counted.calls == []


def test_no_shape_within_the_limits_names_the_nearest() -> None:
    pool, _, _ = pool_of(size=0.005)
    with pytest.raises(NoCandidateError) as error:
        pool.draw(0)
    # The smallest of all.
    for fact in ("size", "kind = small", "width = 0.1", "depth = 1"):
        assert fact in str(error.value)


def test_limits_hold_where_no_setting_changes_the_costs() -> None:
    space = Space({"rate": DISTRIBUTIONS["rate"]}, {})

    def fixed(_: Mapping[str, Any]) -> dict[str, float]:
        return {"size": 2.0}

    assert len(CandidatePool(space, ExactCosts(space, fixed, (), {"size": 2.0}), 0, 8).draw(0)) == NUM_CANDIDATES
    with pytest.raises(NoCandidateError, match="no searched setting"):
        CandidatePool(space, ExactCosts(space, fixed, (), {"size": 1.0}), 0, 8).draw(0)
