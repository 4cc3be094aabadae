"""The report command: ``python analysis/pareto.py --study NAME``."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

if not __package__:
    # Started as a file from a checkout that need not be installed: the packages lie one folder up.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

# All else is imported where it is used: MLflow and matplotlib take seconds, which --help and mistakes should not cost.

DEFAULT_TRACKING_URI = "sqlite:///mlflow.db"
_DESCRIPTION = """\
Answers 'which light student do I ship, and what does it cost?' for one study: reads its trials from MLflow, finds the
front of miss rate against size, and writes a report."""
_EPILOG = """\
examples:
  python analysis/pareto.py --study demo
  python analysis/pareto.py --study pennfudan --tracking-uri http://mlflow.example:5000 --out reports/tuesday
  python analysis/pareto.py --study pennfudan --markdown >> README.md

what it writes into the folder:
  report.html        the answer, the front, baselines, knee, hypervolume, what does not count and why; one file
  front_params.png   miss rate against parameters
  front_flops.png    miss rate against floating-point operations for one image
  front.md           the table of the front in Markdown
  trials.csv         every trial with its metrics and its whole configuration
  summary.json       the same results for programs (field schema_version)

Only trials that were trained to their end compete for the front; failed, stopped and running ones are listed with the
reason. Exit code: 0, or 2 for a mistake in what was asked, which leaves an older report as it was."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = _parser().parse_args(arguments)
    out: Path = options.out or Path("reports") / _folder_name(options.study)
    # A server that does not answer should be reported now, not after MLflow's minutes of retries.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    from analysis.store import RecordsError
    from hkd.redaction import redacted_text

    try:
        _check_out(out)
        _report(options.study, options.tracking_uri, out, markdown=options.markdown)
    except (RecordsError, OSError) as error:
        print(f"pareto: error: {redacted_text(str(error), options.tracking_uri)}", file=sys.stderr)
        return 2
    return 0


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        from hkd.redaction import redacted_text

        super().error(redacted_text(message))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="pareto",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--study", required=True, metavar="NAME", help="name of the study, as in its config")
    parser.add_argument(
        "--tracking-uri",
        default=DEFAULT_TRACKING_URI,
        metavar="URI",
        help="MLflow store that the study was written to: sqlite:///PATH, http://HOST:PORT, ... (default: %(default)s)",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for the report (default: reports/NAME)")
    parser.add_argument(
        "--markdown", action="store_true", help="print the front as a Markdown table, and nothing else, to stdout"
    )
    return parser


def _report(study: str, tracking_uri: str, out: Path, *, markdown: bool) -> None:
    from analysis.store import check_local_store

    check_local_store(tracking_uri)
    from analysis import plots, report, tables
    from analysis.front import analyse
    from analysis.records import read_study
    from hkd.files import write_all_atomically

    records = read_study(study, tracking_uri)
    analysis = analyse(records)
    params_png = plots.draw_front(analysis, plots.params_axis(analysis))
    flops_png = plots.draw_front(analysis, plots.flops_axis(analysis))
    front_in_markdown = tables.front_table(analysis).as_markdown()
    files: dict[str, str | bytes] = {
        "front_params.png": params_png,
        "front_flops.png": flops_png,
        "front.md": front_in_markdown + "\n",
        "trials.csv": tables.trials_table(records, analysis).to_csv(index=False),
        "report.html": report.render_html(records, analysis, params_png=params_png, flops_png=flops_png),
        # NaN and infinity are no JSON, and records hold none.
        "summary.json": json.dumps(report.summary(records, analysis), indent=2, allow_nan=False) + "\n",
    }
    # All or nothing: after an error an older report is unchanged.
    write_all_atomically({out / name: content for name, content in files.items()})
    if markdown:
        print(front_in_markdown)
        return
    print(f"Study {study}: {tables.counts(analysis)}.")
    for note in records.notes:
        print(f"Note: {note}")
    print(f"\n{tables.front_table(analysis, with_settings=False).as_text()}\n\n{tables.headline(analysis)}\n")
    for name in ("report.html", "front_params.png", "front_flops.png", "front.md", "trials.csv", "summary.json"):
        print(out / name)


def _folder_name(study: str) -> str:
    """The study's name as the name of one folder: nothing in it leads elsewhere."""
    name = re.sub(r"[^\w.-]+", "_", study)
    return name if name.strip(".") else "_"


def _check_out(out: Path) -> None:
    for folder in (out, *out.parents):
        if folder.exists() and not folder.is_dir():
            raise NotADirectoryError(f"--out {out}: {folder} is a file; name a folder.")


if __name__ == "__main__":
    sys.exit(main())
