"""``hkd evaluate``: evaluate files of detections."""

from __future__ import annotations

import argparse
import math
from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from hkd.commands.outputs import output_problems
from hkd.commands.parsing import (
    CommandError,
    Commands,
    add_category_names,
    add_command,
    integer_between,
    named_paths,
    non_negative_integer,
    parse_number,
)
from hkd.files import write_atomically
from hkd.text.output import print_lines

if TYPE_CHECKING:
    from hkd.evaluation.comparison import DetectorFile, EvaluationReport

# A copy of hkd.evaluation.reporting.curve_plot.FORMATS, whose import would slow `hkd --help` down.
PLOT_SUFFIXES = (".png", ".pdf", ".svg")
MAX_RESAMPLES = 1_000_000


def add_to(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add the command to those of ``hkd``."""
    evaluate = add_command(
        commands,
        "evaluate",
        "compute miss rates and AP of files of detections, and compare detectors",
        """\
        Print MR^-2, the log-average miss rate between 0.01 and 1 false positives per image, for each subset of a
        protocol, and COCO AP. Miss rates are in per cent (lower is better), with a bootstrap interval over the images.
        Further detectors are compared with the first one on the same resamples.""",
        """\
        hkd evaluate --ground-truth val_gt.json --detections val_dt.json
        hkd evaluate --ground-truth val_gt.json --detections old=a.json new=b.json \\
            --plot curve.png --json result.json
        hkd evaluate --ground-truth test.json --protocol caltech \\
            --detections HOG=res/HOG --height-scale HOG=0.78125""",
    )
    evaluate.add_argument("--ground-truth", type=Path, required=True, metavar="GT", help="COCO-style JSON")
    evaluate.add_argument(
        "--detections",
        nargs="+",
        action="extend",
        required=True,
        metavar="[NAME=]PATH",
        help="COCO results (JSON list of image_id, category_id, bbox [x, y, width, height], score), a dump of "
        "CrowdDet, a folder of text files by video (set06/V000.txt: frame,x,y,width,height,score) or image, one text "
        "file (image,x,y,width,height,score), or MOTChallenge's; see docs/evaluation.md. NAME is used in tables and "
        "legends (default: name of the file)",
    )
    add_category_names(evaluate)
    evaluate.add_argument(
        "--protocol",
        default="citypersons",
        metavar="NAME|FILE",
        help="citypersons, citypersons_extended, caltech, acf, kaist, or a YAML file as described in"
        " docs/evaluation.md (default: citypersons)",
    )
    evaluate.add_argument(
        "--height-scale",
        nargs="+",
        action="extend",
        default=[],
        metavar="[NAME=]FACTOR",
        help="scale the heights of detected boxes about their centres, for the detector NAME or for all others",
    )
    evaluate.add_argument(
        "--resamples",
        type=partial(integer_between, 0, MAX_RESAMPLES),
        default=1000,
        metavar="N",
        help="bootstrap resamples of the images, for the intervals; 0: no intervals (default: 1000)",
    )
    evaluate.add_argument("--seed", type=non_negative_integer, default=0, help="seed of the resamples (default: 0)")
    evaluate.add_argument("--json", type=Path, metavar="FILE", help="write all numbers and curves to FILE")
    evaluate.add_argument(
        "--plot",
        type=Path,
        metavar="FILE",
        help="plot miss rate against false positives per image to FILE (.png, .pdf, .svg)",
    )
    evaluate.add_argument("--subset", metavar="NAME", help="subset to plot (default: the first of the protocol)")
    evaluate.set_defaults(run=_run_evaluate)


def _run_evaluate(options: argparse.Namespace) -> None:
    detectors = _detector_files(options)

    from rich.console import Console
    from rich.markup import escape

    from hkd.coco.categories import CategoryNames
    from hkd.evaluation.comparison import evaluate_detectors, read_inputs, require_curve
    from hkd.evaluation.reporting.report_text import format_report
    from hkd.text.escaping import printable

    with Console(stderr=True).status("reading") as status:
        named = CategoryNames(tuple(options.person), tuple(options.ignore_category))
        inputs = read_inputs(options.ground_truth, detectors, options.protocol, subset=options.subset, named=named)
        if options.plot is not None:
            require_curve(inputs, options.subset)
        report = evaluate_detectors(
            inputs,
            resamples=options.resamples,
            seed=options.seed,
            on_step=lambda words: status.update(escape(printable(words))),
        )
    print_lines(format_report(report))
    if options.json is not None:
        write_atomically(options.json, report.to_json() + "\n")
    if options.plot is not None:
        write_atomically(options.plot, _plot(report, options.subset, options.plot.suffix.lower().removeprefix(".")))


def _detector_files(options: argparse.Namespace) -> list[DetectorFile]:
    """Detectors with their names, files and height scales.

    Raises:
        CommandError: listing the problems of all options.
    """
    from hkd.evaluation.comparison import DetectorFile

    problems: list[str] = []
    paths = named_paths(options.detections, "--detections", problems)
    scales = _named_scales(options.height_scale, paths, problems)
    # A folder with the name of a built-in protocol is not an input.
    protocol_files = [path for path in [Path(options.protocol)] if path.is_file()]
    problems += output_problems(
        {"--json": options.json, "--plot": options.plot}, [options.ground_truth, *protocol_files, *paths.values()]
    )
    if options.plot is not None and options.plot.suffix.lower() not in PLOT_SUFFIXES:
        problems.append(f"--plot {options.plot}: allowed suffixes: {', '.join(PLOT_SUFFIXES)}")
    if options.subset is not None and options.plot is None:
        problems.append("--subset selects what --plot draws; add --plot FILE, or omit --subset")
    if problems:
        raise CommandError(*problems)
    return [DetectorFile(name, path, scales[name]) for name, path in paths.items()]


def _named_scales(height_scales: list[str], names: Collection[str], problems: list[str]) -> dict[str, float]:
    for_all: list[float] = []
    named: dict[str, float] = {}
    for text in height_scales:
        name, separator, factor = text.rpartition("=")
        value = _factor(factor)
        if value is None:
            problems.append(f'--height-scale "{text}": allowed factors: number > 0')
        elif separator and name not in names:
            problems.append(f'--height-scale "{text}": unknown name; detectors: {", ".join(names)}')
        elif for_all if not separator else name in named:
            target = f'"{name}"' if separator else "all detectors"
            problems.append(f'--height-scale "{text}": a second factor for {target}; give one')
        elif separator:
            named[name] = value
        else:
            for_all.append(value)
    # The order of the arguments does not matter: a named factor overrides the one for all.
    return dict.fromkeys(names, for_all[0] if for_all else 1.0) | named


def _factor(text: str) -> float | None:
    value = parse_number(text)
    return value if value is not None and 0 < value < math.inf else None


def _plot(report: EvaluationReport, subset: str | None, file_format: str) -> bytes:
    from hkd.evaluation.reporting.curve_plot import NamedCurve, draw_curves

    names = [each.name for each in report.detectors[0].result.subsets]
    index = 0 if subset is None else names.index(subset)
    curves = []
    for each in report.detectors:
        result = each.result.subsets[index]
        assert result.log_average_miss_rate is not None
        curves.append(NamedCurve(each.detector.name, result.log_average_miss_rate, result.curve))
    return draw_curves(curves, f"{report.protocol}: {names[index]}", file_format)
