"""The report of a study as one self-contained HTML page."""

from __future__ import annotations

import base64
import html
import shlex
from collections.abc import Mapping, Sequence

from analysis.front import REFERENCE_RULE, PairFront
from analysis.geometry import KNEE_RULE
from analysis.objectives import listed_nouns, miss_rates
from analysis.records.study_records import StudyRecords
from analysis.report import sentences, tables
from analysis.report.summary import versions
from analysis.report.tables import Column, Table, make_table
from analysis.results import StudyResults
from hkd import metric_names as names
from hkd.findings import READINESS_RULE
from hkd.text.escaping import printable
from hkd.text.redaction import REDACTED, is_redacted

_CAUTION = (
    "Each trial is one training with one seed, evaluated on the validation images that also guided the search: "
    "differences of a few points may be chance, and the best of many trials appears better than it is."
)
_STYLE = """
body { font: 16px/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; color: #1b1b1b; background: #fff;
       max-width: 1120px; margin: 2rem auto; padding: 0 1.25rem; }
h1 { font-size: 1.6rem; margin-bottom: .2rem; } h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem; }
p.sub, p.note, figcaption { color: #555; font-size: .92rem; }
section.answer { border-left: 5px solid #0072b2; background: #f2f7fb; padding: .8rem 1.1rem; margin: 1.2rem 0; }
section.answer p:first-child { font-size: 1.15rem; font-weight: 600; margin-top: 0; }
section.answer p { margin: .3rem 0; }
div.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .3rem .7rem; border-bottom: 1px solid #e1e1e1; vertical-align: top; }
th { border-bottom: 2px solid #999; } .number { text-align: right; white-space: nowrap; }
tr.marked td { background: #fdf0e6; }
div.figures { display: flex; flex-wrap: wrap; gap: 1rem; } figure { margin: 0; flex: 1 1 480px; }
figure img { width: 100%; height: auto; }
pre, code { font: .88rem/1.5 ui-monospace, "DejaVu Sans Mono", monospace; }
pre { background: #f5f5f5; padding: .7rem 1rem; overflow-x: auto; }
"""


def render_html(records: StudyRecords, results: StudyResults, pictures: Mapping[str, bytes]) -> str:
    """The report without external resources; all names and values are escaped.

    Args:
        records: What the results were computed from.
        results: Of the same study.
        pictures: PNG of each pair's front, by the pair's key.
    """
    title = f"Study {results.study}: which student to ship"
    parts = [
        f"<h1>{_escaped(title)}</h1>",
        f'<p class="sub">{_escaped(sentences.counts(results))}.</p>',
        _answer(results),
        *_figures(results, pictures),
        *_front_section(results),
        *_baseline_section(results),
        *_measures_section(results),
        *_importances_section(results),
        *_not_counted_section(records),
        *_study_section(records),
        *_reproduce_section(records, results),
    ]
    head = f'<meta charset="utf-8"><title>{_escaped(title)}</title><style>{_STYLE}</style>'
    viewport = '<meta name="viewport" content="width=device-width, initial-scale=1">'
    body = "\n".join(parts)
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}{viewport}</head><body>\n{body}\n</body></html>\n'


def _escaped(text: str) -> str:
    """Text for HTML; characters that are not visible, as those that reverse its direction, are escaped as in Python."""
    return html.escape(printable(text))


def _answer(results: StudyResults) -> str:
    texts = (sentences.headline(results), *sentences.reasons(results))
    paragraphs = "".join(f"<p>{_escaped(text)}</p>" for text in texts)
    note = _CAUTION if results.front.teacher is None else f"{READINESS_RULE[0].upper()}{READINESS_RULE[1:]}. {_CAUTION}"
    return f'<section class="answer">{paragraphs}<p class="note">{_escaped(note)}</p></section>'


def _figures(results: StudyResults, pictures: Mapping[str, bytes]) -> list[str]:
    figures = [_figure(pictures[pair.key], pair) for pair in results.front.pairs]
    return ['<div class="figures">', *figures, "</div>"] if figures else []


def _figure(png: bytes, pair: PairFront) -> str:
    data = base64.b64encode(png).decode("ascii")
    caption = _escaped(f"{pair.miss_rate.noun.capitalize()} against {pair.cost.noun} of the deployed student.")
    image = f'<img alt="{caption}" src="data:image/png;base64,{data}">'
    return f"<figure>{image}<figcaption>{caption}</figcaption></figure>"


def _html_table(table: Table) -> str:
    classes = [' class="number"' if is_number else "" for is_number in table.is_number]

    def cells(row: Sequence[str], tag: str) -> str:
        return "".join(f"<{tag}{of}>{_escaped(cell)}</{tag}>" for cell, of in zip(row, classes, strict=True))

    rows = [
        f'<tr class="marked">{cells(row, "td")}</tr>' if index == table.marked_row else f"<tr>{cells(row, 'td')}</tr>"
        for index, row in enumerate(table.rows)
    ]
    return f'<div class="wide"><table><tr>{cells(table.header, "th")}</tr>{"".join(rows)}</table></div>'


def _paragraph(text: str) -> str:
    return f'<p class="note">{_escaped(text)}</p>'


def _front_section(results: StudyResults) -> list[str]:
    front = results.front
    subsets = ", ".join(each.subset for each in miss_rates(front.objectives))
    explanation = (
        f"The students that no other student dominates in {listed_nouns(front.objectives)}, lowest miss rate first; "
        f"{_chosen(results)} is highlighted. Miss rates are log-average miss rates (MR^-2); pedestrians: {subsets}. "
        "Gap: percentage points above the teacher. "
    )
    explanation += "Fewer: the teacher's cost divided by the student's. " if front.costs else ""
    return [
        "<h2>The front</h2>",
        _html_table(tables.front_table(results)),
        _paragraph(explanation + "Baselines are candidates too."),
    ]


def _baseline_section(results: StudyResults) -> list[str]:
    if not results.baselines:
        return ["<h2>Baselines</h2>", _paragraph("None of the counted trials is a baseline.")]
    explanation = (
        "Difference: miss rate of that student minus the baseline's in percentage points; negative where the student "
        "is better. That student is the best of many trials, the baseline is a single one. The fair measure of "
        "distillation is the default-weights baseline against the undistilled one, which differ only in the "
        "distillation weights."
    )
    return [
        "<h2>Baselines against distilled students</h2>",
        _html_table(tables.baseline_table(results)),
        _paragraph(explanation),
    ]


def _measures_section(results: StudyResults) -> list[str]:
    parts = ["<h2>Knee and hypervolume</h2>", f"<p>{_escaped(sentences.knees(results))}</p>"]
    if results.front.pairs:
        parts.append(
            _paragraph(f"The knee is {KNEE_RULE}. Straight fronts and those of fewer than three points have no knee.")
        )
    explanation = (
        "Hypervolume: share of the box between zero and the reference point that the front dominates, from 0 to 1; "
        f"higher is better. The reference point is {REFERENCE_RULE}. Points beyond it add nothing."
    )
    return [*parts, _html_table(tables.hypervolume_table(results)), _paragraph(explanation)]


def _importances_section(results: StudyResults) -> list[str]:
    found = results.importances
    heading = "<h2>Which settings the miss rate depends on</h2>"
    if found.absent_because is not None:
        return [heading, _paragraph(f"Not available: {found.absent_because}.")]
    columns: list[Column[tuple[str, float]]] = [
        Column("setting", lambda item: item[0]),
        Column("share", lambda item: f"{item[1]:.2f}", is_number=True),
    ]
    explanation = (
        f"Share of the variation of the {results.front.miss_rate.noun} that each setting explains alone (fANOVA over "
        f"{found.num_trials} trials, without baselines). With few trials this is only a hint."
    )
    return [heading, _html_table(make_table(columns, found.values.items())), _paragraph(explanation)]


def _not_counted_section(records: StudyRecords) -> list[str]:
    parts = ["<h2>Trials that are not counted</h2>"]
    if records.not_counted:
        parts.append(_html_table(tables.not_counted_table(records)))
    else:
        parts.append(_paragraph("None: every trial was trained for all its epochs."))
    return parts


def _study_section(records: StudyRecords) -> list[str]:
    parts = ["<h2>The study</h2>", *(_paragraph(note) for note in records.notes)]
    described = {**records.settings, **records.tags}
    if described:
        parts.append(_html_table(_two_columns("study setting", described)))
    common = _common_parameters(records)
    if common:
        table = _html_table(_two_columns("setting", common))
        parts.append(f"<details><summary>Settings that all trials share: {len(common)}</summary>{table}</details>")
    return parts


def _reproduce_section(records: StudyRecords, results: StudyResults) -> list[str]:
    uri, study = shlex.quote(records.tracking_uri), shlex.quote(results.study)
    run_id = results.front.student(results.recommendation.trial_id).run_id
    download = f"mlflow artifacts download --run-id {run_id} --dst-path chosen"
    is_server = records.tracking_uri.startswith(("http://", "https://"))
    commands = (
        *([f"# {REDACTED}: insert the credentials"] if is_redacted(records.tracking_uri) else []),
        f"# the weights of {_chosen(results)}, and the configuration that trains it",
        f"export MLFLOW_TRACKING_URI={uri}",
        f"{download} --artifact-path {names.ARTIFACT_WEIGHTS}",
        f"{download} --artifact-path {names.ARTIFACT_CONFIG}",
        f"hkd train chosen/{names.ARTIFACT_CONFIG}",
        "# this report",
        f"python analysis/pareto.py --study {study}",
        "# all runs",
        # As an argument, credentials would be in the list of processes.
        f"open {uri} in a browser" if is_server else 'MLFLOW_BACKEND_STORE_URI="$MLFLOW_TRACKING_URI" mlflow ui',
    )
    listed = ", ".join(f"{name} {version}" for name, version in versions().items())
    return [
        "<h2>How to reproduce</h2>",
        f"<pre>{chr(10).join(map(_escaped, commands))}</pre>",
        _paragraph(f"Computed with {listed}."),
    ]


def _chosen(results: StudyResults) -> str:
    return "the best student" if results.recommendation.readiness == "not ready" else "the one to ship"


def _two_columns(first: str, pairs: Mapping[str, object]) -> Table:
    columns: list[Column[str]] = [Column(first, str), Column("value", lambda key: str(pairs[key]))]
    return make_table(columns, sorted(pairs))


def _common_parameters(records: StudyRecords) -> dict[str, object]:
    """Settings that have the same value in every trial and baseline."""
    first, *others = records.trials
    return {key: value for key, value in first.params.items() if all(o.params.get(key) == value for o in others)}
