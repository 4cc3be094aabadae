"""``hkd init``: describe annotations and propose a first training and study."""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path

from hkd.commands.parsing import (
    DEFAULT_MAX_MEGAPIXELS,
    Commands,
    add_category_names,
    add_command,
    add_max_megapixels,
    non_negative_integer,
    open_fraction,
)

DEFAULT_OUT = Path("hkd-start")


def add_to(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add the command to those of ``hkd``."""
    init = add_command(
        commands,
        "init",
        "start here: describe your annotations and propose configurations",
        """\
        Read COCO-style JSON (for other formats, `hkd data --help`) and find its images. Print what they contain: sizes
        of images and people, boxes that count and that are ignored, images that are missing. Then write to OUT:
        train.json and validation.json, the boxes that are used; train.yaml, a training of a light student with its
        teacher; study.yaml, a search for the best students. Comments in both state the measurement that each value
        follows from. The commands to run next are printed.

        Without --validation, some images are chosen for validation. If the names of the images are those of frames of
        videos (set00_V000_I00029, aachen_000000_000019, walk/frame_0001), frames of one video stay together.

        OUT is named in the configurations as it is given: relative to the folder in which the commands are run, or
        absolute. Existing files with another content are not overwritten.""",
        """\
        hkd init --annotations mine.json --images photos
        hkd init --annotations train.json --validation val.json --images photos
        hkd init --annotations mine.json --person walker --person child --out start
        hkd init --annotations mine.json --images photos --input-size 640x480""",
    )
    init.add_argument(
        "--annotations",
        type=Path,
        required=True,
        metavar="FILE",
        help="COCO-style JSON of all, or of the training images",
    )
    init.add_argument(
        "--images",
        type=Path,
        metavar="DIR",
        help="folder in or below which the images are (default: info.image_root, or the folder of FILE)",
    )
    init.add_argument("--validation", type=Path, metavar="FILE", help="COCO-style JSON of the validation images")
    add_category_names(init)
    init.add_argument(
        "--out", type=Path, default=DEFAULT_OUT, metavar="OUT", help=f"folder of the results (default: {DEFAULT_OUT})"
    )
    init.add_argument(
        "--validation-fraction",
        type=open_fraction,
        default=0.2,
        metavar="X",
        help="fraction of the images for validation, without --validation (default: 0.2)",
    )
    init.add_argument("--seed", type=non_negative_integer, default=0, help="seed of that split (default: 0)")
    init.add_argument(
        "--input-size",
        type=_input_size,
        metavar="WxH",
        help="width and height of the network's input, multiples of 32 (default: proposed)",
    )
    init.add_argument(
        "--skip-missing", action="store_true", help="leave out images that are not in DIR, with their boxes"
    )
    add_max_megapixels(init, default=DEFAULT_MAX_MEGAPIXELS)
    init.set_defaults(run=_run_init)


def _run_init(options: argparse.Namespace) -> None:
    from hkd.coco.categories import CategoryNames
    from hkd.proposal.report_text import report_text
    from hkd.proposal.start import prepare_start, write_start
    from hkd.text.escaping import printable
    from hkd.text.output import print_line, print_lines

    start = prepare_start(
        options.annotations,
        options.out,
        validation=options.validation,
        image_root=options.images,
        named=CategoryNames(tuple(options.person), tuple(options.ignore_category)),
        validation_fraction=options.validation_fraction,
        seed=options.seed,
        input_size=options.input_size,
        skip_missing=options.skip_missing,
        max_megapixels=options.max_megapixels,
    )
    print_lines(report_text(start.proposal, start.image_root, start.split_rule, start.notes))
    write_start(start)
    print_line(f"wrote {', '.join(map(str, start.contents))}")
    config, study = (shlex.quote(printable(str(options.out / name))) for name in ("train.yaml", "study.yaml"))
    print_lines(
        f"next:\n"
        f"  hkd train {config} --out runs/train/{start.study_name}  # one student with its teacher\n"
        f"  python sweeps/run.py --config {study} --dry-run  # checks the study, prints its sizes\n"
        f"  python sweeps/run.py --config {study}\n"
        f"  python analysis/pareto.py --study {start.study_name}"
    )


def _input_size(text: str) -> tuple[int, int]:
    """Height and width of ``WIDTHxHEIGHT``."""
    match = re.fullmatch("([0-9]{1,5})[xX]([0-9]{1,5})", text)
    sides = [int(side) for side in match.groups()] if match else []
    if not sides or any(side % 32 or not 64 <= side <= 8192 for side in sides):
        raise argparse.ArgumentTypeError(
            f'found "{text}"; allowed: WIDTHxHEIGHT in pixels, multiples of 32 from 64 to 8192, such as 640x480'
        )
    width, height = sides
    return height, width
