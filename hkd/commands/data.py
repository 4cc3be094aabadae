"""``hkd data``: bring a data set into the one format that hkd reads."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from hkd.commands.parsing import CommandError, Commands, add_command, count, number_from, refusals, whole_number

_LARGEST_PREVIEW = 100
"""Images on one sheet: more than can be looked at, and already 33 million pixels."""


def add_to(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add the command to those of ``hkd``."""
    data = add_command(
        commands,
        "data",
        "bring a data set into the one format that hkd reads",
        """\
        Everything in hkd reads COCO-style JSON: images (id, file_name, height, width) and annotations with bbox
        [x, y, width, height] of the full body in pixels, and where known vis_bbox, vis_ratio, height, ignore (0/1),
        iscrowd, label (the data set's own class, absent for a pedestrian), occluded. A data set of your own in that
        format needs no conversion: name it in data.train_annotations and data.validation_annotations.

        Images stay where they are. What was ignored, mended or left out is told; no annotations are written unless all
        is in order. --preview N draws N images with their boxes.""",
        """\
        hkd data pennfudan --root downloads/PennFudanPed --out data/pennfudan
        hkd data synthetic --out data/scenes --train-images 200 --validation-images 50""",
    )
    sources = data.add_subparsers(dest="source", metavar="SOURCE", required=True)
    _add_pennfudan(sources)
    _add_caltech(sources)
    _add_citypersons(sources)
    _add_crowdhuman(sources)
    _add_eurocity(sources)
    _add_coco(sources)
    _add_yolo(sources)
    _add_synthetic(sources)


def _add_source(
    sources: Commands[argparse.ArgumentParser], name: str, summary: str, description: str, root: str, example: str
) -> argparse.ArgumentParser:
    """Add a source that is read from a folder; ``root`` says what that folder holds."""
    parser = add_command(sources, name, summary, description, example)
    parser.add_argument("--root", type=Path, required=True, metavar="DIR", help=root)
    _add_output(parser)
    return parser


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write to")
    parser.add_argument(
        "--preview",
        type=_preview_count,
        metavar="N",
        help=f"draw N images (at most {_LARGEST_PREVIEW}) of each split with their boxes, in preview_SPLIT.png beside"
        " the annotations",
    )


def _preview_count(text: str) -> int:
    number = count(text)
    if number > _LARGEST_PREVIEW:
        raise argparse.ArgumentTypeError(f'found "{text}"; allowed: integer from 1 to {_LARGEST_PREVIEW}')
    return number


def _add_persons(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--person",
        action="append",
        metavar="NAME",
        help="a class whose boxes are people; may be repeated (default: person and pedestrian)",
    )


def _draw_previews(paths: Sequence[Path], num_images: int | None) -> None:
    if num_images is None:
        return
    from hkd.data.annotations import read_annotations
    from hkd.data.sources.preview import draw_preview

    for path in paths:
        preview = path.with_name(f"preview_{path.stem}.png")
        draw_preview(read_annotations(path, check_images=False), preview, num_images)
        print(f"drew {preview}")


def _add_pennfudan(sources: Commands[argparse.ArgumentParser]) -> None:
    parser = _add_source(
        sources,
        "pennfudan",
        "the 170 photographs of Penn-Fudan",
        "Convert the Penn-Fudan database and split it, always in the same way, into training and validation images.",
        "folder that holds PNGImages and Annotation",
        "hkd data pennfudan --root downloads/PennFudanPed --out data/pennfudan --preview 12",
    )
    parser.add_argument("--seed", type=whole_number, default=0, help="of the split (default: 0)")
    parser.add_argument(
        "--train-images", type=count, default=120, metavar="N", help="the rest is for validation (default: 120)"
    )
    parser.set_defaults(run=_run_pennfudan)


def _run_pennfudan(options: argparse.Namespace) -> None:
    from hkd.data.sources.pennfudan import convert

    with refusals():
        summary = convert(options.root, options.out, seed=options.seed, train_images=options.train_images)
    print(summary)
    _draw_previews(summary.paths, options.preview)


def _add_annotations_only(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--annotations-only", action="store_true", help="do without the images: enough to evaluate detections"
    )


def _add_caltech(sources: Commands[argparse.ArgumentParser]) -> None:
    parser = _add_source(
        sources,
        "caltech",
        "the videos of Caltech-USA",
        """\
        Convert Caltech's training sets 00 to 05 and test sets 06 to 10, whichever are there, sampled as the benchmark
        does. Frames are taken from setNN/VNNN.seq to images in the output, or used where they are if extracted as
        setNN_VNNN_INNNNN.jpg. People that the data set calls otherwise than "person" are ignored.""",
        "folder below which the .vbb or new annotations, and the .seq videos or frames lie",
        """\
        hkd data caltech --root downloads/caltech --out data/caltech --preview 12
        hkd data caltech --root downloads/caltech --out data/caltech-gt --annotations-only""",
    )
    parser.add_argument("--every", type=count, default=30, metavar="N", help="take every Nth frame (default: 30)")
    parser.add_argument(
        "--annotations",
        choices=("original", "new"),
        default="original",
        help="the .vbb files, or the improved ones of 2016 as text files or JSON (default: original)",
    )
    _add_annotations_only(parser)
    parser.set_defaults(run=_run_caltech)


def _run_caltech(options: argparse.Namespace) -> None:
    from hkd.data.sources.caltech.convert import convert

    _refuse_preview_without_images(options)
    summary = convert(
        options.root,
        options.out,
        every=options.every,
        annotations=options.annotations,
        annotations_only=options.annotations_only,
    )
    print(summary)
    _draw_previews(summary.paths, options.preview)


def _refuse_preview_without_images(options: argparse.Namespace) -> None:
    if options.annotations_only and options.preview is not None:
        raise CommandError(
            "--preview draws on the images, which --annotations-only does without; leave one of them out"
        )


def _add_citypersons(sources: Commands[argparse.ArgumentParser]) -> None:
    parser = _add_source(
        sources,
        "citypersons",
        "CityPersons' .mat files, or val_gt.json",
        """\
        Convert anno_train.mat and anno_val.mat (or val_gt.json in its place), whichever are there. Riders, sitting
        people, people of other posture, groups and fake humans are ignored.""",
        "folder that holds the annotations, and Cityscapes' leftImg8bit",
        "hkd data citypersons --root downloads/cityscapes --out data/citypersons --preview 12",
    )
    _add_annotations_only(parser)
    parser.set_defaults(run=_run_citypersons)


def _run_citypersons(options: argparse.Namespace) -> None:
    from hkd.data.sources.citypersons import convert

    _refuse_preview_without_images(options)
    summary = convert(options.root, options.out, annotations_only=options.annotations_only)
    print(summary)
    _draw_previews(summary.paths, options.preview)


def _add_crowdhuman(sources: Commands[argparse.ArgumentParser]) -> None:
    parser = _add_source(
        sources,
        "crowdhuman",
        "CrowdHuman's .odgt files",
        """\
        Convert annotation_train.odgt and annotation_val.odgt, whichever is there: full, visible and head boxes;
        masks and boxes flagged so are ignored.""",
        "folder that holds the .odgt files, and Images with the images of all archives",
        "hkd data crowdhuman --root downloads/CrowdHuman --out data/crowdhuman --preview 12",
    )
    parser.set_defaults(run=_run_crowdhuman)


def _run_crowdhuman(options: argparse.Namespace) -> None:
    from hkd.data.sources.crowdhuman import convert

    summary = convert(options.root, options.out)
    print(summary)
    _draw_previews(summary.paths, options.preview)


def _add_eurocity(sources: Commands[argparse.ArgumentParser]) -> None:
    parser = _add_source(
        sources,
        "eurocity",
        "EuroCity Persons' JSON files",
        """\
        Convert whichever of day and night, train and val is there. Pedestrians count; riders, groups far away, and
        who sits, lies, stands behind glass, or is a depiction or reflection, are ignored.""",
        "folder that holds day and night, or ECP",
        "hkd data eurocity --root downloads/ECP --out data/eurocity --preview 12",
    )
    parser.set_defaults(run=_run_eurocity)


def _run_eurocity(options: argparse.Namespace) -> None:
    from hkd.data.sources.eurocity import convert

    summary = convert(options.root, options.out)
    print(summary)
    _draw_previews(summary.paths, options.preview)


def _add_coco(sources: Commands[argparse.ArgumentParser]) -> None:
    parser = _add_source(
        sources,
        "coco",
        "a folder in COCO's layout, filtered to people",
        """\
        Convert annotations/instances_SPLIT.json (or SPLIT/_annotations.coco.json) with their images, keeping the boxes
        of people. Crowds are ignored; image ids stay.""",
        "folder that holds annotations and the images' folders",
        "hkd data coco --root downloads/coco --out data/coco --preview 12",
    )
    _add_persons(parser)
    parser.set_defaults(run=_run_coco)


def _run_coco(options: argparse.Namespace) -> None:
    from hkd.data.sources.coco_folder import DEFAULT_PERSON_NAMES, convert

    summary = convert(options.root, options.out, person_names=options.person or DEFAULT_PERSON_NAMES)
    print(summary)
    _draw_previews(summary.paths, options.preview)


def _add_yolo(sources: Commands[argparse.ArgumentParser]) -> None:
    parser = _add_source(
        sources,
        "yolo",
        "a folder in YOLO's layout, filtered to people",
        "Convert the splits that data.yaml names, from images and labels/*.txt, keeping the boxes of people.",
        "folder that holds data.yaml, images and labels",
        "hkd data yolo --root downloads/street --out data/street --person walker --person child",
    )
    _add_persons(parser)
    parser.set_defaults(run=_run_yolo)


def _run_yolo(options: argparse.Namespace) -> None:
    from hkd.data.sources.yolo import DEFAULT_PERSON_NAMES, convert

    summary = convert(options.root, options.out, person_names=options.person or DEFAULT_PERSON_NAMES)
    print(summary)
    _draw_previews(summary.paths, options.preview)


def _add_synthetic(sources: Commands[argparse.ArgumentParser]) -> None:
    parser = add_command(
        sources,
        "synthetic",
        "generated street scenes",
        """\
        Draw street scenes; each is a function of the seed and its number alone. A folder that holds other annotations
        than scenes of the same size and seed is refused.""",
        "hkd data synthetic --out data/scenes --train-images 200 --validation-images 50",
    )
    _add_output(parser)
    parser.add_argument("--train-images", type=count, default=480, metavar="N", help="(default: 480)")
    parser.add_argument("--validation-images", type=count, default=160, metavar="N", help="(default: 160)")
    parser.add_argument("--height", type=_scene_side, default=288, metavar="PIXELS", help="(default: 288)")
    parser.add_argument("--width", type=_scene_side, default=384, metavar="PIXELS", help="(default: 384)")
    parser.add_argument("--seed", type=whole_number, default=0, help="(default: 0)")
    parser.set_defaults(run=_run_synthetic)


def _scene_side(text: str) -> int:
    return number_from(64, text)


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
    _draw_previews(paths, options.preview)
