"""``hkd detect``: the pedestrians that a detector finds in pictures, drawn or as COCO results."""

from __future__ import annotations

import argparse
from pathlib import Path

from hkd.commands.parsing import CommandError, Commands, add_command, share


def add_to(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add the command to those of ``hkd``."""
    detect = add_command(
        commands,
        "detect",
        "find pedestrians in pictures: draw them, or write COCO results",
        """\
        With --out, write each picture with its pedestrians' boxes and scores (per cent) to DIR, and all to
        detections.json there. With --json, write them as COCO results (image_id, category_id, bbox, score), which
        `hkd evaluate` and the official scripts read. Pictures are turned upright as their EXIF orientation says.""",
        """\
        hkd detect street.jpg --weights runs/train/student/student.safetensors --out drawn
        hkd detect *.png --weights student.safetensors --out drawn --score-threshold 0.3
        hkd detect images/*.png --weights student.safetensors --json found.json --annotations val.json""",
    )
    detect.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="picture file")
    detect.add_argument(
        "--weights",
        type=Path,
        required=True,
        metavar="W",
        help="student.safetensors of a training or a trial; with --config also a state dict (.pth, .pt)",
    )
    detect.add_argument("--out", type=Path, metavar="DIR", help="folder to draw to")
    detect.add_argument("--json", type=Path, metavar="FILE", help="write COCO results to this file")
    detect.add_argument(
        "--annotations",
        type=Path,
        metavar="GT",
        help="COCO-style JSON whose image ids --json takes, by file name (default: the pictures are 1, 2, ... in the "
        "order given, which FILE's neighbour *.images.json lists)",
    )
    detect.add_argument(
        "--score-threshold",
        type=share,
        metavar="S",
        help="leave out boxes below this (default: 0.5 where drawn; 0.01 in --json, as miss rates need)",
    )
    detect.add_argument(
        "--config", type=Path, help="the training's configuration, for weights that do not say it themselves"
    )
    detect.set_defaults(run=_run_detect)


def _run_detect(options: argparse.Namespace) -> None:
    if options.out is None and options.json is None:
        raise CommandError("nothing to write: name a folder to draw to with --out, a file with --json, or both")
    if options.annotations is not None and options.json is None:
        raise CommandError("--annotations gives --json its image ids; name a file with --json, or leave it out")
    from hkd.config_io import load_config

    config = None if options.config is None else load_config(options.config)
    from hkd.inference.picture_detection import CocoResults, detect_command

    results = None if options.json is None else CocoResults(options.json, options.annotations)
    found = detect_command(
        options.images,
        options.weights,
        options.out,
        results=results,
        score_threshold=options.score_threshold,
        config=config,
    )
    for picture in found:
        if picture.drawn is not None:
            count = len(picture.pedestrians)
            print(f"{picture.image}: {count} pedestrian{'' if count == 1 else 's'} -> {picture.drawn}")
    if results is not None:
        ids = (
            f"{results.images_path} lists their ids" if options.annotations is None else f"ids of {options.annotations}"
        )
        print(f"{len(found)} pictures -> {results.path} ({ids})")
