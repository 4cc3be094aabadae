"""Generated street scenes."""

from __future__ import annotations

import argparse
from functools import partial

from hkd.commands.data.options import add_output, draw_previews
from hkd.commands.parsing import Commands, add_command, integer_between, non_negative_integer
from hkd.text.output import print_line

# Limits of hkd.config.SyntheticConfig, which is not imported here because that takes long.
MOST_SCENES = 1_000_000
SMALLEST_SIDE = 64
LARGEST_SIDE = 16_384


def add_to(data_sets: Commands[argparse.ArgumentParser]) -> None:
    """Add the generated scenes to the data sets of ``hkd data``."""
    parser = add_command(
        data_sets,
        "synthetic",
        "generated street scenes",
        """\
        Draw street scenes with pedestrians. A scene depends on the seed, its number and its size alone. The output
        folder may already contain scenes of the same number, size and seed, but no other annotations.""",
        """\
        hkd data synthetic --out data/scenes --preview 12
        hkd data synthetic --out data/small --train-images 200 --height 192""",
    )
    add_output(parser)
    count = partial(integer_between, 1, MOST_SCENES)
    side = partial(integer_between, SMALLEST_SIDE, LARGEST_SIDE)
    parser.add_argument(
        "--train-images", type=count, default=480, metavar="N", help="number of training scenes (default: 480)"
    )
    parser.add_argument(
        "--validation-images", type=count, default=160, metavar="N", help="number of validation scenes (default: 160)"
    )
    parser.add_argument(
        "--height", type=side, default=288, metavar="PIXELS", help="height of a scene (64 to 16384; default: 288)"
    )
    parser.add_argument(
        "--width", type=side, default=384, metavar="PIXELS", help="width of a scene (64 to 16384; default: 384)"
    )
    parser.add_argument("--seed", type=non_negative_integer, default=0, help="seed of the scenes (default: 0)")
    parser.set_defaults(run=_run_synthetic)


def _run_synthetic(options: argparse.Namespace) -> None:
    from hkd.data.sources.synthetic import write_scenes

    paths = write_scenes(
        options.out,
        train_images=options.train_images,
        validation_images=options.validation_images,
        height=options.height,
        width=options.width,
        seed=options.seed,
    )
    for path in paths:
        print_line(f"wrote {path}")
    draw_previews(paths, options.preview)
