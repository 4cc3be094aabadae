"""Formats of annotation tools, for any images."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from hkd.commands.data.options import add_categories, add_data_set, add_skip_missing, print_summary
from hkd.commands.parsing import Commands, non_negative_integer, positive_integer
from hkd.text.output import print_line

if TYPE_CHECKING:
    from hkd.data.conversion.summary import ConversionSummary


def add_to(data_sets: Commands[argparse.ArgumentParser]) -> None:
    """Add the formats to the data sets of ``hkd data``."""
    _add_coco(data_sets)
    _add_yolo(data_sets)
    _add_voc(data_sets)
    _add_cvat(data_sets)
    _add_mot(data_sets)


def _add_coco(data_sets: Commands[argparse.ArgumentParser]) -> None:
    parser = add_data_set(
        data_sets,
        "coco",
        "COCO's format: COCO, CVAT, Roboflow, Label Studio, FiftyOne",
        """\
        Convert annotations/instances_SPLIT.json, annotations/person_keypoints_SPLIT.json (also CVAT's exports),
        SPLIT/_annotations.coco.json (Roboflow), labels.json beside data (FiftyOne) or a single JSON file such as Label
        Studio's result.json, and keep the boxes of people. Crowds (iscrowd) are ignored. Image ids do not change.

        Images are looked for in folders named as their split, in images, in data, beside the JSON file and in ROOT. A
        split without any image is left out, and the summary states it.""",
        "folder of the export",
        """\
        hkd data coco --root downloads/coco --out data/coco --split val2017
        hkd data coco --root label-studio --out data/street --validation-images 100
        hkd data coco --root cvat --out data/street --ignore-category crowd""",
    )
    add_categories(parser)
    _add_splits(parser)
    add_skip_missing(parser)
    parser.set_defaults(run=_run_coco)


def _run_coco(options: argparse.Namespace) -> None:
    from hkd.data.sources.coco_folder.convert import convert

    summary = convert(options.root, options.out, skip_missing=options.skip_missing, **_chosen(options))
    _print(summary, options)


def _add_yolo(data_sets: Commands[argparse.ArgumentParser]) -> None:
    parser = add_data_set(
        data_sets,
        "yolo",
        "YOLO's format: Ultralytics, darknet, and their exports",
        """\
        Convert the splits that data.yaml lists (or darknet's obj.data; with classes.txt alone, the folders train, val
        and test), and keep the boxes of people. Labels are read from labels/*.txt, or from beside the images: "class
        center_x center_y width height" as fractions of the image, or a polygon, of which the bounding box is used.

        An image without a label file shows nobody. Numbers up to 1 % beyond the image's edge are clipped.""",
        "folder that contains data.yaml, images and labels",
        """\
        hkd data yolo --root downloads/street --out data/street
        hkd data yolo --root street --out data/street --person walker --person child
        hkd data yolo --root street --out data/street --validation-images 100""",
    )
    add_categories(parser)
    _add_splits(parser)
    parser.set_defaults(run=_run_yolo)


def _run_yolo(options: argparse.Namespace) -> None:
    from hkd.data.sources.yolo.convert import convert

    _print(convert(options.root, options.out, **_chosen(options)), options)


def _add_voc(data_sets: Commands[argparse.ArgumentParser]) -> None:
    parser = add_data_set(
        data_sets,
        "voc",
        "PASCAL VOC's XML files: VOC, CVAT, LabelImg, Roboflow",
        """\
        Convert one XML file per image, and keep the boxes of people; difficult ones are ignored. The files are in
        Annotations with the images in JPEGImages, or beside the images. The splits are those of
        ImageSets/Main/SPLIT.txt, or the folders train, val and test.

        Tools disagree about the corners of boxes by a pixel. By default, corners with fractions or of 0, and files that
        name the database "Unknown", mean edges from 0 (CVAT, LabelImg); those of Roboflow edges from 1; others the
        first and last pixel, counted from 1, as VOC defines. The summary states what was used.""",
        "folder that contains the XML files and the images",
        """\
        hkd data voc --root VOCdevkit/VOC2007 --out data/voc
        hkd data voc --root labelimg --out data/street --validation-images 50 --preview 12
        hkd data voc --root inria --out data/inria --corners pixels""",
    )
    add_categories(parser)
    _add_splits(parser)
    parser.add_argument(
        "--corners",
        choices=("pixels", "edges", "edges-from-1"),
        help="what xmin, ymin, xmax and ymax are: the first and last pixel, counted from 1; edges of the box, 0 being"
        " that of the image; or edges plus 1 (default: by the rule above)",
    )
    parser.set_defaults(run=_run_voc)


def _run_voc(options: argparse.Namespace) -> None:
    from hkd.data.sources.voc.convert import convert

    _print(convert(options.root, options.out, corners=options.corners, **_chosen(options)), options)


def _add_cvat(data_sets: Commands[argparse.ArgumentParser]) -> None:
    parser = add_data_set(
        data_sets,
        "cvat",
        "CVAT for images 1.1: annotations.xml",
        """\
        Convert an export of CVAT in its own format, and keep the boxes of people. Of polygons, masks, ellipses and
        rotated boxes the bounding box is used; lines and points are left out. The subsets of a project are the
        splits. CVAT's exports in other formats are read by coco, yolo, voc and mot.""",
        "folder of annotations.xml and the images",
        """\
        hkd data cvat --root cvat-export --out data/street --validation-images 100 --preview 12
        hkd data cvat --root cvat-export --out data/street --person walker --ignore-category crowd""",
    )
    add_categories(parser)
    _add_splits(parser)
    add_skip_missing(parser)
    parser.set_defaults(run=_run_cvat)


def _run_cvat(options: argparse.Namespace) -> None:
    from hkd.data.sources.cvat import convert

    summary = convert(options.root, options.out, skip_missing=options.skip_missing, **_chosen(options))
    _print(summary, options)


def _add_mot(data_sets: Commands[argparse.ArgumentParser]) -> None:
    parser = add_data_set(
        data_sets,
        "mot",
        "MOT Challenge: sequences with gt/gt.txt (MOT15 to MOT20, CVAT)",
        """\
        Convert the sequences below ROOT that have gt/gt.txt and frames in img1. Pedestrians with the flag 1 count;
        those with 0, people on vehicles, static people, distractors and reflections are ignored, as in the challenge's
        evaluation; other classes are left out. The visibility becomes vis_ratio.

        Sequences are wholly for training or for validation, because neighbouring frames show the same people. Of the
        three copies of a sequence in MOT17 (DPM, FRCNN, SDP) one is read.""",
        "folder of the sequences, in any sub-folder",
        """\
        hkd data mot --root MOT17/train --out data/mot17 --every 10 --validation MOT17-09 --validation MOT17-11
        hkd data mot --root cvat-export --out data/street --person walker""",
    )
    add_categories(parser)
    parser.add_argument(
        "--validation",
        action="append",
        default=[],
        metavar="SEQUENCE",
        help="a sequence for validation; repeatable (default: the last third of them by name)",
    )
    parser.add_argument(
        "--every", type=positive_integer, default=1, metavar="N", help="use every Nth frame (default: 1)"
    )
    parser.set_defaults(run=_run_mot)


def _run_mot(options: argparse.Namespace) -> None:
    from hkd.data.sources.mot.convert import convert

    summary = convert(
        options.root,
        options.out,
        person_names=options.person,
        ignored_names=options.ignore_category,
        validation_sequences=options.validation,
        every=options.every,
        max_megapixels=options.max_megapixels,
    )
    print_summary(summary, options)


def _add_splits(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--split", action="append", default=[], metavar="NAME", help="split to convert; repeatable (default: all)"
    )
    parser.add_argument(
        "--validation-images",
        type=positive_integer,
        metavar="N",
        help="divide the only split, image by image at random, into train and N images of validation. Frames of one"
        " video resemble each other and should not be divided this way",
    )
    parser.add_argument("--seed", type=non_negative_integer, default=0, help="seed of that division (default: 0)")


def _print(summary: ConversionSummary, options: argparse.Namespace) -> None:
    print_summary(summary, options)
    if len(summary.paths) == 1 and options.validation_images is None:
        print_line("one split was written; --validation-images N divides it into train.json and validation.json")


def _chosen(options: argparse.Namespace) -> dict[str, Any]:
    """The arguments that converters share."""
    return {
        "person_names": options.person,
        "ignored_names": options.ignore_category,
        "chosen_splits": options.split,
        "validation_images": options.validation_images,
        "seed": options.seed,
        "max_megapixels": options.max_megapixels,
    }
