"""The page of several studies."""

from __future__ import annotations

import pytest

from analysis.records.study_records import StudyRecords
from analysis.report.page.comparison import render_comparison
from analysis.results import StudyResults, compute_results
from analysis.studies import compare_studies
from tests.analysis.report.browser.conftest import OpenPage
from tests.analysis.studies import TEACHER, found_in, record, records

pytestmark = pytest.mark.thorough

HOSTILE = "<script>alert(1)</script>"


def results_of(study: StudyRecords, **finding: int) -> StudyResults:
    """With detections that find so many of 100 people."""
    stored = {f"run-of-{name}": found_in([index < number for index in range(100)]) for name, number in finding.items()}
    return compute_results(study, read_detections=lambda _: stored)


@pytest.fixture(scope="module")
def html() -> str:
    """Up to 3 M parameters, the second study is better; from 4 M on, the first one is."""
    objectives = ("mr2_reasonable", "num_params")
    one = [record("s", 0.5, 1e6, 1e9), record("l", 0.3, 4e6, 1e9), record("off", 0.6, 2e6, 1e9)]
    other = [record("s", 0.4, 1e6, 1e9), record("l", 0.35, 3e6, 1e9)]
    compared = compare_studies(
        [
            results_of(records(one, TEACHER, "one", objectives), s=50, l=70, off=40),
            results_of(records(other, TEACHER, HOSTILE, objectives), s=60, l=65),
        ]
    )
    return render_comparison(compared, {"one": "one", HOSTILE: "other folder"})


def test_fronts_are_overlaid_with_who_is_better_where(open_page: OpenPage, html: str) -> None:
    page = open_page(html)
    assert "has the largest hypervolume" in page.inner_text("#verdict")
    assert page.locator("#front-plots figure").count() == 1
    assert page.locator(".study-line").count() == 2 + 2  # in the plot and in the legend
    # Two members of each front, and one that is off.
    assert page.locator("#front-plots .is-study-front").count() == 4
    assert page.locator("#front-plots .point").count() == 5
    legend = page.inner_text("#legend")
    assert all(fact in legend for fact in ("one (2 on its front)", f"{HOSTILE} (2 on its front)"))
    leaders = [each.get_attribute("aria-label") or "" for each in page.locator(".leader").all()]
    assert len(leaders) == 2
    # From 1 M to 4 M the other study: one text for both ranges; then the first one.
    assert leaders[0].startswith(f"1.00 M to 4.00 M: {HOSTILE}")
    assert leaders[1].startswith("4.00 M and more: one")
    assert "% of the resamples" in leaders[1]
    # Reached: the other study's small student dominates one's, 1 of 2; none dominates its large one.
    coverage = page.locator("#studies table").nth(1).locator("tbody tr").all_inner_texts()
    assert [row.split()[-2:] for row in coverage] == [["0", "%"], ["50", "%"]]


def test_points_of_studies_are_reached_by_pointer_and_keyboard(open_page: OpenPage, html: str) -> None:
    page = open_page(html)
    page.locator("#front-plots .is-study-front.study-0").nth(1).hover()
    tip = page.inner_text("#tip")
    assert all(fact in tip for fact in ("one", "50.0 %", "1.00 M", f"lowest miss rate at this cost: {HOSTILE}"))
    page.locator('#front-plots .point[tabindex="0"]').focus()
    page.keyboard.press("End")
    # The costliest: the large one of the first study.
    assert "30.0 %" in page.inner_text("#tip")
    page.keyboard.press("ArrowLeft")
    assert "35.0 %" in page.inner_text("#tip")


def test_page_links_the_reports_of_its_studies(open_page: OpenPage, html: str) -> None:
    page = open_page(html)
    links = [each.get_attribute("href") for each in page.locator("#answer a").all()]
    assert links == ["one/report.html", "other%20folder/report.html"]
    page.click("#front-plots .data-table summary")
    # The table is created when it is opened.
    page.wait_for_selector("#front-plots .data-table tbody tr")
    assert page.locator("#front-plots .data-table tbody tr").count() == 5
    page.click("#theme")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_page_fits_a_phone(open_page: OpenPage, html: str) -> None:
    page = open_page(html, viewport={"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") == 390
