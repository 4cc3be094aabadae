"""The page as a reader uses it, in headless Chromium."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from typing import TYPE_CHECKING

import pytest

from analysis.budgets import NO_BUDGETS, Budgets
from analysis.choice import recommend
from analysis.records.study_records import StudyRecords, TrialRecord
from analysis.report.page import render_html
from analysis.results import compute_results
from tests.analysis.report.conftest import OpenPage
from tests.analysis.report.large_studies import large_results, large_study
from tests.analysis.studies import TEACHER, record, records

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.thorough

# The front in parameters: big, bent, small. Of the line from big to small, bent is furthest below: the knee.
STUDY = records(
    [
        record("big", 0.22, 4e6, 8e9, params={"student.width_multiplier": 1.0, "training.learning_rate": 0.001}),
        record("bent", 0.24, 1e6, 2e9, params={"student.width_multiplier": 0.5, "training.learning_rate": 0.01}),
        record("small", 0.34, 5e5, 1e9, params={"student.width_multiplier": 0.25, "training.learning_rate": 0.002}),
        record("beaten", 0.3, 2e6, 4e9, params={"student.width_multiplier": 0.75, "training.learning_rate": 0.003}),
        record("alone", 0.4, 1e6, 2e9, role="baseline", baseline="undistilled"),
        record("f0", 0.9, 1e6, 1e9, status="failed", not_counted_because="failed after 25 % of its epochs"),
    ],
    TEACHER,
)


STUDY = dataclasses.replace(
    STUDY, trials=tuple(dataclasses.replace(each, history=((2, 0.7), *each.history)) for each in STUDY.trials)
)


def html_of(study: StudyRecords) -> str:
    return render_html(study, compute_results(study))


@pytest.fixture(scope="module")
def html() -> str:
    return html_of(STUDY)


def verdict(page: Page) -> str:
    return page.inner_text("#verdict")


def shown_trials(page: Page) -> list[str]:
    rows = page.locator("#students-table tbody tr:not([hidden]) th")
    return [text.strip() for text in rows.all_inner_texts()]


def point(page: Page, name: str, plot: int = 0) -> str:
    """Selector of a student's point in a front plot."""
    index = [trial.trial_id for trial in STUDY.trials].index(name)
    return f'#front-plots figure:nth-child({plot + 1}) .point[data-index="{index}"]'


def test_hover_shows_numbers_and_click_shows_details(open_page: OpenPage, html: str) -> None:
    page = open_page(html)
    assert verdict(page) == "Ship bent"
    page.hover(point(page, "beaten"))
    tip = page.inner_text("#tip")
    # 10 points above the teacher's 20 %; 6 M / 2 M = 3.
    assert all(fact in tip for fact in ("beaten", "30.0 %", "+10.0 points", "2.00 M", "3.0x fewer", "4.00 GFLOPs"))
    # The same student is marked in the other plot and in the table.
    assert "is-active" in (page.get_attribute(point(page, "beaten", plot=1), "class") or "")
    page.click(point(page, "beaten"))
    detail = page.inner_text("#detail")
    assert all(
        fact in detail for fact in ("student.width_multiplier", "0.75", "run-of-beaten", "30.0", "Learning curve")
    )
    page.keyboard.press("Escape")
    assert not page.is_visible("#detail")
    page.click("#students-table button.name >> text=small")
    assert "rank 3 on the front" in page.inner_text("#detail")


def test_keyboard_moves_from_point_to_point_and_opens_details(open_page: OpenPage, html: str) -> None:
    page = open_page(html)
    # One stop of the Tab key per plot, at first the choice.
    assert page.locator('#front-plots figure:nth-child(1) [tabindex="0"].point').count() == 1
    page.focus(point(page, "bent"))
    label = "document.activeElement.getAttribute('aria-label')"
    assert str(page.evaluate(label)).startswith("bent, trial, rank 2 on the front: miss rate 24.0 %, parameters 1.00 M")
    assert page.is_visible("#tip")
    names = []
    # By cost: small, bent and alone (of equal cost, the lower miss rate is lower on the plot), beaten, big, teacher.
    for key in ("Home", "ArrowRight", "ArrowRight", "ArrowRight", "ArrowRight", "ArrowRight", "ArrowRight"):
        page.keyboard.press(key)
        names.append(re.split("[,:]", str(page.evaluate(label)))[0])
    assert names == ["small", "alone", "bent", "beaten", "big", "teacher", "teacher"]
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    assert page.inner_text("#detail-title") == "big"
    page.keyboard.press("Escape")
    assert str(page.evaluate(label)).startswith("big")
    # Small plots are one element each.
    page.locator("#slices").scroll_into_view_if_needed()
    page.focus("#slices svg >> nth=0")
    page.keyboard.press("ArrowRight")
    assert "miss rate" in page.inner_text("#slices [aria-live] >> nth=0")


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


def test_tables_are_sorted_and_filtered(open_page: OpenPage, html: str) -> None:
    page = open_page(html)
    assert shown_trials(page) == ["teacher", "big", "bent", "small"]
    page.check("#table-controls input[value=counted]")
    assert shown_trials(page) == ["teacher", "big", "bent", "beaten", "small", "alone"]
    header = page.locator("#students-table thead th", has_text="params M")
    header.locator("button").click()
    assert header.get_attribute("aria-sort") == "ascending"
    # Equal ones keep their order.
    assert shown_trials(page) == ["small", "bent", "alone", "beaten", "big", "teacher"]
    header.locator("button").click()
    assert header.get_attribute("aria-sort") == "descending"
    assert shown_trials(page) == ["teacher", "big", "beaten", "bent", "alone", "small"]
    # Missing values are last in both directions.
    page.locator("#students-table thead th", has_text="gap").locator("button").click()
    assert shown_trials(page)[-1] == "teacher"
    page.check("#table-controls input[value=all]")
    assert "f0" in shown_trials(page)
    page.fill("#table-controls input[type=search]", "failed")
    assert shown_trials(page) == ["f0"]
    page.fill("#table-controls input[type=search]", "width_multiplier<=0.5 be")
    assert shown_trials(page) == ["bent"]
    page.fill("#table-controls input[type=search]", "")
    page.uncheck("#table-controls input >> nth=4")
    assert not page.locator("#students-table .setting >> nth=0").is_visible()
    page.locator("#limits input[type=text]").nth(0).fill("1.5")
    page.check("#table-controls input >> nth=5")
    assert set(shown_trials(page)) == {"teacher", "bent", "small", "alone"}


def test_ranges_of_parallel_coordinates_keep_students(open_page: OpenPage, html: str) -> None:
    page = open_page(html)
    page.locator("#parallel").scroll_into_view_if_needed()
    handle = '#parallel .handle[aria-label="lowest student.width_multiplier"]'
    page.focus(handle)
    for _ in range(12):
        page.keyboard.press("ArrowUp")
    # 12 steps of a twentieth: above 0.25 + 0.6 * 0.75 = 0.7.
    assert page.get_attribute(handle, "aria-valuetext") == "0.7"
    assert "2 of 5 students" in page.inner_text("#parallel")
    page.check("#table-controls input[value=counted]")
    page.check("#table-controls input >> nth=5")
    assert shown_trials(page) == ["teacher", "big", "beaten"]
    page.click("#parallel >> text=Remove ranges")
    assert len(shown_trials(page)) == 6
    # The pointer drags a range on an axis.
    zone = page.locator("#parallel .brush-zone").nth(0).bounding_box()
    assert zone is not None
    x = zone["x"] + zone["width"] / 2
    page.mouse.move(x, zone["y"] + 0.3 * zone["height"])
    page.mouse.down()
    page.mouse.move(x, zone["y"] + 0.05 * zone["height"], steps=3)
    page.mouse.up()
    assert "students are in all ranges" in page.inner_text("#parallel")
    assert len(shown_trials(page)) < 6


def test_data_of_each_plot_is_a_table(open_page: OpenPage, html: str) -> None:
    page = open_page(html)
    page.locator("#parallel").scroll_into_view_if_needed()
    page.locator("#details").scroll_into_view_if_needed()
    page.wait_for_selector("#hypervolume svg")
    plots = page.locator("figure svg")
    # Two fronts, two settings, parallel coordinates, learning curves, hypervolume over trials and epochs.
    assert plots.count() == 8
    for place in range(plots.count()):
        assert plots.nth(place).get_attribute("aria-label")
        assert plots.nth(place).locator("desc").text_content()
    page.click("#front-plots summary >> nth=0")
    # The table is created when it is opened, after the click.
    table = page.inner_text("#front-plots .data-table table >> nth=0")
    assert all(name in table for name in ("big", "bent", "small", "beaten", "alone"))
    assert page.locator("figure").count() == page.locator("figure > .data-table").count()


def test_front_in_latency_marks_its_own_members(open_page: OpenPage) -> None:
    # In miss rate and parameters, fast is dominated by light; in latency it is not; slow has no latency.
    trials = [
        record("light", 0.24, 1e6, 2e9, metrics={"latency_ms": 30.0}),
        record("fast", 0.26, 2e6, 3e9, metrics={"latency_ms": 10.0}),
        record("slow", 0.22, 4e6, 8e9),
    ]
    page = open_page(html_of(records(trials, TEACHER)))
    in_latency = page.locator("#front-plots figure:nth-child(3) .point")
    found = {
        (point.get_attribute("aria-label") or "").split(",")[0]: (
            "is-front" in (point.get_attribute("class") or ""),
            point.locator(".rank").all_text_contents(),
        )
        for point in in_latency.all()
    }
    assert found == {"light": (True, ["2"]), "fast": (True, [])}
    in_parameters = page.locator('#front-plots figure:nth-child(1) .point[data-index="1"]')
    assert "is-front" not in (in_parameters.get_attribute("class") or "")
    page.locator("#limits input[type=text]").nth(2).fill("20")
    assert verdict(page) == "Ship fast if its loss is acceptable"


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
    assert count(".wide", "getComputedStyle(node).overflowX !== 'visible'") == 0
    assert luminance(str(page.evaluate("getComputedStyle(document.body).backgroundColor"))) == 1
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


def test_students_trained_again_are_shown_at_their_means(open_page: OpenPage) -> None:
    def again(trial_id: str, mean: float) -> TrialRecord:
        trial = next(each for each in STUDY.trials if each.trial_id == trial_id)
        metrics = {"confirmed_seeds": 2.0, "confirmed_mr2_reasonable": mean, "confirmed_mr2_reasonable_std": 0.01}
        return dataclasses.replace(trial, metrics={**trial.metrics, **metrics})

    # With other seeds, big is worse than bent, and not on the front of the means: a line with one step, to bent.
    trained_again = {"big": 0.29, "bent": 0.27, "small": 0.36}
    trials = [again(t.trial_id, trained_again[t.trial_id]) if t.trial_id in trained_again else t for t in STUDY.trials]
    page = open_page(html_of(dataclasses.replace(STUDY, trials=tuple(trials))))
    assert page.locator("#front-plots figure:nth-child(1) .again > path:not(.again-line)").count() == 3
    line = page.get_attribute("#front-plots figure:nth-child(1) .again-line", "d") or ""
    # small, the corner, bent, the right end.
    assert line.count("L") + line.count("M") == 4
    page.hover(point(page, "bent"))
    assert "2 other seeds: 27.0 \N{PLUS-MINUS SIGN} 1.0 %" in page.inner_text("#tip")
    assert "27.0" in page.inner_text("#explanation")
    page.click("#front-plots figure:nth-child(1) .data-table summary")
    assert "27.0" in page.inner_text("#front-plots figure:nth-child(1) .data-table table")
    bullet = "getComputedStyle(document.querySelector('#explanation li'), '::before').content"
    assert page.evaluate(bullet) not in ("none", "normal")


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
