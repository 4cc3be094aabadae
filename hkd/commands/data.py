"""``hkd data``: bring a data set into the one format that hkd reads."""

from __future__ import annotations

import argparse
from pathlib import Path

from hkd.commands.parsing import Commands, add_command, count, number_from, refusals, whole_number


def add_to(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add the command to those of ``hkd``."""
    data = add_command(
        commands,
        "data",
        "bring a data set into the one format that hkd reads",
        """\
        Everything in hkd reads COCO-style JSON: images (id, file_name, height, width) and annotations with bbox
        [x, y, width, height] of the full body in pixels, and where known vis_bbox, vis_ratio, height, ignore (0/1),
        iscrowd. A data set of your own in that format needs no conversion: name it in data.train_annotations and
        data.validation_annotations.""",
        """\
        hkd data pennfudan --root downloads/PennFudanPed --out data/pennfudan
        hkd data synthetic --out data/scenes --train-images 200 --validation-images 50""",
    )
    sources = data.add_subparsers(dest="source", metavar="SOURCE", required=True)

    pennfudan = add_command(
        sources,
        "pennfudan",
        "the 170 photographs of Penn-Fudan",
        "Convert the Penn-Fudan database and split it, always in the same way, into training and validation images.",
        "hkd data pennfudan --root downloads/PennFudanPed --out data/pennfudan",
    )
    pennfudan.add_argument(
        "--root", type=Path, required=True, metavar="DIR", help="folder that holds PNGImages and Annotation"
    )
    pennfudan.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write to")
    pennfudan.add_argument("--seed", type=whole_number, default=0, help="of the split (default: 0)")
    pennfudan.add_argument(
        "--train-images", type=count, default=120, metavar="N", help="the rest is for validation (default: 120)"
    )
    pennfudan.set_defaults(run=_run_pennfudan)

    synthetic = add_command(
        sources,
        "synthetic",
        "generated street scenes",
        "Draw street scenes; each is a function of the seed and its number alone.",
        "hkd data synthetic --out data/scenes --train-images 200 --validation-images 50",
    )
    synthetic.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write to")
    synthetic.add_argument("--train-images", type=count, default=480, metavar="N", help="(default: 480)")
    synthetic.add_argument("--validation-images", type=count, default=160, metavar="N", help="(default: 160)")
    synthetic.add_argument("--height", type=_scene_side, default=288, metavar="PIXELS", help="(default: 288)")
    synthetic.add_argument("--width", type=_scene_side, default=384, metavar="PIXELS", help="(default: 384)")
    synthetic.add_argument("--seed", type=whole_number, default=0, help="(default: 0)")
    synthetic.set_defaults(run=_run_synthetic)


def _scene_side(text: str) -> int:
    return number_from(64, text)


def _run_pennfudan(options: argparse.Namespace) -> None:
    from hkd.data.sources.pennfudan import convert

    with refusals():
        print(convert(options.root, options.out, seed=options.seed, train_images=options.train_images))


def _run_synthetic(options: argparse.Namespace) -> None:
    from hkd.data.sources.synthetic import write_scenes

    with refusals():
        paths = write_scenes(
            options.out,
            train_images=options.train_images,
            validation_images=options.validation_images,
            height=options.height,
            width=options.width,
            seed=options.seed,
        )
    print(f"wrote {paths[0]}\nwrote {paths[1]}")
