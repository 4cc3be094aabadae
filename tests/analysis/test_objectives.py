from __future__ import annotations

from typing import get_args

import pytest

from analysis.objectives import DEFAULT_OBJECTIVES, OBJECTIVES, listed_nouns, parse_objectives
from hkd import metric_names as names
from sweeps.settings.study import ObjectiveName


def test_every_objective_of_studies_is_known() -> None:
    assert set(OBJECTIVES) == {*get_args(ObjectiveName)}


@pytest.mark.parametrize(
    ("recorded", "parsed"),
    [
        ("mr2_reasonable, num_params, flops", ["mr2_reasonable", "num_params", "flops"]),
        ("mr2_all, num_params", ["mr2_all", "num_params"]),
        ("gmacs, mr2_small, flops, mr2_heavy", ["mr2_small", "mr2_heavy", "gmacs", "flops"]),
        ("mr2_small", ["mr2_small"]),
    ],
)
def test_recorded_objectives_are_read_with_miss_rates_first(recorded: str, parsed: list[str]) -> None:
    found = parse_objectives(recorded)
    assert [objective.name for objective in found.objectives] == parsed
    assert found.note is None


@pytest.mark.parametrize("recorded", [None, "", "num_params, flops", "['mr2_all']"])
def test_default_objectives_where_none_can_be_read(recorded: str | None) -> None:
    found = parse_objectives(recorded)
    assert found.objectives == DEFAULT_OBJECTIVES
    assert found.note is not None
    assert "mr2_reasonable, num_params, flops" in found.note


def test_unknown_objective_is_ignored_with_note() -> None:
    found = parse_objectives("mr2_all, energy, flops")
    assert [objective.name for objective in found.objectives] == ["mr2_all", "flops"]
    assert found.note is not None
    assert "energy" in found.note


@pytest.mark.parametrize(
    ("count", "shown"),
    [(41.3e6, "41.3"), (123.4e6, "123"), (1500e6, "1500"), (0.4235e6, "0.423"), (999.9e3, "1.00"), (21_300, "0.0213")],
)
def test_costs_are_shown_with_three_digits(count: float, shown: str) -> None:
    # 0.4235 is slightly smaller in binary, hence 0.423.
    assert OBJECTIVES["num_params"].shown(count) == shown


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("mr2_reasonable", 0.2996, "miss rate of 30.0 %"),
        ("mr2_all", 0.5, "miss rate (all) of 50.0 %"),
        ("num_params", 2e6, "2.00 M parameters"),
        ("flops", 3e9, "3.00 GFLOPs an image"),
        ("gmacs", 1.5, "1.50 GMACs an image"),
    ],
)
def test_values_have_units_in_sentences(name: str, value: float, sentence: str) -> None:
    assert OBJECTIVES[name].in_sentence(value) == sentence


def test_missing_value() -> None:
    assert OBJECTIVES["flops"].shown(None) == "-"


def test_listed_nouns() -> None:
    assert listed_nouns(DEFAULT_OBJECTIVES) == "miss rate, parameters and FLOPs"
    assert listed_nouns(DEFAULT_OBJECTIVES[:2]) == "miss rate and parameters"
    assert listed_nouns(DEFAULT_OBJECTIVES[:1]) == "miss rate"


def test_costs_are_compared_in_words_that_fit_them() -> None:
    # 3 times fewer; 0.8 times fewer is 1.25 times as many.
    params, latency = OBJECTIVES[names.NUM_PARAMS], OBJECTIVES[names.LATENCY_MS]
    assert (params.compared(3.0), params.compared(0.8)) == ("3.0x fewer than", "1.2x as many as")
    assert (latency.compared(3.0), latency.compared(0.8)) == ("3.0x faster than", "1.2x as slow as")
