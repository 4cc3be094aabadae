"""Ground truth and detections as checked arrays, from COCO-style JSON.

Everything that goes wrong in one evaluation's inputs is reported together, one sentence for each kind of mistake,
with the records it was found in. Nothing is mended here, and what is read in another way than it stands is noted.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from hkd.evaluation.categories import PEDESTRIAN_ID, Categories, read_categories
from hkd.evaluation.records import (
    BOX_REQUIREMENT,
    EvaluationInputError,
    Records,
    is_box,
    is_finite,
    is_flag,
    is_integer,
    is_share,
    is_size,
    is_text,
    is_visible_box,
    kind_of,
    shown,
)


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """N boxes on I images: images by ascending id, boxes image by image and within one in the file's order."""

    image_ids: npt.NDArray[np.int64]
    """(I,) ascending."""
    image_names: tuple[str, ...]
    """(I,) file names without folder and ending (``set06_V000_I00029``); empty where the file states none."""
    image_index: npt.NDArray[np.int64]
    """(N,) ascending: position of each box's image in ``image_ids``."""
    boxes_xywh: npt.NDArray[np.float64]
    """(N, 4) pixels of the original image."""
    heights: npt.NDArray[np.float64]
    """(N,) height of the full body, pixels: the record's ``height``, else that of its box."""
    visibilities: npt.NDArray[np.float64]
    """(N,) visible share of the full body: the record's ``vis_ratio``, else that of its ``vis_bbox``, else 1."""
    visible_boxes_xywh: npt.NDArray[np.float64]
    """(N, 4) the record's ``vis_bbox``, NaN where it has none. Caltech writes zeros where nothing is hidden."""
    occluded: npt.NDArray[np.bool_]
    """(N,) the record's ``occluded``; where absent, whether the visible box has an area."""
    label_names: tuple[str, ...]
    """(L,) the data set's own classes, each once, in alphabetical order."""
    label_index: npt.NDArray[np.int64]
    """(N,) position of each record's ``label`` in ``label_names``, -1 where it has none and is a pedestrian."""
    ignore: npt.NDArray[np.bool_]
    """(N,) the record's ``ignore`` or ``iscrowd``, or a category other than the pedestrian's: ignored everywhere."""
    pedestrian_ids: tuple[int, ...] = (PEDESTRIAN_ID,)
    """Categories by which detections name pedestrians."""
    largest_image_wh: tuple[float, float] | None = None
    """The largest width and the largest height that images state, pixels; None where none states both."""
    notes: tuple[str, ...] = ()
    """What was read in another way than it stands, a sentence each."""


@dataclass(frozen=True, eq=False)
class DetectedBoxes:
    """D detections in the file's order, which decides between equal scores."""

    image_index: npt.NDArray[np.int64]
    """(D,) position of each detection's image in :attr:`GroundTruth.image_ids`."""
    boxes_xywh: npt.NDArray[np.float64]
    """(D, 4) pixels of the original image."""
    scores: npt.NDArray[np.float64]
    """(D,) higher is surer; any finite number."""
    notes: tuple[str, ...] = ()
    """What of the file is not among them, a sentence each."""


def parse_ground_truth(raw: object, source: str) -> GroundTruth:
    """Ground truth from a COCO dictionary with ``images`` and ``annotations``.

    Of an image ``id`` is read, and its name (``file_name`` or ``im_name``), ``width`` and ``height`` if it has
    them. An annotation needs ``image_id``, ``category_id`` and ``bbox``; it may have ``id``, ``height``, ``vis_ratio``,
    ``vis_bbox``, ``occluded``, ``label``, ``ignore`` and ``iscrowd`` (null is as absent). Other keys are not read.
    Where a record has ``width`` beside ``height``, as converters by pycococreator write it, both are the image's: the
    height is that of the box, and a note says so. Pedestrians are the category named ``pedestrian``, else ``person``,
    else the only one, if its id is 1; boxes of other categories are ignored. Without ``categories`` all must be of
    category 1.

    Args:
        raw: The parsed JSON.
        source: Names the ground truth in messages.

    Raises:
        EvaluationInputError: naming every kind of mistake and its records.
    """
    image_values, annotation_values, category_values = _ground_truth_lists(raw, source)
    images = Records(image_values, source, "images")
    ids = images.column("id", is_integer, "an integer", "number the images")
    images.require_unique("id", ids, "merge or renumber the images")
    if not image_values:
        images.problems.append(f'{source}: "images" must list at least one image, but is empty; list all images.')

    boxes = Records(annotation_values, source, "annotations")
    remedy = "correct or remove the annotation"
    image_ids = boxes.column("image_id", is_integer, "an integer", remedy)
    if not images.problems:
        boxes.require_known_image(image_ids, set(ids), f"add the image, or {remedy}")
    if any("id" in row for row in boxes.rows):
        own_ids = boxes.column("id", is_integer, "an integer", "number all annotations, or none")
        boxes.require_unique("id", own_ids, "renumber the annotations")
    categories, category_problems = read_categories(category_values, source)
    columns = _AnnotationColumns(boxes, remedy, categories)
    if problems := images.problems + category_problems + boxes.problems:
        raise EvaluationInputError(problems)
    assert categories is not None

    by_id = np.argsort(np.array(ids, dtype=np.int64))
    sorted_ids = np.array(ids, dtype=np.int64)[by_id]
    image_index = np.searchsorted(sorted_ids, np.array(image_ids, dtype=np.int64))
    order = np.argsort(image_index, kind="stable")
    return columns.ground_truth(
        image_ids=sorted_ids,
        image_names=tuple(_image_name(images.rows[i]) for i in by_id.tolist()),
        image_index=image_index[order],
        order=order,
        pedestrian_ids=categories.of_detections(),
        largest_image_wh=_largest_image(images.rows),
    )


class _AnnotationColumns:
    """What annotations say of their boxes; problems are noted in the records."""

    def __init__(self, boxes: Records, remedy: str, categories: Categories | None) -> None:
        self._source = boxes.source
        # Where the categories are wrong themselves, their boxes are not blamed.
        requirement = "an integer" if categories is None else categories.requirement
        is_allowed = is_integer if categories is None else categories.has
        category_ids = boxes.column("category_id", is_allowed, requirement, remedy)
        self._is_other = [categories is not None and value != categories.pedestrian for value in category_ids]
        self._image_sizes = [("width" in row and "height" in row) for row in boxes.rows]
        self._bbox = boxes.column("bbox", is_box, BOX_REQUIREMENT, remedy)
        # No record may state a height of 0: it stands for an absent one.
        self._heights = boxes.column("height", is_size, "pixels above 0, at most 1e9", remedy, default=0.0)
        self._visibilities = boxes.column("vis_ratio", is_share, "a number from 0 to 1", remedy, default=np.nan)
        requirement = "[x, y, width, height] in pixels (four finite numbers up to 1e9, the last two at least 0)"
        self._visible = boxes.column("vis_bbox", is_visible_box, requirement, remedy, default=[np.nan] * 4)
        self._occluded = boxes.column("occluded", is_flag, "0 or 1", remedy, default=-1)
        self._labels = boxes.column("label", is_text, "text", remedy, default="")
        self._ignore = boxes.column("ignore", is_flag, "0 or 1", remedy, default=0)
        self._crowd = boxes.column("iscrowd", is_flag, "0 or 1", remedy, default=0)

    def ground_truth(
        self,
        image_ids: npt.NDArray[np.int64],
        image_names: tuple[str, ...],
        image_index: npt.NDArray[np.int64],
        order: npt.NDArray[np.int64],
        pedestrian_ids: tuple[int, ...],
        largest_image_wh: tuple[float, float] | None,
    ) -> GroundTruth:
        """All of it as arrays, the boxes in the given order; only for records without problems."""
        boxes_xywh = np.array(self._bbox, dtype=np.float64).reshape(-1, 4)
        stated_heights = np.where(self._image_sizes, 0.0, np.array(self._heights, dtype=np.float64))
        visible = np.array(self._visible, dtype=np.float64).reshape(-1, 4)
        occluded = np.array(self._occluded, dtype=np.int64)
        label_names = tuple(sorted({str(label) for label in self._labels} - {""}))
        positions = {label: i for i, label in enumerate(label_names)} | {"": -1}
        labels = np.array([positions[str(label)] for label in self._labels], dtype=np.int64)
        is_ignored, is_crowd, is_other = np.array([self._ignore, self._crowd, self._is_other], dtype=np.bool_)
        note = (
            f"{self._source}: {sum(self._image_sizes):,} annotations state a width beside their height, which are "
            "those of the image: the boxes' own heights are used."
        )
        return GroundTruth(
            image_ids=image_ids,
            image_names=image_names,
            image_index=image_index,
            boxes_xywh=boxes_xywh[order],
            heights=np.where(stated_heights > 0, stated_heights, boxes_xywh[:, 3])[order],
            visibilities=_visibilities(np.array(self._visibilities, dtype=np.float64), visible, boxes_xywh)[order],
            visible_boxes_xywh=visible[order],
            occluded=np.where(occluded >= 0, occluded > 0, (visible[:, 2:] > 0).all(axis=1))[order],
            label_names=label_names,
            label_index=labels[order],
            ignore=(is_ignored | is_crowd | is_other)[order],
            pedestrian_ids=pedestrian_ids,
            largest_image_wh=largest_image_wh,
            notes=(note,) if any(self._image_sizes) else (),
        )


def _visibilities(
    stated: npt.NDArray[np.float64], visible_xywh: npt.NDArray[np.float64], boxes_xywh: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """(N,) the stated shares; where one is not (NaN), that of the visible box, and 1 where there is none either."""
    of_boxes = visible_xywh[:, 2] * visible_xywh[:, 3] / (boxes_xywh[:, 2] * boxes_xywh[:, 3])
    shares = np.where(np.isnan(stated), of_boxes, stated)
    # A ratio of two areas may pass 1 by a rounding error.
    return np.minimum(np.where(np.isnan(shares), 1.0, shares), 1.0)


def _largest_image(rows: list[dict[str, Any]]) -> tuple[float, float] | None:
    sizes = [(row.get("width"), row.get("height")) for row in rows]
    stated = [(float(w), float(h)) for w, h in sizes if is_size(w) and is_size(h)]
    return (max(w for w, _ in stated), max(h for _, h in stated)) if stated else None


def _image_name(image: dict[str, Any]) -> str:
    name = image.get("file_name", image.get("im_name", ""))
    return PurePosixPath(name.replace("\\", "/")).stem if isinstance(name, str) else ""


def _ground_truth_lists(raw: object, source: str) -> tuple[list[object], list[object], object]:
    """The lists of images and of annotations, and the categories unchecked (None if absent).

    Raises:
        EvaluationInputError: there are none.
    """
    shape = f'{source}: ground truth must be an object with the lists "images" and "annotations"'
    if not isinstance(raw, dict):
        hint = "were ground truth and detections swapped?" if isinstance(raw, list) else "name a COCO-style file."
        raise EvaluationInputError([f"{shape}, but is {kind_of(raw)}; {hint}"])
    images, annotations = raw.get("images"), raw.get("annotations")
    if isinstance(images, list) and isinstance(annotations, list):
        return images, annotations, raw.get("categories")
    found = ", ".join(f"{shown(str(key))} ({kind_of(value)})" for key, value in list(raw.items())[:10]) or "nothing"
    raise EvaluationInputError([f"{shape}, but has {found}; name a COCO-style file."])


def parse_detections(raw: object, source: str, truth: GroundTruth | None) -> DetectedBoxes:
    """Detections from a COCO results list; each needs ``image_id``, ``category_id``, ``bbox`` and ``score``.

    Args:
        raw: The parsed JSON.
        source: Names the detections in messages.
        truth: The ground truth. None where it is wrong itself: all but the images and categories is checked, and what
            is returned has no use.

    Raises:
        EvaluationInputError: naming every kind of mistake and its records.
    """
    if not isinstance(raw, list):
        hint = "were ground truth and detections swapped?" if isinstance(raw, dict) else "name a COCO results file."
        raise EvaluationInputError([f"{source}: detections must be a list of records, but are {kind_of(raw)}; {hint}"])
    records = Records(raw, source, "detections")
    remedy = "correct or remove the detection"
    ids = records.column("image_id", is_integer, "an integer", remedy)
    if truth is None:
        records.column("category_id", is_integer, "an integer", remedy)
    else:
        known = set(truth.image_ids.tolist())
        records.require_known_image(ids, known, "evaluate detections of the same images, or remove these")
        allowed = truth.pedestrian_ids
        requirement = f"{' or '.join(map(str, allowed))} (pedestrian), the only category that is evaluated"
        records.column("category_id", lambda v: is_integer(v) and v in allowed, requirement, "remove the detection")
    boxes = records.column("bbox", is_box, BOX_REQUIREMENT, remedy)
    scores = records.column("score", is_finite, "a finite number", remedy)
    if records.problems:
        raise EvaluationInputError(records.problems)
    known_ids = np.empty(0, dtype=np.int64) if truth is None else truth.image_ids
    return DetectedBoxes(
        image_index=np.searchsorted(known_ids, np.array(ids, dtype=np.int64)),
        boxes_xywh=np.array(boxes, dtype=np.float64).reshape(-1, 4),
        scores=np.array(scores, dtype=np.float64),
    )
