from __future__ import annotations

import math

import numpy as np
import pytest

from analysis.geometry import knee_index


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
