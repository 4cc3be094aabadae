"""``hkd data``: convert a data set to the annotation format of hkd."""

from __future__ import annotations

import argparse

from hkd.commands.data import benchmarks, formats, synthetic
from hkd.commands.parsing import Commands, add_command


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
    benchmarks.add_to(data_sets)
    formats.add_to(data_sets)
    synthetic.add_to(data_sets)
