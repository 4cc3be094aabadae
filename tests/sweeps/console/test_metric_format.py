"""Metrics with their units."""

from __future__ import annotations

from typing import get_args

import pytest

from hkd import metric_names as names
from sweeps.console.metric_format import cell, heading, phrases
from sweeps.settings.study import ObjectiveName

METRICS = {"mr2_small": 0.1234, "num_params": 12_345_678, "flops": 9_876_543_210, "gmacs": 4.938}


@pytest.mark.parametrize(
    ("metric", "column", "value"),
    [
        ("mr2_small", "MR^-2 small (%)", "12.3"),
        ("num_params", "parameters (M)", "12.35"),
        ("flops", "GFLOPs", "9.88"),
        ("gmacs", "GMACs", "4.94"),
        ("mr2_all", "MR^-2 all (%)", "-"),
    ],
)
def test_heading_and_cell(metric: str, column: str, value: str) -> None:
    assert (heading(metric), cell(metric, METRICS)) == (column, value)


def test_missing_metrics_have_no_phrase() -> None:
    assert phrases(("mr2_all", "mr2_small", "gmacs"), METRICS) == "MR^-2 small 12.3 %, 4.94 GMACs"


def test_every_objective_has_format() -> None:
    assert get_args(ObjectiveName) == (*names.MISS_RATES, *names.COSTS)
    for metric in get_args(ObjectiveName):
        assert heading(metric)
