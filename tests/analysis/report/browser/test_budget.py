"""The answer within a budget."""

from __future__ import annotations

import itertools
import json

import pytest

from analysis.budgets import NO_BUDGETS, Budgets
from analysis.choice import recommend
from analysis.report.page.study import render_html
from analysis.results import compute_results
from tests.analysis.report.browser.conftest import OpenPage
from tests.analysis.report.browser.small_study import STUDY, point, verdict
from tests.analysis.report.large_studies import large_results, large_study

pytestmark = pytest.mark.thorough


def test_limits_change_the_answer_and_mark_what_fits(open_page: OpenPage, html: str) -> None:
    page = open_page(html)
    parameters, flops, miss_rate = (page.locator("#limits input[type=text]").nth(place) for place in range(3))
    parameters.fill("0,7")
    assert verdict(page) == "Ship small if its loss is acceptable"
    assert "1 of 5 students" in page.inner_text("#limits-count")
    assert "Without a budget, the choice is bent" in page.inner_text("#explanation")
    assert "is-faded" in (page.get_attribute(point(page, "big"), "class") or "")
    assert "is-faded" not in (page.get_attribute(point(page, "small"), "class") or "")
    assert "limit 0.700 M" in page.inner_html("#front-plots figure >> nth=0")
    assert page.evaluate("location.hash") == "#num_params=700000"
    miss_rate.fill("30")
    assert verdict(page) == "No student meets the budget; the nearest is small"
    parameters.fill("nonsense")
    # What is not a number is marked, and changes nothing.
    assert parameters.get_attribute("aria-invalid") == "true"
    assert verdict(page) == "No student meets the budget; the nearest is small"
    page.click("#limits button")
    assert verdict(page) == "Ship bent"
    assert [field.input_value() for field in (parameters, flops, miss_rate)] == ["", "", ""]
    # The sliders: by keyboard, to the lowest step, which keeps the student of fewest FLOPs.
    page.focus("#limits input[type=range] >> nth=1")
    page.keyboard.press("Home")
    assert flops.input_value() == "1"
    assert verdict(page) == "Ship small if its loss is acceptable"
    page.keyboard.press("End")
    assert verdict(page) == "Ship bent"


def test_link_to_page_keeps_limits(open_page: OpenPage, html: str) -> None:
    page = open_page(html, fragment="#flops=1.5e9&unknown=3&num_params=x")
    assert verdict(page) == "Ship small if its loss is acceptable"
    assert page.locator("#limits input[type=text]").nth(1).input_value() == "1.5"


def test_choice_within_limits_is_that_of_the_report(open_page: OpenPage) -> None:
    study = large_study(40)
    # Of 300 images, neighbours on the front cannot all be distinguished.
    results = large_results(study)
    page = open_page(render_html(study, results))
    params = [trial.metrics["num_params"] for trial in study.counted]
    rates = [trial.metrics["mr2_reasonable"] for trial in study.counted]
    budgets = [NO_BUDGETS, Budgets(max_params=1), Budgets(max_miss_rate=0.2, max_params=2e6), Budgets(max_gflops=20)]
    budgets += [Budgets(max_params=value) for value in params[:12]]
    budgets += [Budgets(max_miss_rate=value) for value in rates[:12]]
    budgets += [Budgets(max_params=a, max_miss_rate=b) for a, b in itertools.product(params[12:16], rates[12:16])]
    larger = set()
    for each in budgets:
        expected = recommend(results.front, each, results.uncertainty)
        found = page.evaluate(f"hkdReport.choose({json.dumps(list(expected.limits.items()))})")
        assert found["chosen"]["id"] == expected.trial_id, each
        assert (found["larger"] or {}).get("id") == (expected.larger.second if expected.larger else None), each
        shown = expected.readiness if expected.verdict == "indistinguishable" else expected.verdict
        assert found["verdict"].removesuffix(" within limits") == shown, each
        larger.add(found["larger"] is None)
    assert larger == {True, False}


def test_page_opens_with_the_budget_of_the_report(open_page: OpenPage) -> None:
    budget = Budgets(max_params=7e5)
    page = open_page(render_html(STUDY, compute_results(STUDY, budget)))
    assert verdict(page) == "Ship small if its loss is acceptable"
    assert "within the budget of 0.700 M parameters" in page.inner_text("#explanation")
    assert page.locator("#limits input[type=text]").nth(0).input_value() == "0.7"
    page.click("#limits button")
    assert verdict(page) == "Ship bent"
