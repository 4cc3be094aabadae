from __future__ import annotations

import itertools
import math

import matplotlib.pyplot as plt
import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hkd import dominance
from hkd.dominance import Points, hypervolume, non_dominated

# Few different values, so that ties and duplicates are common.
COORDINATES = st.integers(min_value=0, max_value=4).map(float)


def point_sets(objectives: int) -> st.SearchStrategy[Points]:
    row = st.tuples(*[COORDINATES] * objectives)
    return st.lists(row, min_size=1, max_size=7).map(lambda rows: np.array(rows, dtype=float))


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
@given(point_sets(3))
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


def volume_by_inclusion_and_exclusion(points: Points, reference: Points) -> float:
    """The union of the boxes [point, reference]: sum over all subsets of points, with alternating sign."""
    total = 0.0
    for size in range(1, len(points) + 1):
        for subset in itertools.combinations(points, size):
            corner = np.max(np.stack(subset), axis=0)
            total -= (-1) ** size * float(np.prod(np.maximum(reference - corner, 0.0)))
    return total


class TestHypervolume:
    def test_one_point_is_box(self) -> None:
        # (4 - 1) * (5 - 2) * (6 - 3) = 27
        assert hypervolume(np.array([[1.0, 2.0, 3.0]]), np.array([4.0, 5.0, 6.0])) == 27.0

    def test_stairs(self) -> None:
        # Columns of width 1 and heights 1, 2, 3 under the reference (4, 4): 6.
        points = np.array([[1.0, 3.0], [2.0, 2.0], [3.0, 1.0]])
        assert hypervolume(points, np.array([4.0, 4.0])) == 6.0

    def test_three_overlapping_boxes(self) -> None:
        # Each box 1 * 1 * 2 = 2 below the reference (2, 2, 2), every two and all three share the unit cube:
        # 3 * 2 - 3 * 1 + 1 = 4.
        points = np.array([[0.0, 1.0, 1.0], [1.0, 0.0, 1.0], [1.0, 1.0, 0.0]])
        assert hypervolume(points, np.array([2.0, 2.0, 2.0])) == 4.0

    def test_duplicates_dominated_points_and_order_change_nothing(self) -> None:
        reference = np.array([4.0, 4.0])
        points = np.array([[3.0, 1.0], [1.0, 3.0], [1.0, 3.0], [3.5, 3.5], [2.0, 2.0]])
        assert hypervolume(points, reference) == 6.0

    def test_points_on_or_beyond_reference_add_nothing(self) -> None:
        points = np.array([[4.0, 0.0], [0.0, 9.0], [2.0, 2.0]])
        assert hypervolume(points, np.array([4.0, 4.0])) == 4.0

    def test_nan_and_infinity_add_nothing(self) -> None:
        points = np.array([[np.nan, 0.0], [np.inf, 0.0], [2.0, 2.0]])
        assert hypervolume(points, np.array([4.0, 4.0])) == 4.0

    def test_no_points(self) -> None:
        assert hypervolume(np.empty((0, 3)), np.array([1.0, 1.0, 1.0])) == 0.0

    @pytest.mark.parametrize("bad", [math.nan, math.inf])
    def test_reference_that_is_not_finite_is_error(self, bad: float) -> None:
        with pytest.raises(ValueError, match="reference point must be finite"):
            hypervolume(np.array([[0.0, 0.0]]), np.array([1.0, bad]))

    @settings(max_examples=50, deadline=None)
    @given(point_sets(2))
    def test_equals_inclusion_and_exclusion_in_two_dimensions(self, points: Points) -> None:
        reference = np.array([3.5, 4.0])
        assert hypervolume(points, reference) == pytest.approx(
            volume_by_inclusion_and_exclusion(points, reference), abs=1e-9
        )

    @settings(max_examples=50, deadline=None)
    @given(point_sets(3))
    def test_equals_inclusion_and_exclusion_in_three_dimensions(self, points: Points) -> None:
        reference = np.array([3.5, 4.0, 5.0])
        assert hypervolume(points, reference) == pytest.approx(
            volume_by_inclusion_and_exclusion(points, reference), abs=1e-9
        )

    def test_equals_optunas(self) -> None:
        # Optuna computes hypervolumes too, but its only public way to them is the history plot.
        points = np.random.default_rng(0).uniform(size=(40, 3))
        study = optuna.create_study(directions=["minimize"] * 3)
        study.add_trials([optuna.trial.create_trial(values=row.tolist()) for row in points])
        with pytest.warns(optuna.exceptions.ExperimentalWarning):
            axes = optuna.visualization.matplotlib.plot_hypervolume_history(study, [1.0, 0.9, 0.8])
        optunas = float(np.asarray(axes.lines[0].get_ydata())[-1])
        plt.close("all")
        assert hypervolume(points, np.array([1.0, 0.9, 0.8])) == pytest.approx(optunas, rel=1e-12)
