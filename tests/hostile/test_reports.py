"""Names and texts in an MLflow store that others write to, in every file of a report."""

from __future__ import annotations

import csv
import io
import json
from html.parser import HTMLParser

import pandas as pd
import pytest
from markdown_it import MarkdownIt

from analysis import plots
from analysis.records.study_records import ParameterValue, StudyRecords
from analysis.report import sentences, tables
from analysis.report.cells import markdown_cell, spreadsheet_cell
from analysis.report.markdown import render_markdown
from analysis.report.page import study as page
from analysis.report.summary import summary
from analysis.results import compute_results
from hkd.text.escaping import printable
from tests.analysis.studies import TEACHER, record, records
from tests.hostile.texts import TEXTS, is_harmless_on_terminal

EACH_TEXT = pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
FORMULA = tuple("=+-@\uff0b\uff0d\uff1d\uff20")


def study_with(text: str) -> StudyRecords:
    """A study with the text as name of study, trials, baseline, settings and their values, as error and as note."""
    # A setting in which trials differ is shown with the front.
    trials = [
        record(text, 0.3, 1e6, 1e9, params={text: text, "common": text}),
        record("t1", 0.25, 2e6, 2e9, params={text: "other", "common": text}),
        record(f"b{text}", 0.5, 1e6, 1e9, role="baseline", baseline=text),
        record("f0", 0.9, 1e6, 1e9, status="failed", not_counted_because=f"failed: {text}"),
    ]
    study = records(trials, TEACHER, study=text)
    return StudyRecords(**{**study.__dict__, "notes": (text,), "settings": {text: text}, "tags": {"tag": text}})


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


def parsed_page(text: str) -> Tags:
    study = study_with(text)
    parsed = Tags()
    parsed.feed(page.render_html(study, compute_results(study)))
    parsed.close()
    return parsed


@EACH_TEXT
def test_html_has_the_text_and_nothing_of_it_as_markup(text: str) -> None:
    parsed, plain = parsed_page(text), parsed_page("plain")
    assert parsed.seen == plain.seen
    assert parsed.attributes == plain.attributes
    assert is_harmless_on_terminal(parsed.text)
    assert printable(text) in parsed.text


@EACH_TEXT
def test_markdown_table_shows_the_text(text: str) -> None:
    study = study_with(text)
    table = tables.front_table(compute_results(study))
    tokens = MarkdownIt("commonmark").enable("table").enable("strikethrough").parse(table.as_markdown())
    assert {token.type for token in tokens if token.type.startswith(("table_", "html", "fence", "paragraph"))} == {
        "table_open",
        "table_close",
    }
    inline = [token for token in tokens if token.type == "inline"]
    # A header, the teacher and two members of the front.
    assert len(inline) == 4 * len(table.header)
    for token in inline:
        assert {child.type for child in token.children or []} <= {"text", "text_special"}
    shown = ["".join(child.content for child in token.children or []) for token in inline]
    # Cells of a Markdown table have no blanks at their ends.
    assert shown == [cell.strip() for row in (table.header, *table.rows) for cell in row]
    # GitHub makes links of addresses without brackets, which this parser does not.
    assert not any(start in table.as_markdown() for start in ("http://", "https://", "www."))
    assert is_harmless_on_terminal(table.as_markdown())


@EACH_TEXT
def test_markdown_file_shows_the_text_in_its_sentences(text: str) -> None:
    # The best trial, which the headline names, and an undistilled baseline that passes the teacher.
    params = {"distillation.logits.weight": 0.0}
    alone = record(f"b{text}", 0.1, 1e6, 1e9, role="baseline", baseline="undistilled", params=params)
    rival = record(f"r{text}", 0.11, 1e6, 1e9, params={"distillation.logits.weight": 1.0})
    study = records([alone, rival], TEACHER, study=text)
    written = render_markdown(compute_results(study))
    tokens = MarkdownIt("commonmark").enable("table").enable("strikethrough").parse(written)
    blocks = {token.type for token in tokens if token.type.endswith("_open") and token.level == 0}
    assert blocks == {"paragraph_open", "table_open"}
    inline = [token for token in tokens if token.type == "inline" and token.level == 1]
    shown = ["".join(child.content for child in token.children or []) for token in inline]
    results = compute_results(study)
    assert shown == [printable(each) for each in (sentences.headline(results), *sentences.advice(results))]
    assert len(shown) == 4
    assert not any(start in written for start in ("http://", "https://", "www."))
    assert is_harmless_on_terminal(written)


@EACH_TEXT
@pytest.mark.parametrize("delimiter", [",", ";"])
def test_no_cell_of_csv_is_a_formula(text: str, delimiter: str) -> None:
    study = study_with(text)
    written = tables.trials_table(study, compute_results(study)).to_csv(index=False)
    rows = list(csv.reader(io.StringIO(written), delimiter=delimiter))
    assert len(rows) == 6  # header, teacher, four trials
    for cell in (cell for row in rows for cell in row):
        assert not cell.lstrip(" \t\r\n\"'").startswith(FORMULA) or cell.lstrip(' "').startswith("'") or is_number(cell)
    assert is_harmless_on_terminal(written)


def is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def test_numbers_of_csv_stay_numbers_and_text_can_be_read_back() -> None:
    params: dict[str, ParameterValue] = {"negative": -0.5, "integer": -3, "signed": "+x", "plain": "a-b"}
    study = records([record("-t", 0.3, 1e6, 1e9, params=params), record("t1", 0.2, 2e6, 2e9)])
    written = tables.trials_table(study, compute_results(study)).to_csv(index=False)
    table = pd.read_csv(io.StringIO(written))
    assert (table["negative"][0], table["integer"][0], table["plain"][0]) == (-0.5, -3, "a-b")
    assert (table["trial_id"][0], table["signed"][0]) == ("'-t", "'+x")
    assert list(table["trial_id"].str.removeprefix("'")) == ["-t", "t1"]


def test_parameter_does_not_replace_a_column_of_the_same_name() -> None:
    study = records([record("t0", 0.3, 1e6, 1e9, params={"trial_id": "other", "status": "other"})])
    table = tables.trials_table(study, compute_results(study))
    assert (table["trial_id"][0], table["params.trial_id"][0]) == ("t0", "other")
    assert table["status"][0] == "finished"


@EACH_TEXT
def test_terminal_of_the_report_is_harmless(text: str) -> None:
    study = study_with(text)
    results = compute_results(study)
    table = tables.front_table(results, with_settings=False).as_text()
    # A line each: header, teacher, two members of the front.
    assert len(table.split("\n")) == 4
    assert is_harmless_on_terminal(table)
    assert is_harmless_on_terminal(printable(sentences.headline(results)))


@EACH_TEXT
def test_summary_is_ascii_json_with_the_text(text: str) -> None:
    study = study_with(text)
    written = json.dumps(summary(study, compute_results(study)), allow_nan=False)
    assert written.isascii()
    assert json.loads(written)["study"] == text


@EACH_TEXT
def test_plot_is_drawn_with_the_text_in_its_legend(text: str) -> None:
    results = compute_results(study_with(text))
    drawn = plots._as_text(text, 28)
    assert is_harmless_on_terminal(drawn)
    # matplotlib parses text with an even number of unescaped dollar signs, and leaves labels with _ out of legends.
    assert drawn.count("$") == drawn.count(r"\$")
    assert not drawn.startswith("_")
    if "$" in text or text.startswith("_"):
        assert plots.draw_front(results, results.front.pairs[0]).png.startswith(b"\x89PNG")


def test_cells_of_other_types_stay() -> None:
    for value in (None, 1, -1, -0.5, True):
        assert spreadsheet_cell(value) is value
    assert markdown_cell("student.width_multiplier=0.5, a-b (c)") == "student.width_multiplier=0.5, a-b (c)"
