"""Reading detections from files of common tools.

Detections come in three formats, distinguished by the path:

* a **folder** with ``set06/V000.txt`` ...: Caltech's text format. A line is ``frame,x,y,w,h,score`` (commas or blanks)
  with frames counted from 1. Images of the ground truth are found by their file names, ``set06_V000_I00029``, whose
  frames count from 0: this one is frame 30. Each video of the ground truth must have its file; frames and videos that
  the ground truth does not have are left out, counted and noted;
* a file that ends in **.txt** or **.csv**: one text file for all images, ``image,x,y,w,h,score``, where images are
  numbered from 1 by ascending id of the ground truth (``AcfCaltechPlus.txt``);
* **any other file**: COCO results JSON.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

from hkd.coco.detections import DetectedBoxes, parse_detections
from hkd.coco.ground_truth import GroundTruth
from hkd.coco.parsing.errors import AnnotationError
from hkd.coco.parsing.reading import read_json
from hkd.evaluation.formats.detection_text import read_caltech_folder, read_text_file
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
        boxes = read_caltech_folder(path, truth)
    elif path.suffix.lower() in TEXT_ENDINGS:
        boxes = read_text_file(path, truth)
    else:
        boxes = parse_detections(read_json(path), str(path), truth)
    if height_scale == 1.0:
        return boxes
    return replace(boxes, boxes_xywh=with_scaled_heights(boxes.boxes_xywh, height_scale))
