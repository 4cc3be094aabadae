"""``hkd evaluate``: judge files of detections."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from hkd.commands.outputs import place_problems
from hkd.commands.parsing import CommandError, Commands, add_command, number, whole_number
from hkd.files import write_atomically

if TYPE_CHECKING:
    from hkd.evaluation.comparison import DetectorFile, EvaluationReport

# As hkd.evaluation.reporting.curve_plot.FORMATS, which `hkd --help` need not import.
_PLOT_ENDINGS = (".png", ".pdf", ".svg")
_MOST_RESAMPLES = 1_000_000


def add_to(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add the command to those of ``hkd``."""
    evaluate = add_command(
        commands,
        "evaluate",
        "log-average miss rates with intervals, curves and AP of files of detections",
        """\
        Judge detections by a protocol's subsets: MR^-2, the log-average miss rate over 0.01 to 1 false positives an
        image, in per cent, lower is better, with a bootstrap interval over images; and COCO AP. Several detectors are
        compared with the first on the same resamples.""",
        """\
        hkd evaluate --ground-truth val_gt.json --detections val_dt.json --protocol citypersons --json result.json
        hkd evaluate --ground-truth val_gt.json --detections old=a.json new=b.json --plot curve.png
        hkd evaluate --ground-truth test.json --protocol caltech --detections HOG=res/HOG --height-scale HOG=0.78125""",
    )
    evaluate.add_argument("--ground-truth", type=Path, required=True, metavar="GT", help="COCO-style JSON")
    evaluate.add_argument(
        "--detections",
        nargs="+",
        action="extend",
        required=True,
        metavar="[NAME=]PATH",
        help="COCO results (a JSON list of image_id, category_id, bbox [x, y, width, height], score), a folder of "
        "Caltech's text files (set06/V000.txt: frame,x,y,w,h,score), or one text file (image number first); NAME "
        "stands in tables and legends (default: the file's)",
    )
    evaluate.add_argument(
        "--protocol",
        default="citypersons",
        metavar="NAME",
        help="citypersons, citypersons_extended, caltech, acf, or a YAML file of your own (default: citypersons)",
    )
    evaluate.add_argument(
        "--height-scale",
        nargs="+",
        action="extend",
        default=[],
        metavar="[NAME=]FACTOR",
        help="multiply a detector's heights (without NAME: of all others) about the boxes' centres first",
    )
    evaluate.add_argument(
        "--resamples",
        type=_resamples,
        default=1000,
        metavar="N",
        help="of the images, for intervals of miss rates and of differences; 0 leaves them out (default: 1000)",
    )
    evaluate.add_argument("--seed", type=whole_number, default=0, help="of the resamples (default: 0)")
    evaluate.add_argument("--json", type=Path, metavar="OUT", help="also write all numbers and curves to this file")
    evaluate.add_argument(
        "--plot", type=Path, metavar="OUT", help="draw miss rate against false positives per image (.png, .pdf, .svg)"
    )
    evaluate.add_argument("--subset", metavar="NAME", help="that is drawn (default: the protocol's first)")
    evaluate.set_defaults(run=_run_evaluate)


def _resamples(text: str) -> int:
    """A number of resamples.

    Raises:
        argparse.ArgumentTypeError: it is none, or one that no interval needs and no memory holds.
    """
    value = whole_number(text)
    if value > _MOST_RESAMPLES:
        raise argparse.ArgumentTypeError(f'found "{text}"; allowed: integer from 0 to {_MOST_RESAMPLES}')
    return value


def _run_evaluate(options: argparse.Namespace) -> None:
    detectors = _checked_detectors(options)

    from rich.console import Console
    from rich.markup import escape

    from hkd.evaluation.comparison import evaluate_detectors, read_inputs, require_curve
    from hkd.evaluation.reporting.report_text import format_report
    from hkd.terminal_text import printable

    with Console(stderr=True).status("reading") as status:
        inputs = read_inputs(options.ground_truth, detectors, options.protocol, subset=options.subset)
        if options.plot is not None:
            require_curve(inputs, options.subset)
        report = evaluate_detectors(
            inputs,
            resamples=options.resamples,
            seed=options.seed,
            on_step=lambda words: status.update(escape(printable(words))),
        )
    print(format_report(report))
    if options.json is not None:
        write_atomically(options.json, report.to_json() + "\n")
    if options.plot is not None:
        write_atomically(options.plot, _drawn(report, options.subset, options.plot.suffix.lower().removeprefix(".")))


def _checked_detectors(options: argparse.Namespace) -> list[DetectorFile]:
    """The detectors that the options name.

    Raises:
        CommandError: naming everything that is wrong with any option.
    """
    from hkd.evaluation.comparison import DetectorFile

    problems: list[str] = []
    paths = _named_paths(options.detections, problems)
    scales = _named_scales(options.height_scale, paths, problems)
    written = {"--json": options.json, "--plot": options.plot}
    # A folder may well have the name of a built-in protocol, and results in it.
    protocol_files = [path for path in [Path(options.protocol)] if path.is_file()]
    problems += place_problems(written, read=[options.ground_truth, *protocol_files, *paths.values()])
    if options.plot is not None and options.plot.suffix.lower() not in _PLOT_ENDINGS:
        problems.append(f"{options.plot}: must end in one of {', '.join(_PLOT_ENDINGS)}; change --plot")
    if options.subset is not None and options.plot is None:
        problems.append("--subset says what --plot draws; name a file with --plot, or leave it out")
    if problems:
        raise CommandError("\n".join(problems))
    return [DetectorFile(name, path, scales[name]) for name, path in paths.items()]


def _named_paths(detections: list[str], problems: list[str]) -> dict[str, Path]:
    paths: dict[str, Path] = {}
    for text in detections:
        name, path = _name_and_path(text)
        if not name:
            problems.append(f'--detections "{text}": a name must stand before "="')
        elif name in paths:
            problems.append(
                f'--detections: {paths[name]} and {path} are both named "{name}"; name them apart: NAME=PATH'
            )
        else:
            paths[name] = path
    return paths


def _named_scales(height_scales: list[str], names: Collection[str], problems: list[str]) -> dict[str, float]:
    for_all: list[float] = []
    named: dict[str, float] = {}
    for text in height_scales:
        name, separator, factor = text.rpartition("=")
        value = _factor(factor)
        if value is None:
            problems.append(f'--height-scale "{text}": the factor must be a number above 0')
        elif separator and name not in names:
            problems.append(f'--height-scale "{text}": no detections have that name; named: {", ".join(names)}')
        elif for_all if not separator else name in named:
            whose = f'"{name}"' if separator else "all detectors"
            problems.append(f'--height-scale "{text}": {whose} had a factor before; give one')
        elif separator:
            named[name] = value
        else:
            for_all.append(value)
    # A detector's own factor goes before that for all, wherever it stands.
    return dict.fromkeys(names, for_all[0] if for_all else 1.0) | named


def _name_and_path(text: str) -> tuple[str, Path]:
    name, separator, path = text.partition("=")
    # A file that has the sign in its own name needs no other.
    # Not Path.exists, which fails on a name that is too long for one.
    if separator and not os.path.exists(text):  # noqa: PTH110
        return name, Path(path)
    whole = Path(text).resolve()
    return whole.name if whole.is_dir() else whole.stem, Path(text)


def _factor(text: str) -> float | None:
    value = number(text)
    return value if value is not None and 0 < value < math.inf else None


def _drawn(report: EvaluationReport, subset: str | None, file_format: str) -> bytes:
    """The curves of one subset, in which ground truth counts."""
    from hkd.evaluation.reporting.curve_plot import NamedCurve, draw_curves

    names = [each.name for each in report.detectors[0].result.subsets]
    index = 0 if subset is None else names.index(subset)
    curves = []
    for each in report.detectors:
        found = each.result.subsets[index]
        assert found.log_average_miss_rate is not None
        curves.append(NamedCurve(each.detector.name, found.log_average_miss_rate, found.curve))
    return draw_curves(curves, f"{report.protocol}: {names[index]}", file_format)
