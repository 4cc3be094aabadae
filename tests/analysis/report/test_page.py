from __future__ import annotations

import dataclasses
import json
import re
from html.parser import HTMLParser
from typing import Any

from analysis.records.study_records import StudyRecords
from analysis.report.page import study as page
from analysis.report.page.html import as_script
from analysis.results import compute_results
from tests.analysis.report.large_studies import large_results, large_study
from tests.analysis.studies import TEACHER, record, records


class Page(HTMLParser):
    """Collects tags, addresses that a browser would load, headers of tables, and the text outside of scripts."""

    VOID = ("meta", "img", "br", "input", "meter")

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.scopes: list[str | None] = []
        self.metas: dict[str, str] = {}
        self.text: list[str] = []
        self.scripts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "th":
            self.scopes.append(values.get("scope"))
        if tag == "meta":
            self.metas[values.get("name") or values.get("http-equiv") or "charset"] = values.get("content") or ""
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)
        elif not self.open or self.open[-1] != "style":
            self.text.append(data)

    def words(self) -> str:
        return " ".join(" ".join(self.text).split())

    def data(self) -> Any:
        return json.loads(self.scripts[0])


def render(study: StudyRecords) -> tuple[Page, str]:
    html = page.render_html(study, compute_results(study))
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


def test_page_has_no_external_resources_and_forbids_them() -> None:
    parsed, html = render(study_with())
    # Links within the page.
    assert all(address.startswith("#") for address in parsed.addresses)
    assert not {"link", "iframe", "img", "object", "embed"} & set(parsed.tags)
    assert "@import" not in html
    policy = dict(rule.split(" ", 1) for rule in parsed.metas["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'none'"
    for kind in ("script-src", "style-src"):
        # One script and one style, by their hashes: nothing else that is inline runs.
        assert re.fullmatch(r"'sha256-[A-Za-z0-9+/]{43}='", policy[kind])


def test_names_from_mlflow_are_escaped() -> None:
    hostile = "</script><script>alert('x')</script></style>&\"|"
    plain, _ = render(study_with(name="plain", trial_id="plain"))
    parsed, html = render(study_with(name=hostile, trial_id=hostile))
    assert parsed.tags == plain.tags
    assert hostile not in html
    assert any(hostile in text for text in parsed.text)
    assert parsed.data()["trials"][0]["id"] == hostile
    assert html.count("<script") == 2


def test_data_of_scripts_has_no_character_of_html() -> None:
    text = as_script({"</script>": "<!--&\u2028"})
    assert not re.search("[<>&\u2028]", text)
    assert json.loads(text) == {"</script>": "<!--&\u2028"}


def test_page_has_recommendation_and_uncounted_trials() -> None:
    parsed, _ = render(study_with())
    text = parsed.words()
    assert "Ship t1 " in text
    assert "miss rate 25.0 % +5.0 points from the teacher" in text
    assert "parameters 2.00 M 3.0x fewer than the teacher" in text
    assert "Ship t1: 2.00 M parameters, 3.0x fewer than the teacher's 6.00 M" in parsed.metas["description"]
    assert "f0 failed 90.0 failed after 25 % of its epochs" in text
    assert "2 trials were trained for all their epochs; at least 8 are needed" in text
    assert "mlflow artifacts download --run-id run-of-t1" in text


def test_every_header_of_a_table_has_a_scope() -> None:
    study = large_study(12)
    parsed = Page()
    parsed.feed(page.render_html(study, large_results(study)))
    assert set(parsed.scopes) == {"col", "row"}


def test_table_has_all_trials_with_the_one_to_ship_marked() -> None:
    _, html = render(study_with())
    rows = re.findall(r"<tr data-index=.*?</tr>", html)
    # The teacher, students by miss rate, then those that are not counted; b0 has t0's costs and a higher miss rate.
    places = [
        re.search(r'data-index="(\w+)" data-front="(\d)" data-counted="(\d)"( class="chosen")?', row) for row in rows
    ]
    assert [place.groups() for place in places if place] == [
        ("teacher", "0", "0", None),
        ("1", "1", "1", ' class="chosen"'),
        ("0", "1", "1", None),
        ("2", "0", "1", None),
        ("3", "0", "0", None),
    ]
    cells = [re.sub("<[^>]*>", "", cell) for cell in re.findall(r"<t[hd].*?</t[hd]>", rows[1])]
    assert cells == ["t1", "1", "25.0", "+5.0", "2.00", "3.0x", "2.00", "5.0x", "trial", "finished", "4", "0.5", "y"]
    # Sorting uses the numbers, not their rounded texts.
    assert 'data-value="2000000"' in rows[1]


def test_data_of_scripts() -> None:
    parsed, _ = render(study_with())
    data = parsed.data()
    assert [measure["name"] for measure in data["measures"]] == ["mr2_reasonable", "num_params", "flops"]
    assert data["teacher"]["values"] == [0.2, 6_000_000, 10e9]
    assert data["chosen"] == 1
    assert [(pair["key"], pair["front"], pair["knee"]) for pair in data["pairs"]] == [
        ("params", [0, 1], None),
        ("flops", [0, 1], None),
    ]
    first, _, _, failed = data["trials"]
    assert (first["id"], first["rank"], first["values"]) == ("t0", 2, [0.3, 1_000_000, 1e9])
    assert (first["settings"], data["settings"]) == (["x"], [{"name": "a.name", "short": "name"}])
    assert (failed["isCounted"], failed["reason"]) == (False, "failed after 25 % of its epochs")


def test_page_of_study_without_student_near_its_teacher() -> None:
    teacher = record("teacher", 0.05, 6e6, 10e9, role="teacher")
    parsed, _ = render(records(study_with().trials, teacher))
    text = parsed.words()
    assert "Nothing here is ready to ship: the best student, t1," in text
    assert "training.total_epochs" in text
    assert "Ship t1" not in text
    assert "the student to ship" not in text
    # The rule's limits, from hkd.findings.
    assert "up to 15 points" in text


def test_page_of_study_with_single_trial() -> None:
    parsed, _ = render(records([record("only", 0.3, 1e6, 1e9)]))
    text = parsed.words()
    assert "only student on the front" in text
    assert "None of the counted trials is a baseline." in text
    assert "None: every trial was trained for all its epochs." in text
    assert parsed.data()["teacher"] is None


def test_commands_are_quoted_for_shell() -> None:
    parsed, _ = render(study_with(name="two words; rm -r x"))
    words = parsed.words()
    for command in ("pareto.py", "hkd export"):
        assert f"{command} --study 'two words; rm -r x'" in words


def test_page_follows_objectives_of_study() -> None:
    metrics = {"mr2_all": 0.5}
    study = records([record("t", 0.9999, 1e6, 1e9, metrics=metrics)], objectives=("mr2_all", "num_params"))
    parsed, _ = render(study)
    text = parsed.words()
    assert "dominates in miss rate (all) and parameters" in text
    assert "pedestrians: all." in text
    assert [pair["key"] for pair in parsed.data()["pairs"]] == ["params"]
    # Not an objective, but known of every student: shown, and part of no front.
    assert [measure["name"] for measure in parsed.data()["measures"]] == ["mr2_all", "num_params", "flops"]
    # Not the miss rate of another subset.
    assert "100.0" not in text.replace("miss rate (all) of 100.0 %", "")


def test_page_without_costs_has_neither_plots_nor_limits() -> None:
    study = records([record("t", 0.3, 1e6, 1e9)], TEACHER, objectives=("mr2_reasonable",))
    parsed, _ = render(study)
    text = parsed.words()
    assert parsed.data()["pairs"] == []
    assert "no knee" in text
    assert "Ship t if its loss is acceptable" in text
    assert "form" not in parsed.tags


def test_page_of_redacted_store_asks_for_credentials() -> None:
    study = dataclasses.replace(study_with(), tracking_uri="http://***@host")
    parsed, _ = render(study)
    assert "insert the credentials" in parsed.words()


def test_page_of_a_thousand_trials_is_small() -> None:
    study = large_study(1000)
    html = page.render_html(study, large_results(study))
    assert len(html.encode()) < 8e6
