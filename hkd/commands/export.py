"""``hkd export``: a detector as an ONNX file."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from hkd.commands.outputs import output_problems
from hkd.commands.parsing import (
    CommandError,
    Commands,
    add_category_names,
    add_command,
    add_max_megapixels,
    fraction_below_one,
    integer_between,
    number_where,
    open_fraction,
)
from hkd.text.output import print_line

if TYPE_CHECKING:
    from onnx import ModelProto

    from hkd.config import TrialConfig
    from hkd.inference.deployed.metadata import DeployedMetadata

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
        hkd export --weights student.safetensors --out student-int8.onnx --int8 \\
            --calibration train.json --validation val.json
        hkd export --study inria --trial trial-012 --out student.onnx
        hkd export --study inria --trial trial-012 --out student-int8.onnx --int8
        hkd detect street.jpg --weights student.onnx --out drawn""",
    )
    export.add_argument(
        "--weights",
        type=Path,
        metavar="W",
        help="student.safetensors of a training or a trial; with --config also a state dict (.pth, .pt)",
    )
    export.add_argument("--trial", metavar="ID", help="instead of --weights: a trial that was trained to its end")
    export.add_argument("--study", metavar="NAME", help="with --trial: name of its study")
    export.add_argument(
        "--storage", type=Path, metavar="DIR", help="with --trial: storage_path of the study (default: runs)"
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
    _add_int8(export)
    export.add_argument(
        "--config", type=Path, help="configuration (YAML) of the training, required for weights without metadata"
    )
    export.set_defaults(run=_run_export, after_interrupt="Nothing was written.")


def _add_int8(export: argparse.ArgumentParser) -> None:
    export.add_argument(
        "--int8",
        action="store_true",
        help="quantise layers to INT8, as long as MR^-2 on --validation rises by at most --max-drop; parts of the "
        "network that cost more stay in fp32",
    )
    export.add_argument(
        "--calibration",
        type=Path,
        metavar="GT",
        help="with --int8: annotation file of training images, which are compared with those of --trial or --config "
        "(default: these)",
    )
    export.add_argument(
        "--validation",
        type=Path,
        metavar="GT",
        help="with --int8: annotation file of validation images, none of which is a training image (default: those of "
        "--trial or --config)",
    )
    export.add_argument(
        "--images",
        type=Path,
        metavar="DIR",
        help="folder of the images of --calibration and --validation (default: as these files state)",
    )
    export.add_argument(
        "--max-drop",
        type=_points,
        metavar="P",
        help="with --int8: largest rise of MR^-2 reasonable, points of per cent (default: 1.0)",
    )
    add_category_names(export)
    add_max_megapixels(export, default=None)


def _points(text: str) -> float:
    return number_where(lambda value: 0.0 <= value <= 100.0, "number from 0 to 100", text)


def _check(options: argparse.Namespace) -> None:
    """Raise a CommandError with everything that is wrong with the options."""
    given = (options.weights, options.config, options.calibration, options.validation)
    problems = output_problems({"--out": options.out}, [path for path in given if path is not None])
    if (options.weights is None) == (options.trial is None):
        problems.append("give either a file of weights with --weights, or a trial with --trial and --study")
    if (options.trial is None) != (options.study is None) or (options.storage is not None and options.study is None):
        problems.append("--trial and --study are used together, and --storage with them only")
    if options.config is not None and options.trial is not None:
        problems.append("--config is used with --weights only: a trial has its own configuration")
    if options.out.suffix != ".onnx":
        problems.append(f"{options.out}: must end in .onnx; runtimes and hkd detect recognise the format by it")
    problems += _int8_problems(options)
    if problems:
        raise CommandError(*problems)


def _int8_problems(options: argparse.Namespace) -> list[str]:
    files = {"--calibration": options.calibration, "--validation": options.validation}
    of_files = {"--images": options.images, "--person": options.person, "--ignore-category": options.ignore_category}
    used = {**files, **of_files, "--max-drop": options.max_drop}
    unused = [name for name, value in used.items() if value not in (None, [])]
    if not options.int8:
        return [f"{', '.join(unused)}: used with --int8 only; give it, or leave them out"] if unused else []
    missing = [name for name, path in files.items() if path is None]
    if len(missing) == 1:
        return [f"--int8: {missing[0]} is missing; give annotation files of training and validation images"]
    if not missing:
        return []
    problems = []
    if options.trial is None and options.config is None:
        problems.append(
            "--int8 needs images: give --calibration and --validation, annotation files of training and validation "
            "images, or --study and --trial, or --config, which name those of the training"
        )
    unused = [name for name, value in of_files.items() if value]
    if unused:
        problems.append(f"{', '.join(unused)}: used with --calibration and --validation only")
    return problems


def _run_export(options: argparse.Namespace) -> None:
    _check(options)
    from hkd.inference.deployed.packages import required_package

    for package in ("onnx", "onnxruntime") if options.int8 else ("onnx",):
        required_package(package)
    from hkd.config import EvaluationConfig
    from hkd.config_files.parsing import load_config
    from hkd.export.onnx_export import ExportSettings, detector_model, write_model
    from hkd.export.study_trials import trial_weights
    from hkd.inference.deployed.metadata import StudyIdentity
    from hkd.metric_names import ARTIFACT_CONFIG

    config = None if options.config is None else load_config(options.config)
    training, weights, study = config, options.weights, None
    if options.trial is not None:
        weights = trial_weights(options.storage or Path("runs"), options.study, options.trial)
        study = StudyIdentity(study=options.study, trial=options.trial)
        training = load_config(weights.with_name(ARTIFACT_CONFIG))
    evaluation = EvaluationConfig() if training is None else training.evaluation
    settings = ExportSettings.of_evaluation(
        evaluation,
        batch=options.batch,
        max_detections=options.max_detections,
        score_threshold=options.score_threshold,
        nms_iou=options.nms_iou,
    )
    model, metadata = detector_model(weights, settings, config=config, study=study)
    costs = ""
    if options.int8:
        model, metadata, costs = _quantised(options, model, metadata, training)
    exported = write_model(model, metadata, options.out)
    print_line(f"{exported.path}: {exported.num_bytes / 1e6:.2f} MB, {exported.metadata.precision}{costs}")


def _quantised(
    options: argparse.Namespace, model: ModelProto, metadata: DeployedMetadata, training: TrialConfig | None
) -> tuple[ModelProto, DeployedMetadata, str]:
    """The INT8 graph, its metadata, and what it costs, for the user.

    Args:
        training: configuration of the training, where it is known.
    """
    from hkd.coco.notes import counted
    from hkd.export.quantisation import DEFAULT_MAX_DROP, quantise
    from hkd.export.quantisation_images import compare_with_training, read_given, read_of_training
    from hkd.image_files.headers import DEFAULT_MAX_MEGAPIXELS

    max_megapixels = DEFAULT_MAX_MEGAPIXELS if options.max_megapixels is None else options.max_megapixels
    not_compared = None
    if options.calibration is None:
        assert training is not None, "checked with the options"
        if options.max_megapixels is None:
            max_megapixels = training.data.max_megapixels
        images = read_of_training(training.data.model_copy(update={"max_megapixels": max_megapixels}))
    else:
        images = read_given(
            options.calibration,
            options.validation,
            options.images,
            people=options.person,
            ignored=options.ignore_category,
            max_megapixels=max_megapixels,
        )
        not_compared = compare_with_training(*images, None if training is None else training.data)
    for purpose, used in zip(("Calibration", "Validation"), images, strict=True):
        print_line(f"{purpose}: {used.path}, {counted(len(used.images), 'image')}")
    if not_compared is not None:
        print_line(f"Not compared with the images of the training: {not_compared}")
    found = quantise(
        model,
        metadata,
        *images,
        max_drop=DEFAULT_MAX_DROP if options.max_drop is None else options.max_drop,
        evaluation=None if training is None else training.evaluation,
        max_megapixels=max_megapixels,
        compared_with_training=not_compared is None,
        progress=True,
    )
    left = ", ".join(found.metadata.fp32_layers)
    costs = (
        f"; MR^-2 on validation {100 * found.fp32_miss_rate:.2f} % in fp32, {100 * found.miss_rate:.2f} % in INT8"
        f"{f', with {left} in fp32' if left else ''}"
    )
    return found.model, found.metadata, costs
