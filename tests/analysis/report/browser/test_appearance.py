"""Contrast, small screens, paper, hostile names, and the time until the page is painted."""

from __future__ import annotations

import re

import pytest

from analysis.report.page.study import render_html
from tests.analysis.report.browser.conftest import OpenPage
from tests.analysis.report.browser.small_study import html_of
from tests.analysis.report.large_studies import large_results, large_study
from tests.analysis.studies import TEACHER, record, records

pytestmark = pytest.mark.thorough


def luminance(colour: str) -> float:
    """Relative luminance of rgb(), WCAG 2.1."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_in_light_and_dark(open_page: OpenPage, html: str, scheme: str) -> None:
    page = open_page(html, color_scheme=scheme)

    def colour(selector: str, name: str) -> str:
        return str(page.locator(selector).first.evaluate(f"node => getComputedStyle(node).{name}"))

    background = colour("body", "backgroundColor")
    assert (luminance(background) < 0.05) == (scheme == "dark")
    # Texts 4.5:1, marks 3:1.
    for selector in ("#verdict", ".note", "nav a", ".tile-note", "#limits-count"):
        assert contrast(colour(selector, "color"), background) >= 4.5, selector
    marks = {".is-front .mark": "fill", ".is-undistilled .mark": "fill", ".is-teacher .mark": "fill",
             "#front-plots .point:not(.is-front):not(.is-undistilled) .mark": "stroke", ".front-line": "stroke",
             ".axis-line": "stroke", ".is-chosen .ring": "stroke"}  # fmt: skip
    for selector, name in marks.items():
        assert contrast(colour(selector, name), background) >= 3, selector
    # The button changes to the other scheme.
    page.click("#theme")
    assert (luminance(colour("body", "backgroundColor")) < 0.05) == (scheme == "light")


def test_phone_has_no_horizontal_scroll(open_page: OpenPage) -> None:
    study = large_study(40)
    page = open_page(render_html(study, large_results(study)), viewport={"width": 360, "height": 740}, has_touch=True)
    for section in ("#front", "#students", "#why", "#details"):
        page.locator(section).scroll_into_view_if_needed()
    page.locator("#parallel svg").scroll_into_view_if_needed()
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    assert page.locator("#front-plots svg").first.evaluate("node => node.getBoundingClientRect().width") < 360
    rights = "nodes => nodes.map(node => node.getBoundingClientRect().right - node.ownerSVGElement.clientWidth)"
    left = page.locator("#front-plots svg").first.evaluate("node => node.getBoundingClientRect().left")
    assert max(page.locator("#front-plots svg text").evaluate_all(rights)) <= left
    # What is compared is in view, without scrolling the table.
    heading = page.locator("#students-table thead th", has_text="miss rate %").first
    assert heading.evaluate("node => node.getBoundingClientRect().right") <= 360
    caption = page.locator("#certain caption > span").first
    assert caption.evaluate("node => node.getBoundingClientRect().right") <= 360
    page.locator("#front-plots .point").last.tap()
    page.locator("#front-plots .is-front").first.tap()
    assert page.is_visible("#detail")
    assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_printing_clips_no_table(open_page: OpenPage) -> None:
    study = large_study(40)
    page = open_page(render_html(study, large_results(study)))
    # A4 landscape less margins, at 96 dots per inch: (297 - 24) / 25.4 * 96 = 1031.
    page.set_viewport_size({"width": 1031, "height": 700})
    page.emulate_media(media="print", color_scheme="dark")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")

    def count(selector: str, condition: str) -> int:
        return int(page.evaluate(f"[...document.querySelectorAll('{selector}')].filter((node) => {condition}).length"))

    assert count("table, svg, pre", "node.getBoundingClientRect().right > 1032") == 0
    # Plots fill their figures, although they were drawn for another width.
    narrow = "node.clientWidth < 0.9 * node.closest('figure').clientWidth"
    assert count("#front-plots svg, #hypervolume svg", narrow) == 0
    assert count(".wide", "getComputedStyle(node).overflowX !== 'visible'") == 0
    assert luminance(str(page.evaluate("getComputedStyle(document.body).backgroundColor"))) == 1
    # No header of a table is alone at the end of a page.
    assert count("thead", "getComputedStyle(node).breakAfter !== 'avoid'") == 0
    assert count("tbody tr:first-child", "getComputedStyle(node).breakBefore !== 'avoid'") == 0
    # Drawn although nobody scrolled there.
    assert page.locator("#curves svg").count() == 1
    assert not page.is_visible("#table-controls")


@pytest.mark.parametrize(
    "name",
    ["<script>alert(1)</script>", "</style><img src=x onerror=alert(1)>", "\"'`", "{{ 7 * 7 }}", "x" * 10_000],
    ids=["script", "style", "quotes", "template", "long"],
)
def test_hostile_names_are_text(open_page: OpenPage, name: str) -> None:
    params = {f"student.{name}": name}
    trials = [
        record(name, 0.22, 1e6, 1e9, params=params),
        record("t1", 0.3, 5e5, 5e8, params={f"student.{name}": "other"}),
        record(f"b{name}", 0.5, 1e6, 1e9, role="baseline", baseline=name),
        record("f0", 0.9, 1e6, 1e9, status="failed", not_counted_because=name),
    ]
    page = open_page(html_of(records(trials, TEACHER, study=name)), viewport={"width": 800, "height": 700})
    assert page.text_content("#verdict") == f"Ship {name}"
    page.click("#students-table button.name >> nth=0")
    assert page.text_content("#detail-title") == name
    assert f"student.{name}" in (page.text_content("#detail") or "")
    page.hover("#front-plots .is-undistilled, #front-plots .is-baseline", force=True)
    page.locator("#curves").scroll_into_view_if_needed()
    page.locator("#limits input[type=text]").nth(0).fill("0.7")
    page.locator("#limits input[type=text]").nth(0).fill("1")
    assert page.text_content("#verdict") == f"Ship {name}"
    assert page.evaluate("document.documentElement.scrollWidth") == 800


def test_page_of_a_thousand_trials_is_painted_within_a_second(open_page: OpenPage) -> None:
    study = large_study(1000)
    page = open_page(render_html(study, large_results(study)))
    page.wait_for_function("performance.getEntriesByName('first-contentful-paint').length > 0")
    paint = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
    times = [page.evaluate(paint)]
    # On an idle machine 0.3 s. Other processes are no fault of the page: the best of some tries.
    while min(times) >= 1000 and len(times) < 5:
        page.reload()
        page.wait_for_function("performance.getEntriesByName('first-contentful-paint').length > 0")
        times.append(page.evaluate(paint))
    assert min(times) < 1000, times
    page.locator("#limits input[type=text]").nth(0).fill("3")
    assert "within your budget" in page.inner_text("#answer-scope").lower()
