"""Arguments that data sets share, and what the command prints about a conversion."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from hkd.commands.parsing import CommandError, Commands, add_command, integer_between

if TYPE_CHECKING:
    from hkd.data.conversion.summary import ConversionSummary

MAX_PREVIEW_IMAGES = 100
"""The sheet then has 33 million pixels."""


def add_data_set(
    data_sets: Commands[argparse.ArgumentParser], name: str, summary: str, description: str, root: str, example: str
) -> argparse.ArgumentParser:
    """Add a data set with a folder to read from; ``root`` describes its contents."""
    parser = add_command(data_sets, name, summary, description, example)
    parser.add_argument("--root", type=Path, required=True, metavar="ROOT", help=root)
    add_output(parser)
    return parser


def add_output(parser: argparse.ArgumentParser) -> None:
    """Add the output folder and the preview."""
    parser.add_argument("--out", type=Path, required=True, metavar="OUT", help="folder of the annotation files")
    parser.add_argument(
        "--preview",
        type=partial(integer_between, 1, MAX_PREVIEW_IMAGES),
        metavar="N",
        help=f"draw N images of each split (at most {MAX_PREVIEW_IMAGES}) with their boxes to OUT/preview_SPLIT.png",
    )


def add_annotations_only(parser: argparse.ArgumentParser) -> None:
    """Add the flag for conversions without images."""
    parser.add_argument(
        "--annotations-only", action="store_true", help="do not require the images; enough to evaluate detections"
    )


def add_persons(parser: argparse.ArgumentParser) -> None:
    """Add the names of classes of people."""
    parser.add_argument(
        "--person",
        action="append",
        metavar="NAME",
        help="name of a class of people; repeatable (default: person and pedestrian)",
    )


def reject_preview_without_images(options: argparse.Namespace) -> None:
    """Refuse a preview of a conversion that does not read images.

    Raises:
        CommandError: both options are given.
    """
    if options.annotations_only and options.preview is not None:
        raise CommandError("--preview needs the images, which --annotations-only does not read; omit one of the two")


def print_summary(summary: ConversionSummary, options: argparse.Namespace) -> None:
    """Print the counts of a conversion, and draw its previews if requested."""
    print(summary)
    draw_previews(summary.paths, options.preview)


def draw_previews(paths: Sequence[Path], num_images: int | None) -> None:
    """Draw images of each annotation file beside it, unless ``num_images`` is None."""
    if num_images is None:
        return
    from hkd.coco.annotations import read_annotations
    from hkd.data.conversion.preview import draw_preview

    for path in paths:
        preview = path.with_name(f"preview_{path.stem}.png")
        draw_preview(read_annotations(path, check_images=False), preview, num_images)
        print(f"wrote {preview}")
