"""``hkd data``: convert a data set to the annotation format of hkd."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from hkd.commands.parsing import (
    CommandError,
    Commands,
    add_command,
    integer_at_least,
    integer_between,
    non_negative_integer,
    positive_integer,
)

if TYPE_CHECKING:
    from hkd.data.conversion.summary import ConversionSummary

MAX_PREVIEW_IMAGES = 100
"""The sheet then has 33 million pixels."""


def add_to(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add the command to those of ``hkd``."""
    data = add_command(
        commands,
        "data",
        "convert a data set to the annotation format of hkd",
        """\
        hkd reads COCO-style JSON. Images have id, file_name, height and width; annotations have id, image_id,
        category_id and bbox, [x, y, width, height] of the full body in pixels; one category is named pedestrian or
        person. Optional fields of annotations: vis_bbox (visible part), vis_ratio (visible fraction), height (pixels),
        ignore (0/1), iscrowd (0/1), occluded (0/1), and label, the data set's class of boxes that are not pedestrians.

        A data set that is in this format already needs no conversion: set data.train_annotations and
        data.validation_annotations in the configuration of a training.

        Images stay where they are; only frames of videos are extracted to the output folder. A conversion prints how
        many boxes it ignored, clipped or dropped. If files or records are invalid, it reports all of them and writes no
        annotations.""",
        """\
        hkd data pennfudan --root downloads/PennFudanPed --out data/pennfudan
        hkd data synthetic --out data/scenes --train-images 200 --preview 12
        hkd data caltech --help""",
    )
    data_sets = data.add_subparsers(dest="source", metavar="DATA_SET", required=True)
    _add_pennfudan(data_sets)
    _add_caltech(data_sets)
    _add_citypersons(data_sets)
    _add_crowdhuman(data_sets)
    _add_eurocity(data_sets)
    _add_coco(data_sets)
    _add_yolo(data_sets)
    _add_synthetic(data_sets)


def _add_data_set(
    data_sets: Commands[argparse.ArgumentParser], name: str, summary: str, description: str, root: str, example: str
) -> argparse.ArgumentParser:
    """Add a data set with a folder to read from; ``root`` describes its contents."""
    parser = add_command(data_sets, name, summary, description, example)
    parser.add_argument("--root", type=Path, required=True, metavar="ROOT", help=root)
    _add_output(parser)
    return parser


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, required=True, metavar="OUT", help="folder of the annotation files")
    parser.add_argument(
        "--preview",
        type=partial(integer_between, 1, MAX_PREVIEW_IMAGES),
        metavar="N",
        help=f"draw N images of each split (at most {MAX_PREVIEW_IMAGES}) with their boxes to OUT/preview_SPLIT.png",
    )


def _add_annotations_only(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--annotations-only", action="store_true", help="do not require the images; enough to evaluate detections"
    )


def _add_persons(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--person",
        action="append",
        metavar="NAME",
        help="name of a class of people; repeatable (default: person and pedestrian)",
    )


def _reject_preview_without_images(options: argparse.Namespace) -> None:
    if options.annotations_only and options.preview is not None:
        raise CommandError("--preview needs the images, which --annotations-only does not read; omit one of the two")


def _print_summary(summary: ConversionSummary, options: argparse.Namespace) -> None:
    print(summary)
    _draw_previews(summary.paths, options.preview)


def _draw_previews(paths: Sequence[Path], num_images: int | None) -> None:
    if num_images is None:
        return
    from hkd.coco.annotations import read_annotations
    from hkd.data.conversion.preview import draw_preview

    for path in paths:
        preview = path.with_name(f"preview_{path.stem}.png")
        draw_preview(read_annotations(path, check_images=False), preview, num_images)
        print(f"wrote {preview}")


def _add_pennfudan(data_sets: Commands[argparse.ArgumentParser]) -> None:
    parser = _add_data_set(
        data_sets,
        "pennfudan",
        "Penn-Fudan: 170 photographs",
        """\
        Convert the Penn-Fudan database and split its images at random into training and validation images. The same
        seed gives the same split.""",
        "folder that contains PNGImages and Annotation",
        "hkd data pennfudan --root downloads/PennFudanPed --out data/pennfudan",
    )
    parser.add_argument("--seed", type=non_negative_integer, default=0, help="seed of the split (default: 0)")
    parser.add_argument(
        "--train-images",
        type=positive_integer,
        default=120,
        metavar="N",
        help="number of training images; the others are for validation (default: 120)",
    )
    parser.set_defaults(run=_run_pennfudan)


def _run_pennfudan(options: argparse.Namespace) -> None:
    from hkd.data.sources.pennfudan import convert

    _print_summary(
        convert(options.root, options.out, seed=options.seed, train_images=options.train_images),
        options,
    )


def _add_caltech(data_sets: Commands[argparse.ArgumentParser]) -> None:
    parser = _add_data_set(
        data_sets,
        "caltech",
        "Caltech-USA: videos",
        """\
        Convert the training sets 00 to 05 and the test sets 06 to 10, as far as they exist, sampled as in the
        benchmark. Frames are extracted from setNN/VNNN.seq to the output folder, or used in place if they are already
        extracted as setNN_VNNN_INNNNN.jpg. Boxes with another label than "person" are ignored.""",
        "folder that contains, in any sub-folder, the annotations (.vbb, or the new ones) and videos (.seq) or frames",
        """\
        hkd data caltech --root downloads/caltech --out data/caltech --preview 12
        hkd data caltech --root downloads/caltech --out data/truth --annotations-only""",
    )
    parser.add_argument(
        "--every", type=positive_integer, default=30, metavar="N", help="use every Nth frame (default: 30)"
    )
    parser.add_argument(
        "--annotations",
        choices=("original", "new"),
        default="original",
        help="original: .vbb files; new: the corrected annotations of 2016, text files or JSON (default: original)",
    )
    _add_annotations_only(parser)
    parser.set_defaults(run=_run_caltech)


def _run_caltech(options: argparse.Namespace) -> None:
    from hkd.data.sources.caltech.convert import convert

    _reject_preview_without_images(options)
    summary = convert(
        options.root,
        options.out,
        every=options.every,
        annotations=options.annotations,
        annotations_only=options.annotations_only,
    )
    _print_summary(summary, options)


def _add_citypersons(data_sets: Commands[argparse.ArgumentParser]) -> None:
    parser = _add_data_set(
        data_sets,
        "citypersons",
        "CityPersons: .mat files, or val_gt.json",
        """\
        Convert anno_train.mat and anno_val.mat (or val_gt.json instead), as far as they exist. Riders, sitting persons,
        other persons, groups and ignore regions are ignored.""",
        "folder that contains the annotations and Cityscapes' leftImg8bit",
        "hkd data citypersons --root downloads/cityscapes --out data/citypersons",
    )
    _add_annotations_only(parser)
    parser.set_defaults(run=_run_citypersons)


def _run_citypersons(options: argparse.Namespace) -> None:
    from hkd.data.sources.citypersons import convert

    _reject_preview_without_images(options)
    _print_summary(convert(options.root, options.out, annotations_only=options.annotations_only), options)


def _add_crowdhuman(data_sets: Commands[argparse.ArgumentParser]) -> None:
    parser = _add_data_set(
        data_sets,
        "crowdhuman",
        "CrowdHuman: .odgt files",
        """\
        Convert annotation_train.odgt and annotation_val.odgt, as far as they exist. Masks, and boxes that the data set
        marks as ignored, are ignored.""",
        "folder that contains the .odgt files, and Images with the images of all archives",
        "hkd data crowdhuman --root downloads/CrowdHuman --out data/crowdhuman",
    )
    parser.set_defaults(run=_run_crowdhuman)


def _run_crowdhuman(options: argparse.Namespace) -> None:
    from hkd.data.sources.crowdhuman import convert

    _print_summary(convert(options.root, options.out), options)


def _add_eurocity(data_sets: Commands[argparse.ArgumentParser]) -> None:
    parser = _add_data_set(
        data_sets,
        "eurocity",
        "EuroCity Persons: JSON files",
        """\
        Convert the day and night, training and validation images, as far as they exist. Riders, distant groups, and
        people who sit, lie, are behind glass, or are depictions or reflections, are ignored.""",
        "folder that contains day and night, or ECP",
        "hkd data eurocity --root downloads/ECP --out data/eurocity --preview 12",
    )
    parser.set_defaults(run=_run_eurocity)


def _run_eurocity(options: argparse.Namespace) -> None:
    from hkd.data.sources.eurocity import convert

    _print_summary(convert(options.root, options.out), options)


def _add_coco(data_sets: Commands[argparse.ArgumentParser]) -> None:
    parser = _add_data_set(
        data_sets,
        "coco",
        "a folder in COCO's layout, filtered to people",
        """\
        Convert annotations/instances_SPLIT.json (or SPLIT/_annotations.coco.json) and keep the boxes of people. Crowds
        (iscrowd) are ignored. Image ids do not change.""",
        "folder that contains annotations and the folders of the images",
        "hkd data coco --root downloads/coco --out data/coco --preview 12",
    )
    _add_persons(parser)
    parser.set_defaults(run=_run_coco)


def _run_coco(options: argparse.Namespace) -> None:
    from hkd.data.sources.coco_folder import DEFAULT_PERSON_NAMES, convert

    _print_summary(convert(options.root, options.out, person_names=options.person or DEFAULT_PERSON_NAMES), options)


def _add_yolo(data_sets: Commands[argparse.ArgumentParser]) -> None:
    parser = _add_data_set(
        data_sets,
        "yolo",
        "a folder in YOLO's layout, filtered to people",
        "Convert the splits listed in data.yaml (images, and labels in labels/*.txt) and keep the boxes of people.",
        "folder that contains data.yaml, images and labels",
        """\
        hkd data yolo --root downloads/street --out data/street
        hkd data yolo --root street --out data/street --person walker --person child""",
    )
    _add_persons(parser)
    parser.set_defaults(run=_run_yolo)


def _run_yolo(options: argparse.Namespace) -> None:
    from hkd.data.sources.yolo import DEFAULT_PERSON_NAMES, convert

    _print_summary(convert(options.root, options.out, person_names=options.person or DEFAULT_PERSON_NAMES), options)


def _add_synthetic(data_sets: Commands[argparse.ArgumentParser]) -> None:
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
    _add_output(parser)
    count, side = positive_integer, partial(integer_at_least, 64)
    parser.add_argument(
        "--train-images", type=count, default=480, metavar="N", help="number of training scenes (default: 480)"
    )
    parser.add_argument(
        "--validation-images", type=count, default=160, metavar="N", help="number of validation scenes (default: 160)"
    )
    parser.add_argument(
        "--height", type=side, default=288, metavar="PIXELS", help="height of a scene (at least 64; default: 288)"
    )
    parser.add_argument(
        "--width", type=side, default=384, metavar="PIXELS", help="width of a scene (at least 64; default: 384)"
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
    print(f"wrote {paths[0]}\nwrote {paths[1]}")
    _draw_previews(paths, options.preview)
