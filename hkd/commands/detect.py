"""``hkd detect``: detection in image files, drawn or as COCO results."""

from __future__ import annotations

import argparse
from pathlib import Path

from hkd.commands.parsing import CommandError, Commands, add_command, add_max_megapixels, fraction_below_one
from hkd.text.output import print_line


def add_to(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add the command to those of ``hkd``."""
    detect = add_command(
        commands,
        "detect",
        "detect pedestrians in images: draw them or write COCO results",
        """\
        Detect pedestrians in images, and in all images of folders, such as frames of videos. At least one of --out and
        --json is needed. An image that cannot be read is left out and listed at the end, with exit code 2.

        With --out, write each image with its detections' boxes and scores (per cent) to DIR, and a list of all to
        DIR/detections.json. With --json, write COCO results (image_id, category_id, bbox, score), as read by
        `hkd evaluate` and pycocotools. Images are rotated to their EXIF orientation.""",
        """\
        hkd detect street.jpg --weights student.safetensors --out drawn
        hkd detect frames --weights student.onnx --out out --score-threshold 0.3
        hkd detect images/*.png --weights student.safetensors \\
            --json detections.json --annotations val.json""",
    )
    detect.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="image file, or folder of some")
    detect.add_argument(
        "--weights",
        type=Path,
        required=True,
        metavar="W",
        help="student.safetensors of a training or a trial, or the .onnx file of hkd export; with --config also a "
        "state dict (.pth, .pt)",
    )
    detect.add_argument("--out", type=Path, metavar="DIR", help="folder of the drawn images and detections.json")
    detect.add_argument("--json", type=Path, metavar="FILE", help="file of the COCO results")
    detect.add_argument(
        "--annotations",
        type=Path,
        metavar="GT",
        help="COCO-style JSON that gives --json the image ids, by file name (default: 1, 2, ... in the order given, "
        "listed in *.images.json next to FILE)",
    )
    detect.add_argument(
        "--score-threshold",
        type=fraction_below_one,
        metavar="S",
        help="lowest score in [0, 1] (default: 0.5 for --out; 0.01 for --json, because miss rates need low scores)",
    )
    detect.add_argument(
        "--config", type=Path, help="configuration (YAML) of the training, required for weights without metadata"
    )
    add_max_megapixels(detect, default=None)
    detect.set_defaults(run=_run_detect)


def _run_detect(options: argparse.Namespace) -> None:
    if options.out is None and options.json is None:
        raise CommandError("nothing to write: give a folder with --out, a file with --json, or both")
    if options.annotations is not None and options.json is None:
        raise CommandError("--annotations is used by --json only: give a file with --json, or leave --annotations out")
    from hkd.config_files.parsing import load_config

    config = None if options.config is None else load_config(options.config)
    from hkd.inference.picture_detection import CocoResults, detect_command

    results = None if options.json is None else CocoResults(options.json, options.annotations)
    unreadable: list[str] = []
    found = detect_command(
        options.images,
        options.weights,
        options.out,
        results=results,
        score_threshold=options.score_threshold,
        config=config,
        max_megapixels=options.max_megapixels,
        unreadable=unreadable,
    )
    for picture in found:
        if picture.drawn is not None:
            count = len(picture.pedestrians)
            print_line(f"{picture.image}: {count} pedestrian{'' if count == 1 else 's'} -> {picture.drawn}")
    if results is not None:
        ids = f"image ids: {options.annotations}" if options.annotations else f"image ids: see {results.images_path}"
        print_line(f"{len(found)} images -> {results.path} ({ids})")
    if unreadable:
        count = len(unreadable)
        raise CommandError(
            f"{count} of {len(found) + count} images could not be read; the others are done:", *unreadable
        )
