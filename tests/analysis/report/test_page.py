from __future__ import annotations

import dataclasses
import re
from html.parser import HTMLParser

from analysis.records.study_records import StudyRecords
from analysis.report import page
from analysis.results import compute_results
from tests.analysis.studies import TEACHER, record, records

PNG = b"\x89PNG not really"


class Page(HTMLParser):
    """Collects the tags, the addresses that a browser would load, and the text of each element."""

    VOID = ("meta", "img", "br")

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def render(study: StudyRecords) -> tuple[Page, str]:
    results = compute_results(study)
    html = page.render_html(study, results, {pair.key: PNG for pair in results.front.pairs})
    parsed = Page()
    parsed.feed(html)
    assert parsed.open == []
    return parsed, html


def study_with(name: str = "demo", trial_id: str = "t0") -> StudyRecords:
    trials = [
        record(trial_id, 0.3, 1e6, 1e9, params={"a.name": "x"}),
        record("t1", 0.25, 2e6, 2e9, params={"a.name": "y"}),
        record("b0", 0.5, 1e6, 1e9, role="baseline", baseline="undistilled"),
        record("f0", 0.9, 1e6, 1e9, status="failed", not_counted_because="failed after 25 % of its epochs"),
    ]
    return records(trials, TEACHER, study=name)


def test_page_has_no_external_resources() -> None:
    parsed, html = render(study_with())
    assert parsed.addresses
    assert all(address.startswith("data:image/png;base64,") for address in parsed.addresses)
    assert "url(" not in html
    assert not {"script", "link", "iframe"} & set(parsed.tags)


def test_names_from_mlflow_are_escaped() -> None:
    hostile = "<script>alert('x')</script>&\"|"
    parsed, html = render(study_with(name=hostile, trial_id=hostile))
    assert "script" not in parsed.tags
    assert hostile not in html
    assert any(hostile in text for text in parsed.text)


def test_page_has_recommendation_and_uncounted_trials() -> None:
    parsed, _ = render(study_with())
    text = " ".join(parsed.text)
    assert "Ship t1: 2.00 M parameters, 3.0x fewer than the teacher's 6.00 M" in text
    assert "f0 failed 90.0 failed after 25 % of its epochs" in text
    assert "2 trials were trained for all their epochs; at least 8 are needed" in text
    assert "mlflow artifacts download --run-id run-of-t1" in text


def test_student_to_ship_is_highlighted_and_numbers_are_aligned() -> None:
    _, html = render(study_with())
    (row,) = re.findall(r'<tr class="marked">(.*?)</tr>', html)
    assert row.startswith('<td>1</td><td>t1</td><td class="number">25.0</td><td class="number">+5.0</td>')
    assert row.endswith("<td>name=y</td>")


def test_page_of_study_without_student_near_its_teacher() -> None:
    teacher = record("teacher", 0.05, 6e6, 10e9, role="teacher")
    parsed, html = render(records(study_with().trials, teacher))
    text = " ".join(parsed.text)
    assert "Nothing here is ready to ship: the best student, t1," in text
    assert "training.total_epochs" in text
    assert "Ship t1" not in text
    assert "one to ship" not in text
    assert "the best student is highlighted" in text
    # The rule's limits, from hkd.findings.
    assert "up to 15 points" in text
    assert '<tr class="marked"><td>1</td><td>t1</td>' in html


def test_page_of_study_with_single_trial() -> None:
    parsed, _ = render(records([record("only", 0.3, 1e6, 1e9)]))
    text = " ".join(parsed.text)
    assert "only student on the front" in text
    assert "None of the counted trials is a baseline." in text
    assert "None: every trial was trained for all its epochs." in text


def test_commands_are_quoted_for_shell() -> None:
    parsed, _ = render(study_with(name="two words; rm -r x"))
    assert "--study 'two words; rm -r x'" in " ".join(parsed.text)


def test_page_follows_objectives_of_study() -> None:
    metrics = {"mr2_all": 0.5}
    study = records([record("t", 0.9999, 1e6, 1e9, metrics=metrics)], objectives=("mr2_all", "num_params"))
    parsed, _ = render(study)
    text = " ".join(parsed.text)
    assert "dominates in miss rate (all) and parameters" in text
    assert "pedestrians: all." in text
    assert len(parsed.addresses) == 1
    # Neither the miss rate of another subset nor FLOPs, which are no objectives, appear.
    assert "100.0 %" not in text.replace("miss rate (all) of 100.0 %", "")
    assert "FLOPs" not in text


def test_page_without_costs_has_no_figures() -> None:
    study = records([record("t", 0.3, 1e6, 1e9)], TEACHER, objectives=("mr2_reasonable",))
    parsed, _ = render(study)
    text = " ".join(parsed.text)
    assert parsed.addresses == []
    assert "no knee" in text
    assert "Ship t if its loss is acceptable, at a miss rate of 30.0 %" in text


def test_page_of_redacted_store_asks_for_credentials() -> None:
    study = dataclasses.replace(study_with(), tracking_uri="http://***@host")
    parsed, _ = render(study)
    assert "insert the credentials" in " ".join(parsed.text)
