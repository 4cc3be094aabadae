"""``hkd detect``: draw the pedestrians that a detector finds."""

from __future__ import annotations

import argparse
from pathlib import Path

from hkd.commands.parsing import Commands, add_command, share


def add_to(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add the command to those of ``hkd``."""
    detect = add_command(
        commands,
        "detect",
        "draw the pedestrians that a detector finds in pictures",
        "Write each picture with its pedestrians' boxes and scores (per cent) to DIR, and all to detections.json.",
        """\
        hkd detect street.jpg --weights runs/train/student/student.safetensors --out drawn
        hkd detect *.png --weights student.safetensors --out drawn --score-threshold 0.3""",
    )
    detect.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="picture file")
    detect.add_argument(
        "--weights", type=Path, required=True, metavar="W", help="student.safetensors of a training or a trial"
    )
    detect.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write to")
    detect.add_argument(
        "--score-threshold", type=share, default=0.5, metavar="S", help="leave out boxes below this (default: 0.5)"
    )
    detect.add_argument(
        "--config", type=Path, help="the training's configuration, for weights that do not say it themselves"
    )
    detect.set_defaults(run=_run_detect)


def _run_detect(options: argparse.Namespace) -> None:
    from hkd.config_io import load_config

    config = None if options.config is None else load_config(options.config)
    from hkd.training.detect import detect_command

    found = detect_command(
        options.images, options.weights, options.out, score_threshold=options.score_threshold, config=config
    )
    for picture in found:
        count = len(picture.pedestrians)
        print(f"{picture.image}: {count} pedestrian{'' if count == 1 else 's'} -> {picture.drawn}")
