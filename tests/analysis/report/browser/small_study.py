"""A study of six trials, and where its page shows them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from analysis.records.study_records import StudyRecords
from analysis.report.page.study import render_html
from analysis.results import compute_results
from tests.analysis.studies import TEACHER, record, records

if TYPE_CHECKING:
    from playwright.sync_api import Page

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


def verdict(page: Page) -> str:
    return page.inner_text("#verdict")


def shown_trials(page: Page) -> list[str]:
    rows = page.locator("#students-table tbody tr:not([hidden]) th")
    return [text.strip() for text in rows.all_inner_texts()]


def point(page: Page, name: str, plot: int = 0) -> str:
    """Selector of a student's point in a front plot."""
    index = [trial.trial_id for trial in STUDY.trials].index(name)
    return f'#front-plots figure:nth-child({plot + 1}) .point[data-index="{index}"]'
