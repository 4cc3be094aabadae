from __future__ import annotations

import pytest

from analysis.budgets import BudgetError, Budgets, parse_budgets
from analysis.objectives import OBJECTIVES


def test_budgets_are_numbers_in_the_units_of_metrics() -> None:
    texts = {"max_params": "7e6", "max_gflops": "10", "max_latency_ms": "30", "max_miss_rate": "0.2", "study": "demo"}
    budgets = parse_budgets(texts)
    assert budgets == Budgets(7e6, 10.0, 30.0, 0.2)
    limits = {each.name: limit for each, limit in budgets.limits(OBJECTIVES["mr2_small"]).items()}
    assert limits == {"num_params": 7e6, "flops": 10e9, "latency_ms": 30.0, "mr2_small": 0.2}
    assert parse_budgets({"max_params": None}).is_empty


@pytest.mark.parametrize(
    ("name", "text", "remedy"),
    [
        ("max_params", "0", "above 0"),
        ("max_params", "-3", "above 0"),
        ("max_gflops", "nan", "finite"),
        ("max_latency_ms", "inf", "finite"),
        ("max_params", "1e999", "finite"),
        ("max_miss_rate", "10 %", "for 10 % write 0.1"),
        ("max_miss_rate", "20", "for 20 % write 0.2"),
        ("max_params", "7M", "7e6"),
        ("max_gflops", "10 GFLOPs", "10"),
        ("max_latency_ms", "30ms", "30"),
        ("max_params", "", "number above 0"),
        ("max_params", "\x1b[31mred", "number above 0"),
        ("max_params", "9" * 100_000, "finite"),
    ],
)
def test_value_that_is_no_budget_is_refused_with_its_option(name: str, text: str, remedy: str) -> None:
    with pytest.raises(BudgetError) as raised:
        parse_budgets({name: text})
    message = str(raised.value)
    assert f"--{name.replace('_', '-')}: found" in message
    assert remedy in message
    assert len(message) < 250
    assert "\x1b" not in message


def test_all_problems_are_reported_together() -> None:
    with pytest.raises(BudgetError) as raised:
        parse_budgets({"max_params": "0", "max_gflops": "1", "max_miss_rate": "x"})
    assert [line.partition(":")[0] for line in str(raised.value).split("\n")] == ["--max-params", "--max-miss-rate"]
