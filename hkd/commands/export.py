"""``hkd export``: a detector as an ONNX file."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from hkd.commands.outputs import output_problems
from hkd.commands.parsing import (
    CommandError,
    Commands,
    add_command,
    fraction_below_one,
    integer_between,
    open_fraction,
)
from hkd.text.output import print_line

LARGEST_BATCH = 256
MOST_DETECTIONS = 2_000
"""Copies of the bounds in hkd.inference.deployed.metadata, whose import would slow ``hkd --help`` down."""


def add_to(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add the command to those of ``hkd``."""
    export = add_command(
        commands,
        "export",
        "write a detector as an ONNX file for a device",
        """\
        Write a detector as one ONNX graph of fixed shapes: images (N, 3, H, W) of 8 bits a channel in; boxes (N, K, 4)
        in pixels, scores (N, K) and their count (N) out. Normalisation, proposals, RoIAlign and both suppressions are
        inside. The file states how pictures are resized, and what it was made from: see docs/deployment.md.

        Needs the packages onnx and onnxruntime: pip install 'hkd[export]'.""",
        """\
        hkd export --weights student.safetensors --out student.onnx
        hkd detect street.jpg --weights student.onnx --out drawn""",
    )
    export.add_argument(
        "--weights",
        type=Path,
        required=True,
        metavar="W",
        help="student.safetensors of a training or a trial; with --config also a state dict (.pth, .pt)",
    )
    export.add_argument("--out", type=Path, required=True, metavar="FILE", help="new file, ending in .onnx")
    export.add_argument(
        "--batch",
        type=partial(integer_between, 1, LARGEST_BATCH),
        default=1,
        metavar="N",
        help="images a call (default: 1)",
    )
    export.add_argument(
        "--max-detections",
        type=partial(integer_between, 1, MOST_DETECTIONS),
        default=None,
        metavar="K",
        help="detections an image (default: evaluation.max_detections_per_image, 100)",
    )
    export.add_argument(
        "--score-threshold",
        type=fraction_below_one,
        metavar="S",
        help="lowest score (default: evaluation.score_threshold, 0.01, because miss rates need low scores)",
    )
    export.add_argument(
        "--nms-iou",
        type=open_fraction,
        metavar="IOU",
        help="largest IoU of two detections (default: evaluation.nms_iou, 0.5)",
    )
    export.add_argument(
        "--config", type=Path, help="configuration (YAML) of the training, required for weights without metadata"
    )
    export.set_defaults(run=_run_export, after_interrupt="Nothing was written.")


def _run_export(options: argparse.Namespace) -> None:
    inputs = [path for path in (options.weights, options.config) if path is not None]
    problems = output_problems({"--out": options.out}, inputs)
    if options.out.suffix != ".onnx":
        problems.append(f"{options.out}: must end in .onnx; runtimes and hkd detect recognise the format by it")
    if problems:
        raise CommandError(*problems)
    from hkd.inference.deployed.packages import required_package

    required_package("onnx")
    from hkd.config import EvaluationConfig
    from hkd.config_files.parsing import load_config

    config = None if options.config is None else load_config(options.config)
    from hkd.export.onnx_export import ExportSettings, export_detector

    defaults = EvaluationConfig() if config is None else config.evaluation
    given = {
        "max_detections": options.max_detections,
        "score_threshold": options.score_threshold,
        "nms_iou": options.nms_iou,
    }
    settings = ExportSettings.of_evaluation(defaults, batch=options.batch, **given)
    exported = export_detector(options.weights, options.out, settings, config=config)
    print_line(f"{exported.path}: {exported.num_bytes / 1e6:.2f} MB, {exported.metadata.precision}")
