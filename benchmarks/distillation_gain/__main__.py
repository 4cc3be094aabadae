r"""Measure what distillation gains: miss rates of students against training length and number of labelled scenes.

Students of two sizes are trained on generated scenes, alone and with what hkd offers (a row of the tables), under a
teacher trained to convergence, under one with few labels and under a weak one; conditions.yaml names all conditions.
First weights of the `selected` rows are selected from the teacher and fitted to its layers' outputs. N labelled scenes
of seed s are the drawn scenes s N to s N + N - 1 modulo their number, so that the spread over seeds includes the choice
of scenes: they are others for each seed while the drawn scenes suffice (1,600 of 3,200: for two seeds). A teacher's are
those of its own seed.

Prints Markdown tables, and writes them and plots to --out, as PLAN.md and PLAN-by-steps.png. Interrupted trainings
resume from their last epoch, and finished ones are stored in --out: the command may be ended and repeated, and run
twice at once on the same folder.

    python -m benchmarks.distillation_gain --plan length --list       # what is missing, and for how long
    python -m benchmarks.distillation_gain --plan length --seeds 0    # miss rate against training length
    python -m benchmarks.distillation_gain --plan labels --report     # the tables of what is finished
    python -m benchmarks.distillation_gain --plan length --rows alone twice --steps 400 \
        --extra-row twice:distillation.pyramid.weight=2
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.distillation_gain.conditions import (
    CONDITIONS,
    Benchmark,
    Condition,
    Selection,
    load_catalogue,
    parse_extra_row,
)
from benchmarks.distillation_gain.jobs import Jobs
from benchmarks.distillation_gain.listing import listing
from benchmarks.distillation_gain.plots import draw, panels_of
from benchmarks.distillation_gain.report import report
from benchmarks.distillation_gain.scenes import Scenes
from benchmarks.distillation_gain.schedule import run_all
from benchmarks.options import add_out, add_schedule
from hkd.config_files.parsing import parse_override
from hkd.config_files.problems import ConfigError
from hkd.config_files.yaml_format import load_yaml
from hkd.files import write_atomically


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns 0 if all selected trainings are finished."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        return _run(options)
    except ValueError as error:
        parser.exit(2, f"{error}\n")


def _run(options: argparse.Namespace) -> int:
    benchmark = Benchmark(
        load_catalogue(options.config), dict(map(parse_override, options.overrides)), _extra_rows(options)
    )
    plans = options.plan or list(benchmark.catalogue.plans)
    conditions = benchmark.conditions(plans, _selection(options))
    jobs = Jobs(
        benchmark,
        Scenes(options.out, benchmark.catalogue.scenes),
        options.out,
        given_teachers=_given_teachers(options.teacher),
        pyramid_bytes=int(1e9 * options.cache_gigabytes),
    )
    jobs.check(conditions)
    if options.list:
        print(listing(conditions, jobs.table(conditions), options.workers))
        return 0
    code = 0
    if not options.report:
        progress = run_all(jobs, conditions, workers=options.workers, max_hours=options.max_hours)
        if progress.is_complete:
            shutil.rmtree(options.out / "pyramids", ignore_errors=True)
        for line in progress.failed:
            print(f"failed: {line}", file=sys.stderr)
        code = 0 if progress.is_complete else 1
    _report(options.out, "-".join(plans), jobs, conditions, list(benchmark.catalogue.rows))
    return code


def _report(out: Path, name: str, jobs: Jobs, conditions: Sequence[Condition], rows: Sequence[str]) -> None:
    """Print the tables, and write them and the plots to files of this name."""
    table = jobs.table(conditions)
    text = report(table, rows, jobs.teacher_descriptions())
    print(text)
    write_atomically(out / f"{name}.md", text + "\n")
    for by in ("steps", "labels"):
        panels = panels_of(table, by)
        if panels:
            path = out / f"{name}-by-{by}.png"
            write_atomically(path, draw(panels, rows, by))
            print(f"plot: {path}", file=sys.stderr)


def _selection(options: argparse.Namespace) -> Selection:
    return Selection(
        students=options.students,
        rows=options.rows,
        teachers=options.teachers,
        steps=options.steps,
        labels=options.labels,
        seeds=options.seeds,
    )


def _extra_rows(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = {}
    for path in options.rows_file:
        for name, settings in load_yaml(path).items():
            if not isinstance(settings, dict):
                raise ConfigError(f"{name}: write the row's settings by dotted name", str(path))
            rows[str(name)] = settings
    return rows | dict(map(parse_extra_row, options.extra_row))


def _given_teachers(texts: Sequence[str]) -> dict[str, Path]:
    given = {}
    for text in texts:
        name, equals, path = text.partition("=")
        if not equals or not path:
            raise ConfigError(f"--teacher {text}: write NAME=FILE", "the command's options")
        given[name] = Path(path)
    return given


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.distillation_gain",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = parser.add_argument_group("what is trained")
    what.add_argument("--plan", nargs="+", metavar="PLAN", help="plans of the YAML file (default: all)")
    what.add_argument("--rows", nargs="+", metavar="ROW", help="only these rows")
    what.add_argument("--students", nargs="+", metavar="STUDENT", help="only these students")
    what.add_argument("--teachers", nargs="+", metavar="TEACHER", help="only blocks of these teachers")
    what.add_argument("--steps", type=int, nargs="+", help="only these numbers of steps")
    what.add_argument("--labels", type=int, nargs="+", help="only these numbers of labelled scenes")
    what.add_argument("--seeds", type=int, nargs="+", help="only these seeds")
    what.add_argument(
        "--config", type=Path, default=CONDITIONS, metavar="FILE", help="conditions, YAML (default: %(default)s)"
    )
    what.add_argument(
        "--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE",
        help="override one setting of all students' trainings; may be repeated",
    )  # fmt: skip
    what.add_argument(
        "--extra-row", action="append", default=[], metavar="NAME:KEY=VALUE,KEY=VALUE",
        help="one more row in all plans, which starts from `default` (from=ROW: from another); may be repeated",
    )  # fmt: skip
    what.add_argument(
        "--rows-file", type=Path, action="append", default=[], metavar="FILE",
        help="more rows in all plans, YAML as `rows` of the conditions; may be repeated",
    )  # fmt: skip
    what.add_argument(
        "--teacher", action="append", default=[], metavar="NAME=FILE",
        help="weights of a teacher, which is then not trained; may be repeated",
    )  # fmt: skip
    how = parser.add_argument_group("how")
    add_out(how, "runs/distillation_gain")
    add_schedule(how)
    how.add_argument(
        "--cache-gigabytes", type=float, default=10.0,
        help="disk space below OUT for the teacher's pyramids, which trainings on the same batches share; "
        "0: none (default: %(default)s)",
    )  # fmt: skip
    instead = parser.add_argument_group("instead of training").add_mutually_exclusive_group()
    instead.add_argument("--list", action="store_true", help="print what is finished, what is missing and for how long")
    instead.add_argument(
        "--report", action="store_true", help="print the tables and write the plots of what is finished"
    )
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
