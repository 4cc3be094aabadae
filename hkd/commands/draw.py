"""``hkd draw``: several detectors on the same annotated images, side by side."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from hkd.commands.outputs import output_problems
from hkd.commands.parsing import (
    DEFAULT_MAX_MEGAPIXELS,
    CommandError,
    Commands,
    add_category_names,
    add_command,
    add_max_megapixels,
    integer_between,
    named_paths,
    number_where,
)
from hkd.text.output import print_line

MOST_IMAGES = 100
MOST_DETECTORS = 10
"""A sheet of 100 images by 10 detectors has 130 million pixels."""


def add_to(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add the command to those of ``hkd``."""
    draw = add_command(
        commands,
        "draw",
        "draw the detections of several detectors side by side, with the ground truth",
        """\
        Draw some images of an annotation file, each once per detector, with people, detections and scores (per cent):
        which people does the student miss that its teacher finds? People are white, and yellow where the protocol does
        not count them; detections are green (found), orange (false) or grey (on what does not count).

        Each detector is shown down to the score at which it makes --fppi false positives per image, over all images of
        the file, because equal scores of two detectors do not mean the same. For one detector on any images, without
        annotations, see `hkd detect`.""",
        """\
        hkd draw --annotations test.json --out sheet.png \\
            --weights teacher=teacher.safetensors student=student.safetensors
        hkd draw --annotations val.json --weights student.safetensors --out s.png""",
    )
    draw.add_argument("--annotations", type=Path, required=True, metavar="GT", help="COCO-style JSON, with its images")
    draw.add_argument("--images", type=Path, metavar="DIR", help="folder of the images (default: as GT states)")
    draw.add_argument(
        "--weights",
        nargs="+",
        action="extend",
        required=True,
        metavar="[NAME=]W",
        help="weights as hkd saves them (.safetensors); NAME is drawn (default: name of the file)",
    )
    draw.add_argument("--out", type=Path, required=True, metavar="FILE", help="file of the drawing (.png)")
    draw.add_argument(
        "--count",
        type=partial(integer_between, 1, MOST_IMAGES),
        default=12,
        metavar="N",
        help="images to draw, evenly spaced, those with people first (default: 12)",
    )
    draw.add_argument(
        "--fppi",
        type=_false_positives,
        default=0.1,
        metavar="X",
        help="false positives per image of each detector (default: 0.1)",
    )
    draw.add_argument(
        "--protocol",
        default="citypersons",
        metavar="NAME|FILE",
        help="its first subset decides what counts, as for `hkd evaluate` (default: citypersons)",
    )
    add_category_names(draw)
    add_max_megapixels(draw, default=DEFAULT_MAX_MEGAPIXELS)
    draw.set_defaults(run=_run_draw)


def _run_draw(options: argparse.Namespace) -> None:
    problems: list[str] = []
    paths = named_paths(options.weights, "--weights", problems)
    problems += output_problems({"--out": options.out}, [options.annotations, *paths.values()])
    if options.out.suffix.lower() != ".png":
        problems.append(f"--out {options.out}: allowed suffix: .png")
    if len(paths) > MOST_DETECTORS:
        problems.append(f"--weights: {len(paths)} detectors; allowed: at most {MOST_DETECTORS}")
    if problems:
        raise CommandError(*problems)

    from rich.console import Console
    from rich.markup import escape

    from hkd.coco.categories import CategoryNames
    from hkd.inference.side_by_side import NamedDetector, draw_side_by_side, read_drawing_inputs
    from hkd.text.escaping import printable

    inputs = read_drawing_inputs(
        options.annotations,
        [NamedDetector(name, path) for name, path in paths.items()],
        options.protocol,
        image_root=options.images,
        named=CategoryNames(tuple(options.person), tuple(options.ignore_category)),
        max_megapixels=options.max_megapixels,
    )
    with Console(stderr=True).status("reading") as status:
        sentences = draw_side_by_side(
            inputs,
            options.out,
            count=options.count,
            false_positives_per_image=options.fppi,
            max_megapixels=options.max_megapixels,
            on_step=lambda words: status.update(escape(printable(words))),
        )
    for sentence in sentences:
        print_line(printable(sentence))
    print_line(printable(f"wrote {options.out}"))


def _false_positives(text: str) -> float:
    return number_where(lambda value: 0 <= value <= 1e6, "number from 0 to 1e6", text)
