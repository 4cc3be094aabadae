"""Reading detections from files of common tools.

Detections come in four formats, distinguished by the path and the first line:

* a **folder** of text files of videos or images, see :mod:`hkd.evaluation.formats.text_folders`;
* a file that ends in **.txt** or **.csv**: one text file for all images, see :mod:`hkd.evaluation.formats.text_files`;
* a file whose first line is an object with ``dtboxes``: a dump of CrowdDet, see
  :mod:`hkd.evaluation.formats.crowd_dumps`;
* **any other file**: COCO results JSON.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from hkd.coco.detections import DetectedBoxes, parse_detections
from hkd.coco.ground_truth import GroundTruth
from hkd.coco.notes import Note, counted_note
from hkd.coco.parsing.errors import AnnotationError
from hkd.coco.parsing.reading import parse_json, read_input
from hkd.coco.plausibility import repeated, unit_notes
from hkd.evaluation.formats.crowd_dumps import is_dump, parse_dump
from hkd.evaluation.formats.text_files import read_text_file
from hkd.evaluation.formats.text_folders import read_text_folder
from hkd.evaluation.preparation import with_scaled_heights

TEXT_ENDINGS: Final = (".txt", ".csv")
SMALLEST_SCALE: Final = 0.01
LARGEST_SCALE: Final = 100.0
"""Allowed height scales: wider than any known detector needs, and areas stay finite."""


def read_detections(path: Path | str, truth: GroundTruth | None, *, height_scale: float = 1.0) -> DetectedBoxes:
    """Detections from a file or folder of any format of this module, in its order.

    Args:
        path: Of the file or folder.
        truth: The ground truth whose images they are of. None if it is invalid: images are then not checked, and the
            result must not be used.
        height_scale: Heights are multiplied by it about the centre before anything else is done (HOG's boxes on
            Caltech have a margin, and come with 100 / 128).

    Raises:
        AnnotationError: naming every kind of mistake and its records or lines.
    """
    path = Path(path)
    if not SMALLEST_SCALE <= height_scale <= LARGEST_SCALE:
        allowed = f"a number from {SMALLEST_SCALE} to {LARGEST_SCALE}"
        problem = f"heights must be scaled by {allowed}, but are by {height_scale}; change the factor"
        raise AnnotationError([problem], str(path))
    if path.is_dir():
        boxes = read_text_folder(path, truth)
    elif path.suffix.lower() in TEXT_ENDINGS:
        boxes = read_text_file(path, truth)
    else:
        content = read_input(path)
        if is_dump(content):
            boxes = parse_dump(content, str(path), truth)
        else:
            boxes = parse_detections(parse_json(content, str(path)), str(path), truth)
    boxes = replace(boxes, notes=(*boxes.notes, *_doubts(boxes, path, truth)))
    if height_scale == 1.0:
        return boxes
    return replace(boxes, boxes_xywh=with_scaled_heights(boxes.boxes_xywh, height_scale))


def _doubts(boxes: DetectedBoxes, path: Path, truth: GroundTruth | None) -> list[Note]:
    """Notes on detections that are probably not meant as they are read."""
    if truth is None:
        return []
    largest = (np.nan, np.nan) if truth.largest_image_wh is None else truth.largest_image_wh
    notes = unit_notes(boxes.boxes_xywh, np.array(largest), "detections_in_other_units", "detections")
    rows = list(zip(boxes.image_index.tolist(), *boxes.boxes_xywh.T.tolist(), boxes.scores.tolist(), strict=True))
    twice = [f"image {truth.image_ids[rows[i][0]]}, {list(rows[i][1:5])}, score {rows[i][5]:g}" for i in repeated(rows)]
    sentence = (
        "{count} detections repeat another with its box and score, and are false positives: perhaps files were joined "
        "twice (first: {first})"
    )
    notes += counted_note("detections_repeated", twice, sentence)
    return [replace(note, sentence=f"{path}: {note.sentence}") for note in notes]
