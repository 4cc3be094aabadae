"""Searched settings as points of the unit cube."""

from __future__ import annotations

import numpy as np
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from sweeps.search.encoding import Prior, Setting, Space

DISTRIBUTIONS: dict[str, BaseDistribution] = {
    "linear": FloatDistribution(-1.0, 3.0),
    "log": FloatDistribution(0.01, 1.0, log=True),
    "grid": FloatDistribution(0.125, 0.5, step=0.125),
    "int": IntDistribution(32, 64, step=16),
    "log int": IntDistribution(1, 8, log=True),
    "two": CategoricalDistribution((True, None)),
    "three": CategoricalDistribution(("a", "b", 3)),
    "single": IntDistribution(5, 5),
}


def test_values_and_coordinates_by_hand() -> None:
    setting = Setting("x", DISTRIBUTIONS["int"])
    # Three values: the middles of thirds.
    assert setting.units([32, 48, 64]) == pytest.approx([1 / 6, 1 / 2, 5 / 6])
    assert setting.values(setting.snapped(np.array([0.0, 0.34, 0.66, 0.67, 1.0]))) == [32, 48, 48, 64, 64]
    # Halfway from 0.01 to 1 in the logarithm.
    assert Setting("x", DISTRIBUTIONS["log"]).values(np.array([0.5])) == pytest.approx([0.1])
    assert Setting("x", DISTRIBUTIONS["linear"]).values(np.array([0.25])) == pytest.approx([0.0])


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_snapped_coordinates_are_values_that_the_distribution_contains(name: str) -> None:
    distribution, setting = DISTRIBUTIONS[name], Setting(name, DISTRIBUTIONS[name])
    snapped = setting.snapped(np.linspace(-0.1, 1.1, 25))
    values = setting.values(snapped)
    assert all(distribution._contains(distribution.to_internal_repr(value)) for value in values)
    assert setting.units(values) == pytest.approx(snapped)
    assert setting.snapped(snapped) == pytest.approx(snapped)
    assert {type(value) for value in values} <= {
        int if "int" in name or name == "single" else float,
        str,
        bool,
        type(None),
        int,
    }


def test_inputs_have_one_column_for_a_number_and_one_for_each_of_three_choices() -> None:
    space = Space(DISTRIBUTIONS, {})
    points = space.snapped(np.random.default_rng(0).random((7, len(DISTRIBUTIONS))))
    inputs = space.inputs(points)
    assert inputs.shape == (7, 5 + 1 + 3 + 1)
    chosen = [configuration["three"] for configuration in space.configurations(points)]
    assert [("a", "b", 3)[row.argmax()] for row in inputs[:, 6:9]] == chosen
    assert inputs[:, 6:9].sum(axis=1) == pytest.approx(np.ones(7))


def test_part_of_a_trial_in_the_space() -> None:
    space = Space({"int": DISTRIBUTIONS["int"], "three": DISTRIBUTIONS["three"]}, {})
    assert space.part_of({"int": 48, "three": 3, "other": 1}) == {"int": 48, "three": 3}
    # Missing, beyond the range, not a choice.
    assert [space.part_of(params) for params in ({"int": 48}, {"int": 65, "three": 3}, {"int": 48, "three": "c"})] == [
        None
    ] * 3


def test_perturbed_points_are_near_and_differ() -> None:
    space = Space({"log": DISTRIBUTIONS["log"], "int": DISTRIBUTIONS["int"]}, {})
    point = space.snapped(np.full((200, 2), 0.5))
    moved = space.perturbed(point, 0.1, np.random.default_rng(0))
    difference = np.abs(moved - point)
    # Grid values move by a step, which is more than the width.
    assert (difference[:, 1] > 0).any()
    assert (difference.sum(axis=1) > 0).mean() > 0.7
    assert np.median(difference[:, 0][difference[:, 0] > 0]) < 0.1


def test_prior_of_a_number() -> None:
    setting = Setting("x", DISTRIBUTIONS["log"], Prior(center=0.1, width=0.25))
    # One width from the centre, which is at 0.5: exp(-1/2).
    assert setting.log_prior(np.array([0.5, 0.75])) == pytest.approx([0.0, -0.5])
    drawn = setting.from_prior((np.arange(1000) + 0.5) / 1000)
    # Cut at two widths on both sides: a standard deviation of 0.8796 widths.
    assert (drawn.mean(), drawn.std()) == pytest.approx((0.5, 0.25 * 0.8796), abs=1e-3)


def test_prior_of_choices() -> None:
    setting = Setting("x", DISTRIBUTIONS["three"], Prior(center="b", width=0.5))
    # exp(-1 / (2 * 0.5^2)) = exp(-2) for each other choice.
    assert setting.log_prior(setting.units(["a", "b", 3])) == pytest.approx([-2.0, 0.0, -2.0])
    drawn = setting.values(setting.from_prior((np.arange(1000) + 0.5) / 1000))
    assert drawn.count("b") == pytest.approx(1000 / (1 + 2 * np.exp(-2)), abs=2)


@pytest.mark.parametrize(
    ("name", "prior", "facts"),
    [
        ("y", Prior(1, 0.1), ("y", "int")),
        ("int", Prior(100, 0.1), ("int", "100")),
        ("int", Prior("a", 0.1), ("int", "a")),
        ("int", Prior(48, 0.0), ("int", "0.0")),
    ],
)
def test_invalid_priors(name: str, prior: Prior, facts: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="prior") as error:
        Space({"int": DISTRIBUTIONS["int"]}, {name: prior})
    assert all(fact in str(error.value) for fact in facts)
