"""The report command: ``python analysis/pareto.py --study NAME``."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

if not __package__:
    # Run as a script, from a checkout that is not installed: the packages are one folder up.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from analysis.options import command_of, parser
from analysis.publishing.command import NO_PUBLICATION, publication_of
from hkd.text.escaping import printable
from hkd.text.output import print_error, print_line, print_lines, tamed_libraries
from hkd.tracking_uri import command_line_problem, default_tracking_uri, with_credentials

if TYPE_CHECKING:
    from analysis.budgets import Budgets
    from analysis.pictures.samples import Samples
    from analysis.publishing.command import Publication
    from analysis.records.curves import Curve
    from analysis.records.study_records import StudyRecords
    from analysis.results import StudyResults
    from hkd.inference.deployed.measurements import Measurements

# Other modules are imported where they are used: MLflow and matplotlib take seconds, which --help should not cost.

_LONGEST_FOLDER_NAME = 200
OWN_PACKAGES = ("analysis", "hkd")


@dataclass(frozen=True)
class _Store:
    """What is read."""

    tracking_uri: str
    with_images: bool
    """Whether validation images are shown."""
    command: str
    """That makes this report again."""
    devices: tuple[Measurements, ...] = ()
    """Measurements of exported files."""


@dataclass(frozen=True)
class _Found:
    """One study."""

    records: StudyRecords
    results: StudyResults
    samples: Samples


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = parser().parse_args(arguments)
    studies: list[str] = options.study
    out: Path = options.out or Path("reports") / "_vs_".join(map(folder_name, studies))[:_LONGEST_FOLDER_NAME]
    # By default, MLflow retries for minutes where a server does not answer.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    # Artifacts of a report are small and many: a progress bar each.
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    from analysis.budgets import BudgetError, parse_budgets
    from analysis.publishing.exported import PublishingError
    from analysis.records.store import RecordsError
    from analysis.variants import VariantsError, read_devices
    from hkd.inference.deployed.packages import MissingPackageError
    from hkd.models.weight_formats.errors import CheckpointError

    problem = None if options.tracking_uri is None else command_line_problem(options.tracking_uri)
    if problem is not None:
        print_error(f"pareto: error: --tracking-uri: {problem}")
        return 2
    tracking_uri = default_tracking_uri() if options.tracking_uri is None else with_credentials(options.tracking_uri)
    try:
        budgets = parse_budgets(vars(options))
        publication = publication_of(options)
        _check_out(out)
        devices = read_devices(options.variants, studies)
        store = _Store(tracking_uri, with_images=not options.no_images, command=command_of(options), devices=devices)
        with tamed_libraries(OWN_PACKAGES):
            if options.watch is None:
                _report(studies, store, out, budgets, markdown=options.markdown, publication=publication)
            else:
                _watch(studies, store, out, budgets, options.watch)
    except (BudgetError, VariantsError, PublishingError) as error:
        for problem in str(error).split("\n"):
            print_error(f"pareto: error: {printable(problem)}", tracking_uri)
        return 2
    except (CheckpointError, MissingPackageError, RecordsError, OSError) as error:
        # Names of files and in the store may have line breaks.
        print_error(f"pareto: error: {printable(str(error))}", tracking_uri)
        return 2
    return 0


def _watch(studies: Sequence[str], store: _Store, out: Path, budgets: Budgets, seconds: int) -> None:
    """Write the report again and again, until no study runs or the user interrupts."""
    from analysis.records.store import RecordsError

    try:
        while True:
            try:
                is_running = _report(studies, store, out, budgets, markdown=False, reload_seconds=seconds)
            except RecordsError as error:
                # Perhaps no trial has finished yet.
                print_lines("\n".join(printable(line) for line in str(error).split("\n")))
                is_running = True
            if not is_running:
                return
            print_line(f"Next report in {seconds} s; Ctrl-C ends.")
            time.sleep(seconds)
    except KeyboardInterrupt:
        print_line("Stopped watching; the last report stays.")


def _report(
    studies: Sequence[str],
    store: _Store,
    out: Path,
    budgets: Budgets,
    *,
    markdown: bool,
    reload_seconds: int | None = None,
    publication: Publication = NO_PUBLICATION,
) -> bool:
    """Write and print a report; returns whether one of the studies is running."""
    from analysis.records.store import check_local_store

    check_local_store(store.tracking_uri)
    from analysis import plots
    from analysis.pictures.samples import summary_sentence
    from analysis.report import comparison
    from analysis.report.page.comparison import render_comparison
    from analysis.studies import compare_studies
    from hkd.files import write_all_atomically

    found = [_read(study, store, budgets) for study in studies]
    exported = publication.read(found[0].records, store.tracking_uri)
    is_running = any(each.records.is_running for each in found)
    reload_seconds = reload_seconds if is_running else None
    if len(found) == 1:
        contents = _files(found[0], store, reload_seconds)
        lines = _lines(found[0].records, found[0].results, markdown=markdown)
    else:
        compared = compare_studies([each.results for each in found])
        pictures: dict[str, bytes] = {}
        for pair in compared.pairs:
            pictures |= plots.draw_fronts(compared, pair).files(f"fronts_{pair.cost.key}")
        folders = _folders(studies)
        contents = {
            "comparison.html": render_comparison(
                compared, dict(zip((each.study for each in compared.studies), folders, strict=True))
            )
        }
        contents |= comparison.files(compared, pictures)
        for folder, one in zip(folders, found, strict=True):
            files = _files(one, store, reload_seconds)
            contents |= {f"{folder}/{name}": content for name, content in files.items()}
        lines = comparison.markdown(compared) if markdown else comparison.text(compared)
    write_all_atomically({out / name: content for name, content in contents.items()})
    print_lines(lines)
    if not markdown:
        print_lines("")
        for one in found:
            print_line(printable(summary_sentence(one.samples)))
        for name in contents:
            print_line(str(out / name))
    first, written = found[0], [out / name for name in contents]
    for line in publication.publish(exported, first.records, first.results, written, store.tracking_uri):
        print_line(printable(line))
    return is_running


def _read(study: str, store: _Store, budgets: Budgets) -> _Found:
    from analysis.pictures.samples import NO_SAMPLES, find_samples
    from analysis.records.detections import DetectionsReader
    from analysis.records.reader import read_study
    from analysis.results import compute_results
    from analysis.variants import with_measured_latencies

    records = with_measured_latencies(read_study(study, store.tracking_uri), store.devices)
    reader = DetectionsReader(store.tracking_uri)
    results = compute_results(records, budgets, reader, store.devices)
    samples = find_samples(results, reader.found, store.tracking_uri) if store.with_images else NO_SAMPLES
    return _Found(replace(records, notes=(*records.notes, *reader.notes)), results, samples)


def _lines(records: StudyRecords, results: StudyResults, *, markdown: bool) -> str:
    """What is printed of one study."""
    from analysis.report import sentences, tables
    from analysis.report.variants_table import variants_table

    if markdown:
        return tables.front_table(results).as_markdown()
    unfinished = sentences.unfinished(records)
    notes = (*([unfinished] if unfinished else []), *records.notes, *results.uncertainty.notes)
    before = [f"Study {records.study}: {sentences.counts(results)}.", *(f"Note: {note}" for note in notes)]
    table = tables.front_table(results, with_settings=False).as_text()
    exported = variants_table(results)
    if exported is not None:
        table += f"\n\nExported files:\n{exported.as_text()}"
    basis = sentences.basis(results)
    after = [
        sentences.headline(results),
        *([basis] if basis else []),
        *sentences.advice(results),
        *sentences.certainty(results),
    ]
    return "\n".join([*map(printable, before), "", table, "", *map(printable, after)])


def _files(found: _Found, store: _Store, reload_seconds: int | None) -> dict[str, str | bytes]:
    """Name and content of each file, with the curves of students on or near the front, baselines and the teacher."""
    from analysis.certainty.uncertainty import resampled_students
    from analysis.records.curves import read_curves

    front = found.results.searched
    run_ids = [student.run_id for student in resampled_students(front)]
    run_ids += [front.teacher.run_id] if front.teacher else []
    curves = read_curves(store.tracking_uri, run_ids, front.miss_rate.subset)
    return dict(
        report_files(found.records, found.results, curves, reload_seconds, found.samples, command=store.command)
    )


def report_files(
    records: StudyRecords,
    results: StudyResults,
    curves: Mapping[str, Curve] | None = None,
    reload_seconds: int | None = None,
    samples: Samples | None = None,
    *,
    command: str | None = None,
) -> Iterator[tuple[str, str | bytes]]:
    """Name and content of each file of a report, one after the other.

    Args:
        records: Of one study.
        results: Of the same study.
        curves: Miss rate against FPPI by run id.
        reload_seconds: After how much time an open page reloads itself; None: never.
        samples: Validation images with detections; None: none.
        command: That makes this report; None: the one without options.
    """
    from analysis import plots
    from analysis.report import tables
    from analysis.report.markdown import render_markdown
    from analysis.report.page import study as study_page
    from analysis.report.summary import summary

    yield "report.html", study_page.render_html(records, results, curves, reload_seconds, samples, command=command)
    for pair in results.front.pairs:
        yield from plots.draw_front(results, pair).files(f"front_{pair.key}").items()
    yield "front.md", render_markdown(results)
    yield "trials.csv", tables.trials_table(records, results).to_csv(index=False)
    # JSON has neither NaN nor infinity, and records have only finite numbers.
    yield "summary.json", json.dumps(summary(records, results), indent=2, allow_nan=False) + "\n"


def _folders(studies: Sequence[str]) -> list[str]:
    """A folder for each study's report, all different."""
    folders: list[str] = []
    for number, study in enumerate(studies, start=1):
        folder = folder_name(study)
        folders.append(f"{folder}_{number}" if folder in map(folder_name, studies[: number - 1]) else folder)
    return folders


def folder_name(study: str) -> str:
    """The study's name as the name of one folder, without path separators."""
    name = re.sub(r"[^\w.-]+", "_", study)
    return name if name.strip(".") else "_"


def _check_out(out: Path) -> None:
    for folder in (out, *out.parents):
        if folder.exists() and not folder.is_dir():
            raise NotADirectoryError(f"--out {out}: {folder} is a file; name a folder.")


if __name__ == "__main__":
    sys.exit(main())
