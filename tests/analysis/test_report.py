from __future__ import annotations

import json
import re
from html.parser import HTMLParser

from analysis import report
from analysis.front import FrontAnalysis, analyse
from analysis.records import StudyRecords
from tests.analysis.studies import TEACHER, record, records

PNG = b"\x89PNG not really"


class Page(HTMLParser):
    """Collects what a browser would run or load, and the text of each cell."""

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
    html = report.render_html(study, analyse(study), params_png=PNG, flops_png=PNG)
    page = Page()
    page.feed(html)
    assert page.open == []
    return page, html


def study_with(name: str = "demo", trial_id: str = "t0") -> StudyRecords:
    trials = [
        record(trial_id, 0.3, 1e6, 1e9, params={"a.name": "x"}),
        record("t1", 0.25, 2e6, 2e9, params={"a.name": "y"}),
        record("b0", 0.5, 1e6, 1e9, role="baseline", baseline="undistilled"),
        record("f0", 0.9, 1e6, 1e9, status="failed", not_counted_because="failed after 25 % of its epochs"),
    ]
    return records(trials, TEACHER, study=name)


def test_the_page_needs_nothing_from_elsewhere() -> None:
    page, html = render(study_with())
    assert page.addresses
    assert all(address.startswith("data:image/png;base64,") for address in page.addresses)
    assert "url(" not in html
    assert not {"script", "link", "iframe"} & set(page.tags)


def test_names_from_mlflow_are_escaped() -> None:
    hostile = "<script>alert('x')</script>&\"|"
    page, html = render(study_with(name=hostile, trial_id=hostile))
    assert "script" not in page.tags
    assert hostile not in html
    assert any(hostile in text for text in page.text)


def test_the_page_says_what_was_asked_and_what_was_left_out() -> None:
    page, _ = render(study_with())
    text = " ".join(page.text)
    assert "Ship t1: 2.00 M parameters, 3.0x fewer than the teacher's 6.00 M" in text
    assert "f0 failed 90.0 failed after 25 % of its epochs" in text
    assert "Not given: only 2 of the 8 trials that it takes were trained to their end." in text
    assert "mlflow artifacts download --run-id run-of-t1" in text


def test_the_page_of_a_study_with_nothing_but_one_trial() -> None:
    page, _ = render(records([record("only", 0.3, 1e6, 1e9)]))
    text = " ".join(page.text)
    assert "It alone makes the front" in text
    assert "No baseline was trained to its end." in text
    assert "None: every trial was trained to its end." in text


def test_commands_quote_what_the_shell_would_take_apart() -> None:
    page, _ = render(study_with(name="two words; rm -r x"))
    assert "--study 'two words; rm -r x'" in " ".join(page.text)


def test_summary_is_plain_json_with_all_that_the_report_says() -> None:
    study = study_with()
    analysis = analyse(study)
    summary = report.summary(study, analysis)
    read = json.loads(json.dumps(summary, allow_nan=False))
    assert read["schema_version"] == 1
    assert [student["trial_id"] for student in read["front"]] == ["t1", "t0"]
    assert read["front"][0]["settings"] == {"a.name": "y"}
    assert read["recommendation"] == {"trial_id": "t1", "reason": "lowest miss rate"}
    assert read["teacher"]["num_params"] == 6_000_000
    assert read["knee"]["params"] is None
    assert read["hypervolume"]["fronts"][0]["reference_point"] == {"mr2_reasonable": 1.0, "num_params": 6e6}
    assert read["hypervolume"]["fronts"][0]["value"] == analysis.hypervolumes[0].value
    assert read["baselines"][0]["comparison"]["best_distilled"] == "t0"
    assert read["not_counted"] == [{"trial_id": "f0", "status": "failed", "because": "failed after 25 % of its epochs"}]
    assert read["count_by_status"] == {"failed": 1, "finished": 3}
    assert re.fullmatch(r"\d+\.\d+.*", read["versions"]["mlflow"])


def test_the_same_records_give_the_same_summary() -> None:
    def summarise(study: StudyRecords) -> FrontAnalysis | str:
        return json.dumps(report.summary(study, analyse(study)))

    assert summarise(study_with()) == summarise(study_with())
