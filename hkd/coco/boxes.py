"""Annotated boxes as arrays, and the rules by which the fields of an annotation are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from hkd.coco.categories import PEDESTRIAN_ID
from hkd.coco.notes import Note, counted_note
from hkd.coco.parsing.records import Records
from hkd.coco.parsing.values import (
    ABSENT,
    FLAG_REQUIREMENT,
    VISIBLE_BOX_REQUIREMENT,
    is_box,
    is_flag,
    is_fraction,
    is_size,
    is_text,
    is_visible_box,
)
from hkd.coco.plausibility import repeated, unit_notes
from hkd.coco.selection import REMEDY as _REMEDY
from hkd.coco.selection import SelectedAnnotations

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

_NOT_STATED: Final = -1


@dataclass(frozen=True, eq=False)
class AnnotatedBoxes:
    """N boxes as annotated, one row each."""

    image_ids: IntArray
    """(N,) id of each box's image."""
    boxes_xywh: FloatArray
    """(N, 4) pixels of the original image; full bodies may reach out of it."""
    heights: FloatArray
    """(N,) height of the full body, pixels: the record's ``height``, else that of its box."""
    visibilities: FloatArray
    """(N,) visible fraction of the full body: the record's ``vis_ratio``, else that of its ``vis_bbox``, else 1."""
    visible_boxes_xywh: FloatArray
    """(N, 4) the record's ``vis_bbox``, NaN where it has none. Caltech writes zeros where nothing is hidden."""
    occlusion_flags: npt.NDArray[np.int8]
    """(N,) the record's ``occluded`` (0 or 1), -1 where it has none."""
    label_names: tuple[str, ...]
    """(L,) the data set's own classes, each once, in alphabetical order."""
    label_index: IntArray
    """(N,) position of each record's ``label`` in ``label_names``, -1 where it has none and is a pedestrian."""
    crowd: BoolArray
    """(N,) the record's ``iscrowd``."""
    ignore: BoolArray
    """(N,) the record's ``ignore`` or ``iscrowd``, or a category of ignore regions: counted neither for nor against a
    detector."""

    @property
    def occluded(self) -> BoolArray:
        """(N,) the record's ``occluded``; where absent, whether the visible box has an area."""
        return np.where(
            self.occlusion_flags >= 0, self.occlusion_flags > 0, (self.visible_boxes_xywh[:, 2:] > 0).all(axis=1)
        )

    def labels(self) -> list[str]:
        """The label of each box, empty where it has none."""
        return [self.label_names[index] if index >= 0 else "" for index in self.label_index.tolist()]

    def rows(self, order: IntArray) -> AnnotatedBoxes:
        """The boxes at these positions, in this order."""
        columns = {field.name: getattr(self, field.name) for field in fields(self)}
        return AnnotatedBoxes(
            **{name: column if name == "label_names" else column[order] for name, column in columns.items()}
        )

    def coco_records(self) -> list[dict[str, Any]]:
        """A new COCO annotation of each box, of category 1, without an id."""
        records = []
        for image_id, box, height, visibility, visible, occlusion, label, crowd, ignore in zip(
            self.image_ids.tolist(),
            self.boxes_xywh.tolist(),
            self.heights.tolist(),
            self.visibilities.tolist(),
            self.visible_boxes_xywh.tolist(),
            self.occlusion_flags.tolist(),
            self.labels(),
            self.crowd.tolist(),
            self.ignore.tolist(),
            strict=True,
        ):
            # The order of keys is part of hashes of annotations, and of files that were written before.
            record: dict[str, Any] = {"bbox": box}
            if visible[0] == visible[0]:  # not NaN
                record["vis_bbox"] = visible
            record |= {"vis_ratio": visibility, "height": height, "ignore": int(ignore), "iscrowd": int(crowd)}
            if occlusion >= 0:
                record["occluded"] = occlusion
            if label:
                record["label"] = label
            records.append(record | {"image_id": image_id, "category_id": PEDESTRIAN_ID})
        return records


def no_boxes() -> AnnotatedBoxes:
    """Zero boxes, for images without annotations."""
    return AnnotatedBoxes(
        image_ids=np.zeros(0, dtype=np.int64),
        boxes_xywh=np.zeros((0, 4)),
        heights=np.zeros(0),
        visibilities=np.zeros(0),
        visible_boxes_xywh=np.zeros((0, 4)),
        occlusion_flags=np.zeros(0, dtype=np.int8),
        label_names=(),
        label_index=np.zeros(0, dtype=np.int64),
        crowd=np.zeros(0, dtype=np.bool_),
        ignore=np.zeros(0, dtype=np.bool_),
    )


class PedestrianFields:
    """The optional fields of annotations, checked; mistakes are noted in the records' problems.

    ``height``, ``vis_ratio``, ``vis_bbox``, ``occluded``, ``label``, ``ignore`` and ``iscrowd``; null counts as absent,
    as does an empty label. A ``height`` that is the image's is not read, and that of the box is used: one beside a
    ``width``, as pycococreator writes them, and one that equals the image's and is more than twice that of the box,
    which is of the full body.

    Args:
        records: the annotations.
        boxes: [x, y, width, height] of each; other values are of wrong records.
        image_heights: of the image of each, None where unknown.
    """

    def __init__(self, records: Records, boxes: Sequence[object], image_heights: Sequence[object]) -> None:
        stated = [row.get("height") for row in records.rows]
        own = [box[3] if is_box(box) else None for box in boxes]
        is_beside_width = ["width" in row and "height" in row for row in records.rows]
        equals_image = [
            own_height is not None and is_size(height) and height == image_height and height > 2 * own_height
            for height, own_height, image_height in zip(stated, own, image_heights, strict=True)
        ]
        self._states_image_size = [a or b for a, b in zip(is_beside_width, equals_image, strict=True)]
        self._num_beside_width = sum(
            beside and height != own_height
            for beside, height, own_height in zip(is_beside_width, stated, own, strict=True)
        )
        self._num_equal = sum(b and not a for a, b in zip(is_beside_width, equals_image, strict=True))
        # 0 means absent: no record may state a height of 0.
        self.heights = records.check(
            '"height"',
            [
                ABSENT if is_image_size or row.get("height") is None else row["height"]
                for row, is_image_size in zip(records.rows, self._states_image_size, strict=True)
            ],
            is_size,
            "pixels above 0, at most 1e9",
            _REMEDY,
            default=0.0,
        )
        self.visibilities = records.column("vis_ratio", is_fraction, "a number from 0 to 1", _REMEDY, default=np.nan)
        self.visible_boxes = records.column(
            "vis_bbox", is_visible_box, VISIBLE_BOX_REQUIREMENT, _REMEDY, default=[np.nan] * 4
        )
        self.occluded = records.column("occluded", is_flag, FLAG_REQUIREMENT, _REMEDY, default=_NOT_STATED)
        self.labels = records.column("label", is_text, "text", _REMEDY, default="")
        self.ignore = records.column("ignore", is_flag, FLAG_REQUIREMENT, _REMEDY, default=0)
        self.crowd = records.column("iscrowd", is_flag, FLAG_REQUIREMENT, _REMEDY, default=0)

    def visible_fractions(self, boxes_xywh: FloatArray) -> FloatArray:
        """(N,) the stated fractions; if absent, those of the visible boxes, else 1."""
        stated = np.array(self.visibilities, dtype=np.float64)
        visible = self.visible_boxes_xywh()
        area = boxes_xywh[:, 2] * boxes_xywh[:, 3]
        # An area may underflow to 0.
        from_boxes = visible[:, 2] * visible[:, 3] / np.where(area > 0, area, np.nan)
        fractions = np.where(np.isnan(stated), from_boxes, stated)
        # A ratio of two areas may pass 1 by a rounding error.
        return np.minimum(np.where(np.isnan(fractions), 1.0, fractions), 1.0)

    def visible_boxes_xywh(self) -> FloatArray:
        """(N, 4), NaN where there is none."""
        return np.array(self.visible_boxes, dtype=np.float64).reshape(-1, 4)

    def notes(self) -> tuple[Note, ...]:
        """Fields that were not read as written."""
        counted = (
            (self._num_beside_width, "a width beside their height, which is read as the image's size"),
            (self._num_equal, "the height of their image, more than twice that of their box"),
        )
        return tuple(
            Note("heights_of_images", count, f"{count:,} annotations state {what}: the boxes' own heights are used")
            for count, what in counted
            if count > 0
        )


class BoxColumns:
    """The fields of the annotations that are read, checked; mistakes are noted in the records' problems.

    Besides those of :class:`hkd.coco.selection.SelectedAnnotations`, an annotation may have the keys of
    :class:`PedestrianFields`. Other keys are not read.

    Args:
        selected: the annotations.
    """

    def __init__(self, selected: SelectedAnnotations) -> None:
        self.selected = selected
        self.fields = PedestrianFields(selected.records, selected.boxes, [height for _, height in selected.image_sizes])

    def annotated_boxes(self) -> AnnotatedBoxes:
        """All boxes as arrays, in the file's order; only for records without problems."""
        boxes_xywh = np.array(self.selected.boxes, dtype=np.float64).reshape(-1, 4)
        stated = self.fields
        heights = np.array(stated.heights, dtype=np.float64)
        label_names = tuple(sorted({str(label) for label in stated.labels} - {""}))
        positions = {label: i for i, label in enumerate(label_names)} | {"": -1}
        is_ignored, is_crowd, is_region = np.array(
            [stated.ignore, stated.crowd, self.selected.is_ignored], dtype=np.bool_
        )
        return AnnotatedBoxes(
            image_ids=np.array(self.selected.image_ids, dtype=np.int64),
            boxes_xywh=boxes_xywh,
            heights=np.where(heights > 0, heights, boxes_xywh[:, 3]),
            visibilities=stated.visible_fractions(boxes_xywh),
            visible_boxes_xywh=stated.visible_boxes_xywh(),
            occlusion_flags=np.array(stated.occluded, dtype=np.int8),
            label_names=label_names,
            label_index=np.array([positions[str(label)] for label in stated.labels], dtype=np.int64),
            crowd=is_crowd,
            ignore=is_ignored | is_crowd | is_region,
        )

    def notes(self) -> tuple[Note, ...]:
        """Annotations that were left out, ignored or not read as written."""
        return (*self.selected.notes(), *self.fields.notes())

    def doubts(self) -> list[Note]:
        """Images and boxes that are read as written, but probably not as meant; for records without problems."""
        selected = self.selected
        sizes = [[side if is_size(side) else np.nan for side in size] for size in selected.image_sizes]
        boxes_xywh = np.array(selected.boxes, dtype=np.float64).reshape(-1, 4)
        sizes_wh = np.array(sizes, dtype=np.float64).reshape(-1, 2)
        return [
            *selected.repeated_images(),
            *unit_notes(boxes_xywh, sizes_wh, "boxes_in_other_units", "boxes"),
        ]

    def repeated_people(self) -> list[Note]:
        """A note on people who have the box of another one in their image; for records without problems."""
        records, boxes, image_ids = self.selected.records, self.selected.boxes, self.selected.image_ids
        # The same box with another label or height is another object: a rider and the bicycle, a body cut by the edge.
        rows = [
            (image_id, tuple(box) if is_box(box) else (), label, height)
            for image_id, box, label, height in zip(
                image_ids, boxes, self.fields.labels, self.fields.heights, strict=True
            )
        ]
        flags = zip(self.fields.ignore, self.fields.crowd, self.selected.is_ignored, strict=True)
        is_ignored = [any(value in (1, True) for value in values) for values in flags]
        twice = [
            f"annotations[{records.positions[i]}], image {image_ids[i]}, bbox {boxes[i]}"
            for i in repeated(rows)
            if not is_ignored[i]
        ]
        sentence = (
            "{count} boxes repeat another of their image: each counts as one more person, which a detector that finds "
            "the person once misses (first: {first})"
        )
        return counted_note("boxes_repeated", twice, sentence)
