"""Annotations with their images, for training and conversion.

COCO JSON with the fields that CityPersons and its followers use. An annotation has ``bbox`` [x, y, width, height] of
the full body in pixels, and optionally ``vis_bbox`` (the visible part), ``vis_ratio`` in [0, 1], ``height`` in pixels,
``ignore`` and ``iscrowd`` (0/1, or false/true). Two more fields are used by some protocols:
``label``, the data set's own class ("person", "people", "rider" ...; absent for a pedestrian), and ``occluded`` (0/1).
:class:`hkd.coco.boxes.BoxColumns` has the rules.

An image has ``id``, ``file_name`` (``im_name`` is read too, as CityPersons writes it), ``height`` and ``width``.
``info.image_root`` names the folder of the images: absolute, or relative to the JSON file's own folder, which is also
the default.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hkd.coco.boxes import AnnotatedBoxes, BoolArray, FloatArray, IntArray, no_boxes
from hkd.coco.categories import PEDESTRIAN_ID, CategoryNames
from hkd.coco.documents import DocumentColumns
from hkd.coco.ground_truth import GroundTruth, sorted_ground_truth
from hkd.coco.images import ImageRecord, check_image_files, read_image_records, text_ids
from hkd.coco.notes import EXAMPLES_KEPT, Note
from hkd.coco.parsing.errors import AnnotationError
from hkd.coco.parsing.reading import read_json
from hkd.coco.parsing.values import is_box, is_integer, shown
from hkd.coco.selection import SelectedAnnotations
from hkd.image_files.headers import DEFAULT_MAX_MEGAPIXELS

_REMEDY = "name the COCO-style JSON of a data set, or convert one with `hkd data`"
_ROUNDING_PIXELS = 1e-6


@dataclass(frozen=True, eq=False)
class Annotations:
    """Checked annotations of one set of images, in the file's order; the arrays hold one row per box."""

    path: Path | None
    """The file they were read from."""
    image_root: Path
    images: tuple[ImageRecord, ...]
    image_index: IntArray
    """(N,): position in ``images`` of the box's image."""
    boxes_xywh: FloatArray
    """(N, 4) pixels of the original image, clipped to it: what a detector learns from."""
    annotated: AnnotatedBoxes
    """The same boxes as annotated: what evaluation reads, because CityPersons' protocol matches full bodies that reach
    out of the image."""
    people_id: int = PEDESTRIAN_ID
    """Category of people in the file, for detections of its images."""
    notes: tuple[Note, ...] = ()
    """What was changed, interpreted or left out while reading."""

    @property
    def heights(self) -> FloatArray:
        """(N,) pixels, as annotated, unchanged by clipping: evaluation chooses its subsets by it."""
        return self.annotated.heights

    @property
    def visibilities(self) -> FloatArray:
        """(N,) visible fraction of the full body, 1 where unknown."""
        return self.annotated.visibilities

    @property
    def ignore(self) -> BoolArray:
        """(N,): counted neither for nor against a detector; see :class:`hkd.coco.boxes.AnnotatedBoxes`."""
        return self.annotated.ignore

    def boxes_of(self, index: int) -> FloatArray:
        """Clipped boxes (n, 4) xywh of the image at this position of ``images``."""
        boxes: FloatArray = self.boxes_xywh[self.image_index == index]
        return boxes

    def image_ids(self) -> IntArray:
        """(I,) ids in the order of ``images``."""
        return np.array([image.image_id for image in self.images], dtype=np.int64)

    def text_ids(self) -> dict[int, str]:
        """The ids in the file of the images, where they are texts that are no numbers."""
        return text_ids(self.images)

    def ground_truth(self) -> GroundTruth:
        """The boxes as annotated, for an evaluator."""
        sizes = [(float(image.width), float(image.height)) for image in self.images]
        return sorted_ground_truth(
            self.annotated,
            self.image_ids(),
            [image.file_name for image in self.images],
            text_ids={text: number for number, text in self.text_ids().items()},
            largest_image_wh=(max(w for w, _ in sizes), max(h for _, h in sizes)) if sizes else None,
        )

    def coco_records(self) -> list[dict[str, Any]]:
        """A new, complete COCO annotation of each box as annotated, of category 1, without an id."""
        return self.annotated.coco_records()

    def content_hash(self) -> str:
        """32 hex digits that change with any image record or box, but not with the location of the files."""
        images = [(image.image_id, image.file_name, image.height, image.width) for image in self.images]
        return hashlib.sha256(json.dumps([images, self.coco_records()]).encode()).hexdigest()[:32]


def without_boxes(
    images: Sequence[ImageRecord], image_root: Path, path: Path | None = None, notes: tuple[Note, ...] = ()
) -> Annotations:
    """Images as a data set without annotations.

    Args:
        path: named in messages on the images.
    """
    return Annotations(
        path=path,
        image_root=image_root,
        images=tuple(images),
        image_index=np.zeros(0, dtype=np.int64),
        boxes_xywh=np.zeros((0, 4)),
        annotated=no_boxes(),
        notes=notes,
    )


def read_annotations(
    path: Path,
    image_root: Path | None = None,
    *,
    named: CategoryNames | None = None,
    check_images: bool = True,
    max_megapixels: float = DEFAULT_MAX_MEGAPIXELS,
) -> Annotations:
    """Read and check a COCO-style annotation file.

    Args:
        path: the JSON file.
        image_root: folder of the images, in place of the one that the file names.
        named: the categories that the user names; by default those of :func:`hkd.coco.categories.read_categories`.
        check_images: whether every image file must exist, open and have the stated size (headers only are read).
        max_megapixels: largest number of pixels of a checked image, in millions.

    Raises:
        AnnotationError: listing everything that is wrong with the file and its images.
    """
    path = Path(path)
    document = read_json(path, _REMEDY)
    return parse_annotations(
        document, path, image_root, named=named, check_images=check_images, max_megapixels=max_megapixels
    )


def parse_annotations(
    document: object,
    path: Path,
    image_root: Path | None = None,
    *,
    named: CategoryNames | None = None,
    check_images: bool = True,
    max_megapixels: float = DEFAULT_MAX_MEGAPIXELS,
) -> Annotations:
    """As :func:`read_annotations`, for the parsed document of ``path``, which need not exist yet."""
    source = str(path)
    columns = DocumentColumns(document, source, named)
    assert isinstance(document, dict)
    problems = columns.problems
    root = _image_root(document, path, image_root, problems)
    images = read_image_records(columns.images, columns.image_ids, root)
    turned = check_image_files(images, root, problems, max_megapixels) if check_images else []
    sizes = {image.image_id: (image.width, image.height) for image in images}
    selected = columns.boxes.selected
    _require_inside(selected, sizes)
    if problems:
        raise AnnotationError(problems, source)
    annotated = columns.boxes.annotated_boxes()
    boxes, clipped = _clipped(annotated, sizes, selected.records.positions)
    position = {image.image_id: index for index, image in enumerate(images)}
    return Annotations(
        path=path,
        image_root=root,
        images=tuple(images),
        image_index=np.array([position[image_id] for image_id in annotated.image_ids.tolist()], dtype=np.int64),
        boxes_xywh=boxes,
        annotated=annotated,
        people_id=PEDESTRIAN_ID if columns.categories is None else columns.categories.written,
        notes=(*turned, *clipped, *columns.boxes.notes(), *columns.boxes.doubts()),
    )


def _require_inside(selected: SelectedAnnotations, sizes: dict[int, tuple[int, int]]) -> None:
    """Note well-formed boxes of which no pixel is inside their image: there is nothing to learn from."""
    outside: list[tuple[int, object]] = []
    for position, image_id, box in zip(selected.records.positions, selected.image_ids, selected.boxes, strict=True):
        size = sizes.get(int(image_id)) if is_integer(image_id) else None
        if size is not None and is_box(box):
            x, y, width, height = map(float, box)
            right, bottom = min(x + width, size[0]), min(y + height, size[1])
            if not (right > max(x, 0) and bottom > max(y, 0)):
                outside.append((position, box))
    selected.records.note('"bbox"', "at least partly inside its image", outside, "correct or remove the annotation")


def _clipped(
    annotated: AnnotatedBoxes, sizes: dict[int, tuple[int, int]], positions: Sequence[int]
) -> tuple[FloatArray, list[Note]]:
    """Boxes (N, 4) xywh clipped to their images, and a note on them if any was clipped.

    ``positions`` are those of the boxes in the file.
    """
    boxes = annotated.boxes_xywh
    limits = np.array([sizes[image_id] for image_id in annotated.image_ids.tolist()], dtype=np.float64).reshape(-1, 2)
    low = np.clip(boxes[:, :2], 0, limits)
    high = np.clip(boxes[:, :2] + boxes[:, 2:], 0, limits)
    beyond = np.maximum(low - boxes[:, :2], boxes[:, :2] + boxes[:, 2:] - high).max(axis=1, initial=0)
    clipped = np.flatnonzero(beyond > _ROUNDING_PIXELS)
    notes = []
    if len(clipped):
        examples = [
            f"annotations[{positions[i]}], image {annotated.image_ids[i]}, bbox {boxes[i].tolist()}"
            for i in clipped[:EXAMPLES_KEPT].tolist()
        ]
        sentence = (
            f"clipped {len(clipped)} of {len(boxes)} boxes that reach outside their image, by up to {beyond.max():g}"
            f" pixels (first: {examples[0]})"
        )
        notes.append(Note("boxes_clipped", len(clipped), sentence, tuple(examples)))
    return np.concatenate([low, high - low], axis=1), notes


def _image_root(document: dict[str, Any], path: Path, override: Path | None, problems: list[str]) -> Path:
    if override is not None:
        return Path(override)
    info = document.get("info", {})
    stated = info.get("image_root", ".") if isinstance(info, dict) else "."
    if not isinstance(stated, str) or "\0" in stated:
        problems.append(f"info.image_root is {shown(stated)}; it must be the path of the images' folder")
        stated = "."
    return path.parent / stated
