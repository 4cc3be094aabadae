"""Arguments that data sets share, and what the command prints about a conversion."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from hkd.commands.outputs import output_problems
from hkd.commands.parsing import (
    DEFAULT_MAX_MEGAPIXELS,
    CommandError,
    Commands,
    add_command,
    add_max_megapixels,
    integer_between,
)
from hkd.files import is_device_or_pipe
from hkd.text.output import print_line, print_lines

if TYPE_CHECKING:
    from hkd.data.conversion.summary import ConversionSummary

MAX_PREVIEW_IMAGES = 100
"""The sheet then has 33 million pixels."""
LARGEST_REPORT_BYTES = 1 << 20
"""Reports name a few examples of each kind of note."""


def add_data_set(
    data_sets: Commands[argparse.ArgumentParser], name: str, summary: str, description: str, root: str, example: str
) -> argparse.ArgumentParser:
    """Add a data set with a folder to read from; ``root`` describes its contents."""
    parser = add_command(data_sets, name, summary, description, example)
    parser.add_argument("--root", type=Path, required=True, metavar="ROOT", help=root)
    add_output(parser)
    parser.add_argument(
        "--report",
        type=_report_file,
        metavar="FILE",
        help="write to FILE (JSON) what was read, left out, changed and ignored, with counts and examples",
    )
    add_max_megapixels(parser, default=DEFAULT_MAX_MEGAPIXELS)
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


def _report_file(text: str) -> Path:
    path = Path(text)
    problems = output_problems({"--report": path}, [])
    if not problems and path.exists() and not is_device_or_pipe(path) and not _is_report(path):
        problems = [f"{path}: exists and is no report of a conversion; give --report another file"]
    if problems:
        raise argparse.ArgumentTypeError(problems[0])
    return path


def _is_report(path: Path) -> bool:
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(document, dict) and {"data_set", "notes", "splits"} <= document.keys()


def add_annotations_only(parser: argparse.ArgumentParser) -> None:
    """Add the flag for conversions without images."""
    parser.add_argument(
        "--annotations-only", action="store_true", help="do not require the images; enough to evaluate detections"
    )


def add_skip_missing(parser: argparse.ArgumentParser) -> None:
    """Add the flag for data sets that are not complete."""
    parser.add_argument(
        "--skip-missing",
        action="store_true",
        help="leave images out whose files do not exist, with their boxes; the summary counts them",
    )


def add_categories(parser: argparse.ArgumentParser) -> None:
    """Add the names of categories of people and of ignore regions."""
    parser.add_argument(
        "--person",
        action="append",
        default=[],
        metavar="NAME",
        help="name of a category of people; repeatable (default: pedestrian or person)",
    )
    parser.add_argument(
        "--ignore-category",
        action="append",
        default=[],
        metavar="NAME",
        help="name of a category whose boxes are ignore regions; repeatable (always: names such as 'ignore region' and"
        " 'DontCare'). Boxes of all other categories are left out",
    )


def reject_preview_without_images(options: argparse.Namespace) -> None:
    """Refuse a preview of a conversion that does not read images.

    Raises:
        CommandError: both options are given.
    """
    if options.annotations_only and options.preview is not None:
        raise CommandError("--preview needs the images, which --annotations-only does not read; omit one of the two")


def print_summary(summary: ConversionSummary, options: argparse.Namespace) -> None:
    """Print the counts of a conversion, write its report, and draw its previews, if requested."""
    print_lines(str(summary))
    if options.report is not None:
        from hkd.files import write_json

        write_json(options.report, {"data_set": options.source, "root": str(options.root), **summary.to_json()})
        print_line(f"wrote {options.report}")
    draw_previews(summary.paths, options.preview, options.max_megapixels)


def draw_previews(
    paths: Sequence[Path], num_images: int | None, max_megapixels: float = DEFAULT_MAX_MEGAPIXELS
) -> None:
    """Draw images of each annotation file beside it, unless ``num_images`` is None."""
    if num_images is None:
        return
    from hkd.coco.annotations import read_annotations
    from hkd.data.conversion.preview import draw_preview

    for path in paths:
        preview = path.with_name(f"preview_{path.stem}.png")
        draw_preview(read_annotations(path, check_images=False), preview, num_images, max_megapixels)
        print_line(f"wrote {preview}")
