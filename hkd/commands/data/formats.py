"""Formats of annotation tools, for any images."""

from __future__ import annotations

import argparse

from hkd.commands.data.options import add_data_set, add_persons, print_summary
from hkd.commands.parsing import Commands


def add_to(data_sets: Commands[argparse.ArgumentParser]) -> None:
    """Add the formats to the data sets of ``hkd data``."""
    _add_coco(data_sets)
    _add_yolo(data_sets)


def _add_coco(data_sets: Commands[argparse.ArgumentParser]) -> None:
    parser = add_data_set(
        data_sets,
        "coco",
        "a folder in COCO's layout, filtered to people",
        """\
        Convert annotations/instances_SPLIT.json (or SPLIT/_annotations.coco.json) and keep the boxes of people. Crowds
        (iscrowd) are ignored. Image ids do not change.""",
        "folder that contains annotations and the folders of the images",
        "hkd data coco --root downloads/coco --out data/coco --preview 12",
    )
    add_persons(parser)
    parser.set_defaults(run=_run_coco)


def _run_coco(options: argparse.Namespace) -> None:
    from hkd.data.sources.coco_folder import DEFAULT_PERSON_NAMES, convert

    summary = convert(
        options.root,
        options.out,
        person_names=options.person or DEFAULT_PERSON_NAMES,
        max_megapixels=options.max_megapixels,
    )
    print_summary(summary, options)


def _add_yolo(data_sets: Commands[argparse.ArgumentParser]) -> None:
    parser = add_data_set(
        data_sets,
        "yolo",
        "a folder in YOLO's layout, filtered to people",
        "Convert the splits listed in data.yaml (images, and labels in labels/*.txt) and keep the boxes of people.",
        "folder that contains data.yaml, images and labels",
        """\
        hkd data yolo --root downloads/street --out data/street
        hkd data yolo --root street --out data/street --person walker --person child""",
    )
    add_persons(parser)
    parser.set_defaults(run=_run_yolo)


def _run_yolo(options: argparse.Namespace) -> None:
    from hkd.data.sources.yolo import DEFAULT_PERSON_NAMES, convert

    summary = convert(
        options.root,
        options.out,
        person_names=options.person or DEFAULT_PERSON_NAMES,
        max_megapixels=options.max_megapixels,
    )
    print_summary(summary, options)
