from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hkd import dominance
from hkd.dominance import Points, non_dominated

# Few different values, so that ties and duplicates are common.
COORDINATES = st.integers(min_value=0, max_value=4).map(float)
POINT_SETS = st.lists(st.tuples(*[COORDINATES] * 3), min_size=1, max_size=7).map(
    lambda rows: np.array(rows, dtype=float)
)


def test_keeps_points_that_no_other_dominates() -> None:
    # (3, 3) is dominated by (2, 2) in both; (1, 4) and (4, 1) are each best in one.
    points = np.array([[1.0, 4.0], [2.0, 2.0], [3.0, 3.0], [4.0, 1.0]])
    assert non_dominated(points).tolist() == [True, True, False, True]


def test_equal_in_one_and_better_in_another_dominates() -> None:
    assert non_dominated(np.array([[1.0, 2.0], [1.0, 3.0]])).tolist() == [True, False]


def test_equal_points_are_all_kept() -> None:
    assert non_dominated(np.array([[1.0, 2.0], [1.0, 2.0], [2.0, 3.0]])).tolist() == [True, True, False]


def test_point_with_nan_is_not_on_front_and_dominates_nothing() -> None:
    assert non_dominated(np.array([[np.nan, 0.0], [1.0, 1.0]])).tolist() == [False, True]


def test_infinity_is_worse_than_any_number() -> None:
    # Dominated by (1, 1), but best of all in its second objective when that is lower.
    assert non_dominated(np.array([[np.inf, 1.0], [1.0, 1.0]])).tolist() == [False, True]
    assert non_dominated(np.array([[np.inf, 0.0], [1.0, 1.0]])).tolist() == [True, True]


def test_no_points() -> None:
    assert non_dominated(np.empty((0, 3))).tolist() == []


@settings(max_examples=50, deadline=None)
@given(POINT_SETS)
def test_equals_definition(points: Points) -> None:
    expected = [
        not any(all(q <= p) and any(q < p) for q in points)  # another point dominates p
        for p in points
    ]
    assert non_dominated(points).tolist() == expected


def test_many_points_equal_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    points = random.integers(0, 12, (400, 3)).astype(float)
    points[random.random((400, 3)) < 0.02] = np.nan
    points[random.random((400, 3)) < 0.02] = np.inf
    swept = non_dominated(points)
    monkeypatch.setattr(dominance, "MOST_COMPARED_IN_PAIRS", 400)
    np.testing.assert_array_equal(swept, non_dominated(points))
    assert 2 < swept.sum() < 100
