"""Sorting, filters, and ranges of the parallel coordinates."""

from __future__ import annotations

import pytest

from tests.analysis.report.browser.conftest import OpenPage
from tests.analysis.report.browser.small_study import shown_trials

pytestmark = pytest.mark.thorough


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
