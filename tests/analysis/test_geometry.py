from __future__ import annotations

import itertools
import math

import matplotlib.pyplot as plt
import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.geometry import knee_index
from hkd.dominance import Points, hypervolume

# Few different values, so that ties and duplicates are common.
COORDINATES = st.integers(min_value=0, max_value=4).map(float)


def point_sets(objectives: int) -> st.SearchStrategy[Points]:
    row = st.tuples(*[COORDINATES] * objectives)
    return st.lists(row, min_size=1, max_size=7).map(lambda rows: np.array(rows, dtype=float))


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


class TestKnee:
    def test_is_furthest_from_line_between_ends(self) -> None:
        # Scaled: log10 cost 0, 1/4, 1/2, 1 and miss rate 1, 1/4, 1/5, 0: x + y = 1, 0.5, 0.7, 1. The second point is
        # furthest below x + y = 1, by (1 - 0.5) / sqrt(2).
        cost = np.array([1e4, 1e5, 1e6, 1e8])
        found = knee_index(cost, np.array([0.9, 0.9 - 0.75 * 0.5, 0.9 - 0.8 * 0.5, 0.4]))
        assert found is not None
        assert found[0] == 1
        assert found[1] == pytest.approx(0.5 / math.sqrt(2), rel=1e-12)

    def test_does_not_depend_on_order_or_units(self) -> None:
        cost = np.array([1e8, 1e5, 1e4, 1e6])
        miss_rate = np.array([0.4, 0.525, 0.9, 0.5])
        found = knee_index(cost, miss_rate)
        in_other_units = knee_index(cost / 1e6, 100 * miss_rate)
        assert found is not None
        assert in_other_units is not None
        assert found[0] == in_other_units[0] == 1
        assert in_other_units[1] == pytest.approx(found[1], rel=1e-12)

    def test_cheaper_of_equal_distances(self) -> None:
        # Scaled: (0, 1), (0.25, 0.5), (0.5, 0.25), (1, 0).
        found = knee_index(np.array([1.0, 10.0, 100.0, 1e4]), np.array([0.8, 0.4, 0.2, 0.0]))
        assert found is not None
        assert found[0] == 1

    @pytest.mark.parametrize("count", [1, 2])
    def test_none_with_fewer_than_three_points(self, count: int) -> None:
        assert knee_index(np.array([1.0, 10.0])[:count], np.array([0.5, 0.2])[:count]) is None

    def test_none_with_fewer_than_three_different_points(self) -> None:
        assert knee_index(np.array([1.0, 10.0, 10.0]), np.array([0.5, 0.2, 0.2])) is None

    def test_none_on_straight_front(self) -> None:
        assert knee_index(np.array([1.0, 10.0, 100.0]), np.array([0.6, 0.4, 0.2])) is None

    def test_none_on_front_that_bends_outward(self) -> None:
        assert knee_index(np.array([1.0, 10.0, 100.0]), np.array([0.6, 0.5, 0.2])) is None
