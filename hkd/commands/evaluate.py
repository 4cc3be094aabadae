"""``hkd evaluate``: judge files of detections."""

from __future__ import annotations

import argparse
from pathlib import Path

from hkd.commands.parsing import CommandError, Commands, add_command


def add_to(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add the command to those of ``hkd``."""
    evaluate = add_command(
        commands,
        "evaluate",
        "log-average miss rates and AP of a file of detections",
        """\
        Judge detections by a protocol's subsets: MR^-2, the log-average miss rate over 0.01 to 1 false positives an
        image, in per cent, lower is better; and COCO AP.""",
        "hkd evaluate --ground-truth val_gt.json --detections val_dt.json --protocol citypersons --json result.json",
    )
    evaluate.add_argument("--ground-truth", type=Path, required=True, metavar="GT", help="COCO-style JSON")
    evaluate.add_argument(
        "--detections",
        type=Path,
        required=True,
        metavar="DT",
        help="COCO results: a JSON list of image_id, category_id, bbox [x, y, width, height], score",
    )
    evaluate.add_argument("--protocol", default="citypersons", help="(default: citypersons)")
    evaluate.add_argument("--json", type=Path, metavar="OUT", help="also write all numbers and curves to this file")
    evaluate.set_defaults(run=_run_evaluate)


def _run_evaluate(options: argparse.Namespace) -> None:
    from hkd.evaluation.evaluator import evaluate_files, format_result

    if options.json is not None and options.json.resolve() in (
        options.ground_truth.resolve(),
        options.detections.resolve(),
    ):
        raise CommandError(f"{options.json}: is read, and would be overwritten; name another file with --json")
    result = evaluate_files(options.ground_truth, options.detections, options.protocol)
    print(format_result(result))
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(result.to_json() + "\n", encoding="utf-8")
