"""``hkd label``: a teacher's labels of images that have none."""

from __future__ import annotations

import argparse
from pathlib import Path

from hkd.commands.outputs import output_problems
from hkd.commands.parsing import (
    CommandError,
    Commands,
    add_category_names,
    add_command,
    add_max_megapixels,
    positive_fraction,
)
from hkd.text.output import print_line


def add_to(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add the command to those of ``hkd``."""
    label = add_command(
        commands,
        "label",
        "label images with a teacher's detections",
        """\
        Detect people in all images in DIR, at any depth, such as frames of videos, and write them as an annotation
        file, which every command of hkd reads. Detections of high scores are people, doubtful ones ignore regions, and
        others are left out. Both scores are chosen on annotated images, with --validation, or given. No annotations
        of the images in DIR are read.

        A training labels its own images: see data.unlabelled_images in docs/unlabelled.md.""",
        """\
        hkd label frames --weights teacher.safetensors --out frames.json \\
            --validation val.json
        hkd label frames --weights teacher.safetensors --out frames.json \\
            --object-score 0.7 --ignored-score 0.2""",
    )
    label.add_argument("folder", type=Path, metavar="DIR", help="folder of images")
    label.add_argument(
        "--weights",
        type=Path,
        required=True,
        metavar="W",
        help="weights of the teacher (.safetensors of hkd); with --config also a state dict (.pth, .pt)",
    )
    label.add_argument("--out", type=Path, required=True, metavar="FILE", help="new annotation file")
    label.add_argument(
        "--validation",
        type=Path,
        metavar="GT",
        help="COCO-style JSON of annotated images, on which the scores are chosen that are not given; none of them may "
        "be in DIR",
    )
    label.add_argument("--images", type=Path, metavar="DIR", help="folder of the images of GT (default: as GT states)")
    label.add_argument(
        "--object-score",
        type=positive_fraction,
        metavar="S",
        help="detections from this score on are people (default: the lowest at which 70 %% of them are, on GT)",
    )
    label.add_argument(
        "--ignored-score",
        type=positive_fraction,
        metavar="S",
        help="other detections from this score on are ignore regions (default: the lowest at which 10 %% of them are "
        "people, on GT)",
    )
    label.add_argument(
        "--config",
        type=Path,
        help="configuration (YAML) with the teacher, required for weights without metadata",
    )
    add_category_names(label)
    add_max_megapixels(label, default=None)
    label.set_defaults(run=_run_label)


def _run_label(options: argparse.Namespace) -> None:
    _check(options)
    from hkd.coco.categories import CategoryNames
    from hkd.config_files.parsing import load_config

    config = None if options.config is None else load_config(options.config)
    from hkd.inference.labelling import ScoreSources, label_folder

    scores = ScoreSources(
        options.object_score,
        options.ignored_score,
        options.validation,
        options.images,
        CategoryNames(tuple(options.person), tuple(options.ignore_category)),
    )
    summary = label_folder(
        options.folder, options.weights, options.out, scores, config=config, max_megapixels=options.max_megapixels
    )
    print_line(f"{options.out}: {summary}")


def _check(options: argparse.Namespace) -> None:
    """Raise a CommandError with everything that is wrong with the options."""
    inputs = [path for path in (options.weights, options.validation, options.config) if path is not None]
    problems = output_problems({"--out": options.out}, inputs)
    if options.out.is_file():
        problems.append(f"{options.out}: exists already, and perhaps was corrected by hand; give --out another file")
    lower, upper = options.ignored_score, options.object_score
    if options.validation is None and (lower is None or upper is None):
        problems.append(
            "the scores are unknown: give annotated images with --validation, or both --object-score and "
            "--ignored-score"
        )
    if options.validation is None and options.images is not None:
        problems.append("--images is used with --validation only: give both, or neither")
    if lower is not None and upper is not None and lower > upper:
        problems.append(f"--ignored-score {lower:g} is above --object-score {upper:g}; give it a lower score")
    if problems:
        raise CommandError(*problems)
