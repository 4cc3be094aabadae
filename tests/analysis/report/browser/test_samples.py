"""Sample detections in a trial's details."""

from __future__ import annotations

import pytest

from analysis.pictures.samples import NO_SAMPLES, Samples, samples_of
from analysis.report.page.study import render_html
from analysis.results import compute_results
from tests.analysis.pictures.street import STUDENT, TEACHER, detected, images_of, write_images
from tests.analysis.report.browser.conftest import OpenPage
from tests.analysis.report.browser.small_study import STUDY, point

pytestmark = pytest.mark.thorough


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Samples:
    """Of the student bent, and of the teacher."""
    images = images_of(write_images(tmp_path_factory.mktemp("images")))
    truth = images.annotations.ground_truth()
    front = compute_results(STUDY).front
    stored = {"run-of-bent": detected(truth, STUDENT), "run-of-teacher": detected(truth, TEACHER)}
    return samples_of(front, [front.student("bent")], stored, images)


def test_detail_shows_images_with_detections_side_by_side(open_page: OpenPage, samples: Samples) -> None:
    page = open_page(render_html(STUDY, compute_results(STUDY), samples=samples))
    page.click(point(page, "bent"))
    assert page.locator("#detail .sample").count() == 4
    first = page.locator("#detail .sample").nth(0)
    assert "01.jpg, difference 2" in first.inner_text()
    buttons = first.get_by_role("button")
    assert [button.get_attribute("aria-label") for button in buttons.all()] == [
        "Ground truth, 01.jpg: 2 people",
        "Teacher, 01.jpg: 2 of 2 found, 1 false",
        "bent, 01.jpg: 1 of 2 found, 0 false",
    ]
    boxes = "nodes => nodes.map(node => node.getAttribute('class').replace('box-', ''))"
    kinds = [view.locator("rect:not(.box-outline)").evaluate_all(boxes) for view in first.locator(".sample-view").all()]
    # Detections of lower scores are drawn first; the student misses B.
    assert kinds == [["person", "person"], ["false", "found", "found"], ["missed", "found"]]
    # By the line, not by the colour alone.
    dashes = page.evaluate(
        """() => Object.fromEntries(["found", "false", "missed"].map((kind) =>
            [kind, getComputedStyle(document.querySelector(`#detail rect.box-${kind}`)).strokeDasharray]))"""
    )
    assert len(set(dashes.values())) == 3
    # Decoded: the page's policy admits it.
    decoded = "href => { const found = new Image(); found.src = href; return found.decode().then(() => found.width); }"
    assert page.evaluate(decoded, page.locator("#detail image").nth(0).get_attribute("href")) == 160
    # Side by side, and one of them across the panel once it is selected.
    lefts = [view.bounding_box() for view in first.locator(".sample-view").all()]
    assert all(each is not None for each in lefts)
    assert len({round(each["y"]) for each in lefts if each}) == 1
    narrow = lefts[2]["width"] if lefts[2] else 0
    buttons.nth(2).press("Enter")
    assert buttons.nth(2).get_attribute("aria-pressed") == "true"
    wide = first.locator(".sample-view").nth(2).bounding_box()
    assert wide is not None
    assert wide["width"] > 2 * narrow


def test_trial_without_images_has_none_and_the_page_says_why(open_page: OpenPage, samples: Samples) -> None:
    page = open_page(render_html(STUDY, compute_results(STUDY), samples=samples))
    page.click(point(page, "big"))
    assert page.locator("#detail .sample").count() == 0
    assert "4 validation images of" in page.inner_text("#samples-note")
    page = open_page(render_html(STUDY, compute_results(STUDY), samples=NO_SAMPLES))
    assert "No pictures: they were left out." in page.inner_text("#samples-note")


def test_images_fit_a_phone(open_page: OpenPage, samples: Samples) -> None:
    page = open_page(
        render_html(STUDY, compute_results(STUDY), samples=samples), viewport={"width": 390, "height": 844}
    )
    page.evaluate("document.getElementById('front-plots').scrollIntoView()")
    page.click(point(page, "bent"))
    assert page.evaluate("document.getElementById('detail').scrollWidth") <= 390
    widths = [view.bounding_box() for view in page.locator("#detail .sample-view").all()]
    # One below the other.
    assert all(each is not None and each["width"] > 300 for each in widths)
