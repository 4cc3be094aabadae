"""The report of a study as one self-contained HTML page, and as JSON for programs. Takes results, computes none."""

from __future__ import annotations

import base64
import importlib.metadata
import platform
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from html import escape
from typing import Any

import hkd
from analysis import tables
from analysis.front import REFERENCE_RULE, FrontAnalysis, Hypervolume, Knee
from analysis.geometry import KNEE_RULE
from analysis.records import StudyRecords
from analysis.tables import Table
from hkd import metric_names as names

SUMMARY_SCHEMA_VERSION = 1
_LIBRARIES = ("mlflow", "optuna", "numpy", "pandas", "matplotlib")
_OBJECTIVE_WORDS = {names.MR2_REASONABLE: "miss rate", names.NUM_PARAMS: "parameters", names.FLOPS: "FLOPs"}
_CAUTION = (
    "Each trial is one training with one seed, judged on the same validation images that the search looked at: "
    "differences of a few points may be chance, and the best of many tries looks better than it is."
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


def render_html(records: StudyRecords, analysis: FrontAnalysis, *, params_png: bytes, flops_png: bytes) -> str:
    """The whole report. Everything that comes from MLflow is escaped; nothing is loaded from elsewhere."""
    title = f"Study {analysis.study}: which student to ship"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="sub">{escape(tables.counts(analysis))}.</p>',
        _answer(analysis),
        '<div class="figures">',
        _figure(params_png, "Miss rate against parameters", "Miss rate against the deployed student's parameters."),
        _figure(flops_png, "Miss rate against FLOPs", "Miss rate against floating-point operations for one image."),
        "</div>",
        *_front_section(analysis),
        *_baseline_section(analysis),
        *_measures_section(analysis),
        *_importances_section(analysis),
        *_left_out_section(records),
        *_study_section(records),
        *_reproduce_section(records, analysis),
    ]
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>'
    viewport = '<meta name="viewport" content="width=device-width, initial-scale=1">'
    body = "\n".join(parts)
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}{viewport}</head><body>\n{body}\n</body></html>\n'


def summary(records: StudyRecords, analysis: FrontAnalysis) -> dict[str, Any]:
    """Plain values for ``summary.json``: the same records give the same summary.

    Miss rates and gaps are fractions, FLOPs are single operations; what is not known is null.
    """
    return {
        "schema_version": SUMMARY_SCHEMA_VERSION,
        "study": analysis.study,
        "tracking_uri": records.tracking_uri,
        "objectives": list(names.DEFAULT_OBJECTIVES),
        "headline": tables.headline(analysis),
        "recommendation": asdict(analysis.recommendation),
        "teacher": asdict(analysis.teacher) if analysis.teacher else None,
        "front": [asdict(student) for student in analysis.front],
        "params_front": [student.trial_id for student in analysis.params_front],
        "flops_front": [student.trial_id for student in analysis.flops_front],
        "knee": {"rule": KNEE_RULE, "params": _plain(analysis.params_knee), names.FLOPS: _plain(analysis.flops_knee)},
        "hypervolume": {
            "reference_rule": REFERENCE_RULE,
            "fronts": [
                {
                    "objectives": list(each.objectives),
                    "value": each.value,
                    "reference_point": dict(zip(each.objectives, each.reference_point, strict=True)),
                    "beyond_reference": each.beyond_reference,
                }
                for each in analysis.hypervolumes
            ],
        },
        "baselines": [
            {**asdict(analysis.student(each.trial_id)), "comparison": asdict(each)} for each in analysis.baselines
        ],
        "importances": asdict(analysis.importances),
        "count_by_status": dict(sorted(analysis.count_by_status.items())),
        "not_counted": [
            {"trial_id": trial.trial_id, "status": trial.status, "because": trial.not_counted_because}
            for trial in records.not_counted
        ],
        "notes": list(records.notes),
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Versions of what computed the report."""
    found = {"python": platform.python_version(), "hkd": hkd.__version__}
    return found | {library: importlib.metadata.version(library) for library in _LIBRARIES}


def _plain(knee: Knee | None) -> dict[str, Any] | None:
    return asdict(knee) if knee else None


def _answer(analysis: FrontAnalysis) -> str:
    sentences = (tables.headline(analysis), *tables.reasons(analysis))
    paragraphs = "".join(f"<p>{escape(sentence)}</p>" for sentence in sentences)
    return f'<section class="answer">{paragraphs}<p class="note">{escape(_CAUTION)}</p></section>'


def _figure(png: bytes, alternative: str, caption: str) -> str:
    data = base64.b64encode(png).decode("ascii")
    image = f'<img alt="{escape(alternative)}" src="data:image/png;base64,{data}">'
    return f"<figure>{image}<figcaption>{escape(caption)}</figcaption></figure>"


def _html_table(table: Table, *, number_columns: Sequence[int] = (), marked: int | None = None) -> str:
    def cells(row: Sequence[str], tag: str) -> str:
        classes = [' class="number"' if column in number_columns else "" for column in range(len(row))]
        return "".join(f"<{tag}{of}>{escape(cell)}</{tag}>" for cell, of in zip(row, classes, strict=True))

    rows = [
        f'<tr class="marked">{cells(row, "td")}</tr>' if index == marked else f"<tr>{cells(row, 'td')}</tr>"
        for index, row in enumerate(table.rows)
    ]
    return f'<div class="wide"><table><tr>{cells(table.header, "th")}</tr>{"".join(rows)}</table></div>'


def _paragraph(text: str) -> str:
    return f'<p class="note">{escape(text)}</p>'


def _front_section(analysis: FrontAnalysis) -> list[str]:
    table = tables.front_table(analysis)
    shipped = analysis.student(analysis.recommendation.trial_id)
    marked = next(index for index, row in enumerate(table.rows) if row[0] == str(shipped.rank))
    explanation = (
        "Students that no other student betters in miss rate, parameters and FLOPs together, by miss rate; the one to "
        "ship is marked. Miss rate: log-average (MR^-2), reasonable subset. Gap: percentage points above the teacher. "
        "Fewer: the teacher's number over the student's. Baselines compete as well."
    )
    return [
        "<h2>The front</h2>",
        _html_table(table, number_columns=range(2, 8), marked=marked),
        _paragraph(explanation),
    ]


def _baseline_section(analysis: FrontAnalysis) -> list[str]:
    if not analysis.baselines:
        return ["<h2>Baselines</h2>", _paragraph("No baseline was trained to its end.")]
    explanation = (
        "Difference: percentage points of that student less the baseline's; below 0 the student is better. The best "
        "student is the best of many, a baseline is one: the fair measure of distillation is the default-weights "
        "baseline beside the undistilled one, where only the weights differ."
    )
    table = _html_table(tables.baseline_table(analysis), number_columns=(1, 2, 3, 4, 6, 7))
    return ["<h2>Baselines against distilled students</h2>", table, _paragraph(explanation)]


def _measures_section(analysis: FrontAnalysis) -> list[str]:
    def point(each: Hypervolume) -> str:
        shown = {
            names.MR2_REASONABLE: lambda value: f"{tables.percent(value)} %",
            names.NUM_PARAMS: lambda value: f"{tables.millions(value)} M parameters",
            names.FLOPS: lambda value: f"{tables.billions(value)} GFLOPs",
        }
        return ", ".join(shown[name](value) for name, value in zip(each.objectives, each.reference_point, strict=True))

    rows = tuple(
        (
            ", ".join(_OBJECTIVE_WORDS[name] for name in each.objectives),
            f"{each.value:.4f}",
            point(each),
            str(each.beyond_reference),
        )
        for each in analysis.hypervolumes
    )
    table = Table(("front in", "hypervolume", "reference point", "points beyond it"), rows)
    knees = [
        f"{what}: {knee.trial_id}, {knee.distance:.3f} from the line" if knee else f"{what}: none"
        for what, knee in (("by parameters", analysis.params_knee), ("by FLOPs", analysis.flops_knee))
    ]
    explanation = (
        "Hypervolume: the share of the box between zero and the reference point that the front dominates, 0 to 1, more "
        f"is better. Reference point: {REFERENCE_RULE}. A point beyond it adds nothing."
    )
    return [
        "<h2>Knee and hypervolume</h2>",
        f"<p>Knee {escape('; '.join(knees))}.</p>",
        _paragraph(
            f"The knee is {KNEE_RULE}. A front of fewer than three points, or one that does not bend, has none."
        ),
        _html_table(table, number_columns=(1, 3)),
        _paragraph(explanation),
    ]


def _importances_section(analysis: FrontAnalysis) -> list[str]:
    found = analysis.importances
    heading = "<h2>Which settings the miss rate depends on</h2>"
    if found.absent_because is not None:
        return [heading, _paragraph(f"Not given: {found.absent_because}.")]
    table = Table(("setting", "share"), tuple((name, f"{share:.2f}") for name, share in found.values.items()))
    explanation = (
        f"Share of the miss rate's variation that a setting explains by itself (fANOVA over {found.num_trials} trials, "
        "baselines aside). With few trials this is a hint, no more."
    )
    return [heading, _html_table(table, number_columns=(1,)), _paragraph(explanation)]


def _left_out_section(records: StudyRecords) -> list[str]:
    parts = ["<h2>Trials that do not count</h2>"]
    if records.not_counted:
        parts.append(_html_table(tables.not_counted_table(records), number_columns=(2,)))
    else:
        parts.append(_paragraph("None: every trial was trained to its end."))
    return parts


def _study_section(records: StudyRecords) -> list[str]:
    parts = ["<h2>The study</h2>", *(_paragraph(note) for note in records.notes)]
    described = {**records.settings, **records.tags}
    if described:
        parts.append(_html_table(_two_columns("study setting", described)))
    common = _common_parameters(records)
    if common:
        table = _html_table(_two_columns("setting", common))
        parts.append(f"<details><summary>{len(common)} settings that all trials share</summary>{table}</details>")
    return parts


def _reproduce_section(records: StudyRecords, analysis: FrontAnalysis) -> list[str]:
    uri, study = shlex.quote(records.tracking_uri), shlex.quote(analysis.study)
    run_id = analysis.student(analysis.recommendation.trial_id).run_id
    download = f"mlflow artifacts download --run-id {run_id} --dst-path shipped"
    is_server = records.tracking_uri.startswith(("http://", "https://"))
    commands = (
        "# the student to ship: its weights, and the configuration that trains it again",
        f"export MLFLOW_TRACKING_URI={uri}",
        f"{download} --artifact-path student.safetensors",
        f"{download} --artifact-path config.yaml",
        "hkd train shipped/config.yaml",
        "# this report",
        f"python analysis/pareto.py --study {study} --tracking-uri {uri}",
        "# all runs, side by side",
        f"open {uri} in a browser" if is_server else f"mlflow ui --backend-store-uri {uri}",
    )
    listed = ", ".join(f"{name} {version}" for name, version in versions().items())
    return [
        "<h2>How to reproduce</h2>",
        f"<pre>{escape(chr(10).join(commands))}</pre>",
        _paragraph(f"Report made with {listed}."),
    ]


def _two_columns(first: str, pairs: Mapping[str, object]) -> Table:
    return Table((first, "value"), tuple((key, str(pairs[key])) for key in sorted(pairs)))


def _common_parameters(records: StudyRecords) -> dict[str, object]:
    """Settings that have the same value in every trial and baseline."""
    first, *others = records.trials
    return {key: value for key, value in first.params.items() if all(o.params.get(key) == value for o in others)}
