"""Chromium for the tests of the page."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.analysis.report.browser.small_study import STUDY, html_of

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
"""Of the program, on Debian, Ubuntu and elsewhere."""
# A busy machine starts processes slowly.
START_TIMEOUT_MS = 120_000
TIMEOUT_MS = 30_000

OpenPage = Callable[..., "Page"]


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    """One Chromium for the tests of this folder."""
    program = next((found for name in NAMES if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip(f"no Chromium on PATH ({', '.join(NAMES)}); Debian and Ubuntu: apt install chromium")
    # Here, because modules that use no browser are collected without it.
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, timeout=START_TIMEOUT_MS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium: Browser, tmp_path: Path) -> Iterator[OpenPage]:
    """Opens HTML from a file, as a user does; fails the test if the page logs anything, fails, or requests anything."""
    seen: list[str] = []
    contexts: list[BrowserContext] = []

    def open_page(html: str, fragment: str = "", **options: Any) -> Page:
        path = tmp_path / f"report{len(contexts)}.html"
        path.write_text(html, encoding="utf-8")
        context = chromium.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        contexts.append(context)
        context.set_default_timeout(TIMEOUT_MS)
        page = context.new_page()
        page.on("console", lambda message: seen.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: seen.append(f"error: {error}"))
        page.on("dialog", lambda dialog: seen.append(f"dialog: {dialog.message}"))
        page.on(
            "request",
            lambda request: None if request.url.startswith(path.as_uri()) else seen.append(f"request: {request.url}"),
        )
        page.goto(path.as_uri() + fragment)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert seen == []


@pytest.fixture(scope="package")
def html() -> str:
    """The page of the small study."""
    return html_of(STUDY)
