"""The report of a study as one self-contained interactive HTML page."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any, Final

from analysis.front import KNEE_RULE, REFERENCE_RULE, Front, Student
from analysis.objectives import listed_nouns, miss_rates
from analysis.pictures.samples import NO_SAMPLES, Samples, summary_sentence
from analysis.records.curves import Curve
from analysis.records.study_records import StudyRecords
from analysis.report import sentences, tables
from analysis.report.certainty_tables import difference_tables, repeated_table
from analysis.report.explanation_tables import ablations_table, compute_sentence, importances_table
from analysis.report.page.html import render
from analysis.report.page.students_table import students_table
from analysis.report.page.study_data import VERDICTS, page_data, verdict_key
from analysis.report.summary import versions
from analysis.report.tables import Column, Table, make_table
from analysis.report.variants_table import variants_table
from analysis.results import StudyResults
from hkd import metric_names as names
from hkd.findings import READINESS_RULE
from hkd.text.redaction import REDACTED, is_redacted

_CAUTION = (
    "Each trial is one training with one seed, evaluated on the validation images that also guided the search: "
    "differences of a few points may be chance, and the best of many trials appears better than it is."
)
_CAUTION_ON_MEANS = (
    "Miss rates are means of a few trainings with other seeds than those of the search: the section on certainty has "
    "their standard deviations. The students' settings were chosen on the same validation images, so that the means "
    "may still be a little too low; results on test images, where there are any, are not selected by anything."
)
SCRIPTS: Final = (
    "elements.js",
    "page.js",
    "choice.js",
    "svg.js",
    "points.js",
    "front_plot.js",
    "small_plots.js",
    "curves.js",
    "parallel.js",
    "samples.js",
    "detail.js",
    "tables.js",
    "limits.js",
    "theme.js",
    "start.js",
)
"""See :func:`analysis.report.page.html.render`."""


def render_html(
    records: StudyRecords,
    results: StudyResults,
    curves: Mapping[str, Curve] | None = None,
    reload_seconds: int | None = None,
    samples: Samples | None = None,
    *,
    command: str | None = None,
) -> str:
    """The report without external resources. All names and values are escaped, and its scripts read them as data.

    Args:
        records: What the results were computed from.
        results: Of the same study.
        curves: Miss rate against FPPI by run id, of the runs that have it.
        reload_seconds: After how much time an open page reloads itself, if nobody reads a trial's details; None: never.
        samples: Validation images with detections; None: none.
        command: That makes this report; None: the one without options.
    """
    samples = samples or NO_SAMPLES
    data = {**page_data(records, results, curves or {}, samples), "reloadSeconds": reload_seconds}
    return render(
        "report.html.j2",
        SCRIPTS,
        data,
        **_context(records, results),
        commands=_commands(records, results, command),
        samples=samples,
        samples_sentence=summary_sentence(samples),
    )


def _context(records: StudyRecords, results: StudyResults) -> dict[str, Any]:
    front = results.front
    caution = _CAUTION if front.basis == "search" else _CAUTION_ON_MEANS
    note = caution if front.teacher is None else f"{READINESS_RULE[0].upper()}{READINESS_RULE[1:]}. {caution}"
    return {
        "study": results.study,
        "counts": sentences.counts(results),
        "unfinished": sentences.unfinished(records),
        "verdict": _verdict(results),
        "headline": sentences.headline(results),
        "on_test": sentences.on_test(results),
        "headline_repeats_tiles": verdict_key(results) in ("near", "with loss", "no teacher")
        and not results.recommendation.larger,
        "reasons": sentences.reasons(results),
        "basis": sentences.basis(results),
        "basis_note": "They decide on the choice, the front and the ranks above."
        if front.basis != "search"
        else "The plots show the means on the validation images, dashed; the search decides on the choice, the front "
        "and the ranks.",
        "note": note,
        "tiles": _tiles(front, front.student(results.recommendation.trial_id)),
        "verdict_key": verdict_key(results),
        "has_limits": bool(results.recommendation.limits),
        "front": front,
        "nouns": listed_nouns(front.objectives),
        "subsets": ", ".join(each.subset for each in miss_rates(front.objectives)),
        "students": students_table(records, results),
        "uncertainty": results.uncertainty,
        "confirmation": results.confirmation,
        "difference_tables": difference_tables(results),
        "repeated_table": repeated_table(results),
        "variants_table": variants_table(results),
        "importances": results.importances,
        "importances_table": importances_table(results),
        "ablations_table": ablations_table(results),
        "compute": compute_sentence(results),
        "has_settings": bool(records.searched_parameters()),
        "baseline_table": tables.baseline_table(results) if results.baselines else None,
        "knees": sentences.knees(results),
        "knee_rule": KNEE_RULE,
        "reference_rule": REFERENCE_RULE,
        "hypervolume_table": tables.hypervolume_table(results),
        "not_counted_table": tables.not_counted_table(records) if records.not_counted else None,
        "notes": records.notes,
        "study_table": _two_columns("study setting", {**records.settings, **records.tags}),
        "common_table": _two_columns("setting", _common_parameters(records)),
        "versions": ", ".join(f"{name} {version}" for name, version in versions().items()),
    }


def _verdict(results: StudyResults) -> tuple[str, str, str]:
    """The headline, as the text before, of and after the chosen student's name."""
    before, name, after = VERDICTS[verdict_key(results)].partition("{trial}")
    return before, results.recommendation.trial_id if name else "", after


def _tiles(front: Front, student: Student) -> list[tuple[str, str, str, str]]:
    """Of each objective: what it is, the student's value, its unit, and how that compares with the teacher's."""
    tiles = []
    for objective in front.objectives:
        value, compared = student.values[objective.name], ""
        if objective.name in student.times_fewer:
            compared = f"{objective.compared(student.times_fewer[objective.name])} the teacher"
        if objective.name in student.gaps:
            compared = f"{tables.in_points(student.gaps[objective.name])} points from the teacher"
        tiles.append((objective.noun, objective.shown(value), objective.unit_symbol, compared))
    return tiles


def _commands(records: StudyRecords, results: StudyResults, of_report: str | None) -> list[str]:
    """How to obtain the chosen student's files, this report and all runs."""
    uri, study = shlex.quote(records.tracking_uri), shlex.quote(results.study)
    is_shipped = verdict_key(results) in ("near", "with loss", "no teacher")
    chosen = "the student to ship" if is_shipped else "the best student"
    trial_id = results.recommendation.trial_id
    run_id = results.front.student(trial_id).run_id
    download = f"mlflow artifacts download --run-id {run_id} --dst-path chosen"
    is_server = records.tracking_uri.startswith(("http://", "https://"))
    return [
        *([f"# {REDACTED}: insert the credentials"] if is_redacted(records.tracking_uri) else []),
        f"# the weights of {chosen}, and the configuration that trains it",
        f"export MLFLOW_TRACKING_URI={uri}",
        f"{download} --artifact-path {names.ARTIFACT_WEIGHTS}",
        f"{download} --artifact-path {names.ARTIFACT_CONFIG}",
        f"hkd train chosen/{names.ARTIFACT_CONFIG}",
        "# its file for a device, in the folder in which the study ran",
        f"hkd export --study {study} --trial {shlex.quote(trial_id)} --out student.onnx",
        "# this report",
        of_report or f"python analysis/pareto.py --study {study}",
        "# all runs",
        # As an argument, credentials would be in the list of processes.
        f"open {uri} in a browser" if is_server else 'MLFLOW_BACKEND_STORE_URI="$MLFLOW_TRACKING_URI" mlflow ui',
    ]


def _two_columns(first: str, pairs: Mapping[str, object]) -> Table:
    columns: list[Column[str]] = [Column(first, str), Column("value", lambda key: str(pairs[key]))]
    return make_table(columns, sorted(pairs))


def _common_parameters(records: StudyRecords) -> dict[str, object]:
    """Settings that have the same value in every trial and baseline."""
    first, *others = records.trials
    return {key: value for key, value in first.params.items() if all(o.params.get(key) == value for o in others)}
