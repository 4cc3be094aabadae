"""The command line of ``python analysis/pareto.py``."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from analysis.publishing.command import add_arguments as add_publishing_options
from hkd.text.output import ArgumentParser
from hkd.text.redaction import redacted_text
from hkd.tracking_uri import DEFAULT_TRACKING_URI, TRACKING_URI_VARIABLE

_WATCH_SECONDS = 60
_LEAST_WATCH_SECONDS = 5
_DESCRIPTION = """\
Write the report of one study: read its trials from MLflow, find the front of
the study's objectives, and recommend a student to ship, if one is near enough
to its teacher."""
_EPILOG = """\
examples:
  python analysis/pareto.py --study demo
  python analysis/pareto.py --study demo --tracking-uri http://mlflow.lan:5000
  python analysis/pareto.py --study demo --max-params 7e6 --max-gflops 10
  python analysis/pareto.py --study one --study other
  python analysis/pareto.py --study demo --watch
  python analysis/pareto.py --study demo --markdown >> README.md
  python analysis/pareto.py --study demo --attach --model student.onnx \\
      --register pedestrians

files in the report's folder:
  report.html        one page for a browser, without network: which student to
                     ship, also within a budget that its sliders set; fronts,
                     all trials, settings, learning curves
  front_params.png   miss rate against parameters, if these are an objective
  front_flops.png    miss rate against FLOPs (front_gmacs.png: multiply-adds)
  front_*.svg        the same plots for papers
  front.md           headline, findings and the table of the front in Markdown
  trials.csv         every trial with its metrics and its whole configuration;
                     text that a spreadsheet would compute begins with '
  summary.json       the results for programs (docs/summary.schema.json)

Of several studies, these files are in a folder for each, beside comparison.html
(the fronts in one page), comparison.md, comparison.json and the fronts in one
plot (PNG and SVG) for each cost.

Only trials that were trained for all their epochs are counted; failed, stopped
and running ones are listed with the reason. Once the whole front was trained
again with other seeds (python sweeps/run.py --confirm), the means on the
validation images decide. Test images decide nothing: the test result of the
choice is a check that nothing has selected (docs/report.md).

Exit code: 0, or 2 if there is no report; an older report is then unchanged."""


def parser() -> argparse.ArgumentParser:
    """Of the command line."""
    made = ArgumentParser(
        prog="python analysis/pareto.py",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument(
        "--study",
        required=True,
        action="append",
        metavar="NAME",
        help="name of the study (as in its config, or --name); given several times, the studies are compared",
    )
    made.add_argument(
        "--tracking-uri",
        metavar="URI",
        help="MLflow store of the study: sqlite:///PATH, http://HOST:PORT, ... (default: "
        f"{TRACKING_URI_VARIABLE}, else {DEFAULT_TRACKING_URI})",
    )
    limits = made.add_argument_group("budgets: the most that the student to ship may cost and miss")
    limits.add_argument("--max-params", metavar="N", help="parameters (7e6)")
    limits.add_argument("--max-gflops", metavar="N", help="GFLOPs for one image (2 per multiply-add)")
    limits.add_argument("--max-latency-ms", metavar="N", help="milliseconds for one image, where they were measured")
    limits.add_argument("--max-miss-rate", metavar="N", help="first miss rate of the objectives, a fraction (0.2)")
    made.add_argument(
        "--variants",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="measurements of exported files on a device, from hkd benchmark --json: fp32 and INT8 variants of trials; "
        "repeatable",
    )
    made.add_argument("--out", type=Path, metavar="DIR", help="folder for the report (default: reports/NAME)")
    made.add_argument(
        "--watch",
        type=_seconds,
        nargs="?",
        const=_WATCH_SECONDS,
        metavar="SECONDS",
        help="write the report again while a study runs, with at least this time between two (default: "
        f"{_WATCH_SECONDS}); an open page reloads itself",
    )
    made.add_argument(
        "--no-images",
        action="store_true",
        help="leave the validation images out of report.html, which shows some with detections where this machine has "
        "them; for reports that others may see",
    )
    add_publishing_options(made)
    made.add_argument("--markdown", action="store_true", help="print only the front, as a Markdown table")
    return made


def command_of(options: argparse.Namespace) -> str:
    """What makes the same report again, for a shell in which MLFLOW_TRACKING_URI is set.

    Without what is done besides: printing Markdown, watching, and writing to MLflow.
    """
    words = [word for study in options.study for word in ("--study", study)]
    for name in ("max_params", "max_gflops", "max_latency_ms", "max_miss_rate", "out"):
        value = getattr(options, name)
        words += [] if value is None else [f"--{name.replace('_', '-')}", str(value)]
    words += [word for path in options.variants for word in ("--variants", str(path))]
    words += ["--no-images"] if options.no_images else []
    return redacted_text(f"python analysis/pareto.py {shlex.join(words)}")


def _seconds(text: str) -> int:
    allowed = range(_LEAST_WATCH_SECONDS, 86_401)
    if not (text.isdecimal() and len(text) < 6 and int(text) in allowed):
        raise argparse.ArgumentTypeError(f"found {text[:40]!r}; allowed: {allowed.start} to {allowed.stop - 1} seconds")
    return int(text)
