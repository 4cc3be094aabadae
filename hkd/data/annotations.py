"""Pedestrian annotations: COCO JSON with the fields that CityPersons and its followers use, read and checked.

An annotation has ``bbox`` [x, y, width, height] of the full body in pixels, and optionally ``vis_bbox`` (the visible
part), ``vis_ratio`` in [0, 1] (1 where unknown), ``height`` in pixels, ``ignore`` and ``iscrowd`` (0/1, or false/true).
A ``height`` with a ``width`` beside it is the image's, as some writers have it: the box's own height is used then.
Two more say what the data set itself calls a box, for protocols that ask: ``label``, the data set's own class
("person", "people", "rider" ...; absent where it is a pedestrian), and ``occluded`` (0/1). An image has
``id``, ``file_name`` (``im_name`` is read too, as CityPersons writes it), ``height`` and ``width``. ``info.image_root``
names the folder of the images: absolute, or relative to the JSON file's own folder, which is also the default.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hkd.data.annotation_checks import (
    PEDESTRIAN_ID,
    FloatArray,
    ImageRecord,
    check_image_files,
    clip_boxes,
    parse_boxes,
    parse_categories,
    parse_images,
    shown,
    stated_image_ids,
    states_image_size,
)
from hkd.data.files import read_bounded
from hkd.files import write_all_atomically
from hkd.json_text import RepeatedKeyError, load_json
from hkd.terminal_text import printable

__all__ = [
    "AnnotationError",
    "Annotations",
    "ImageRecord",
    "annotation_document",
    "check_annotations",
    "parse_json",
    "read_annotations",
    "read_json",
    "write_annotations",
    "write_documents",
]

_PROBLEMS_LISTED = 20


class AnnotationError(ValueError):
    """Annotations or images that cannot be used; ``problems`` holds every sentence, ``str()`` the first 20."""

    def __init__(self, problems: Sequence[str], source: str) -> None:
        # Both go to args, so that the error survives pickling on its way out of a worker process.
        super().__init__(tuple(problems), source)
        self.problems = tuple(problems)
        self.source = source

    def __str__(self) -> str:
        if len(self.problems) == 1:
            return printable(f"{self.source}: {self.problems[0]}")
        lines = [printable(f"{self.source}: {len(self.problems)} problems:")]
        lines += [printable(f"- {problem}") for problem in self.problems[:_PROBLEMS_LISTED]]
        if len(self.problems) > _PROBLEMS_LISTED:
            lines.append(f"- and {len(self.problems) - _PROBLEMS_LISTED} more")
        return "\n".join(lines)


@dataclass(frozen=True)
class Annotations:
    """Checked annotations of one set of images; the arrays hold one row a box."""

    path: Path | None
    """The file they were read from."""
    image_root: Path
    images: tuple[ImageRecord, ...]
    image_index: npt.NDArray[np.int64]
    """(N,): position in ``images`` of the box's image."""
    boxes_xywh: FloatArray
    """(N, 4) pixels of the original image, clipped to it: what a detector learns from."""
    vis_ratio: FloatArray
    """(N,) visible share of the full body, 1 where unknown."""
    heights: FloatArray
    """(N,) pixels; the annotated height, which clipping does not change: evaluation chooses its subsets by it."""
    ignore: npt.NDArray[np.bool_]
    """(N,): not to be counted for or against a detector: flagged so, a crowd, or of another category."""
    records: tuple[dict[str, Any], ...] = field(repr=False)
    """The COCO annotation of each box, completed, with its box as annotated; see :meth:`raw`."""
    mended: tuple[str, ...] = ()
    """What reading changed, one sentence each."""

    def boxes_of(self, index: int) -> FloatArray:
        """Boxes (n, 4) xywh of the image at this position of ``images``."""
        boxes: FloatArray = self.boxes_xywh[self.image_index == index]
        return boxes

    def raw(self) -> dict[str, Any]:
        """A new COCO JSON dict for an evaluator, all boxes of category 1.

        Boxes stand as annotated, not clipped: CityPersons' protocol matches full bodies that reach out of the image.
        Annotations are numbered from 1, because pycocotools reads a match with annotation 0 as no match.
        """
        return {
            "images": [
                {"id": image.image_id, "file_name": image.file_name, "height": image.height, "width": image.width}
                for image in self.images
            ],
            "categories": [{"id": PEDESTRIAN_ID, "name": "pedestrian"}],
            "annotations": [
                {**record, "id": number, "bbox": list(record["bbox"])} for number, record in enumerate(self.records, 1)
            ],
        }

    def content_hash(self) -> str:
        """32 hex digits that change with any image record or box, not with where the files lie."""
        text = json.dumps([[(i.image_id, i.file_name, i.height, i.width) for i in self.images], self.records])
        return hashlib.sha256(text.encode()).hexdigest()[:32]


def read_annotations(path: Path, image_root: Path | None = None, *, check_images: bool = True) -> Annotations:
    """Reads and checks a COCO-style annotation file.

    The pedestrian category is the one named ``pedestrian`` or ``person`` (or the only one, if its id is 1). Boxes of
    other categories become ignore regions, as CityPersons' evaluation has it.

    Args:
        path: the JSON file.
        image_root: folder of the images, in place of what the file says.
        check_images: whether every image file must exist, open and have the stated size (headers only are read).

    Raises:
        AnnotationError: listing everything that is wrong with the file and its images.
    """
    path = Path(path)
    document = read_json(path)
    return check_annotations(document, path, image_root, check_images=check_images)


def check_annotations(
    document: object, path: Path, image_root: Path | None = None, *, check_images: bool = True
) -> Annotations:
    """As :func:`read_annotations`, for a document that is (to be) written at ``path``."""
    source = str(path)
    if not isinstance(document, dict):
        raise AnnotationError(
            [f"the top level is a {type(document).__name__}; it must be an object (COCO JSON)"], source
        )
    lists: dict[str, list[Any]] = {}
    problems = []
    for key in ("images", "annotations", "categories"):
        value = document.get(key)
        if isinstance(value, list):
            lists[key] = value
        else:
            found = f"is a {type(value).__name__}" if key in document else "is missing"
            problems.append(f"'{key}' {found}; it must be a list, as in COCO JSON")
    if problems:
        raise AnnotationError(problems, source)
    root = _image_root(document, path, image_root, problems)
    images = parse_images(lists["images"], problems)
    if check_images:
        check_image_files(images, root, problems)
    pedestrian, others = parse_categories(lists["categories"], problems)
    stated = stated_image_ids(lists["images"])
    records = parse_boxes(lists["annotations"], stated, pedestrian, others, problems)
    usable = {image.image_id for image in images}
    records = [record for record in records if record["image_id"] in usable]
    boxes, mended = clip_boxes(records, images, problems)
    of_images = sum(isinstance(record, dict) and states_image_size(record) for record in lists["annotations"])
    if of_images:
        mended.append(
            f"{of_images} annotations state a width beside their height: both are the image's, so that the box's own"
            " height is used"
        )
    if problems:
        raise AnnotationError(problems, source)
    position = {image.image_id: index for index, image in enumerate(images)}
    return Annotations(
        path=path,
        image_root=root,
        images=tuple(images),
        image_index=np.array([position[record["image_id"]] for record in records], dtype=np.int64),
        boxes_xywh=boxes,
        vis_ratio=np.array([record["vis_ratio"] for record in records], dtype=np.float64),
        heights=np.array([record["height"] for record in records], dtype=np.float64),
        ignore=np.array([record["ignore"] for record in records], dtype=np.bool_),
        records=tuple(records),
        mended=tuple(mended),
    )


def annotation_document(
    images: Sequence[Mapping[str, Any]], annotations: Sequence[Mapping[str, Any]], image_root: str
) -> dict[str, Any]:
    """The COCO JSON document of some pedestrians.

    Args:
        images: each with ``id``, ``file_name``, ``height``, ``width``.
        annotations: each with ``image_id`` and ``bbox``; what else is absent becomes: id counted from 1, pedestrian,
            wholly visible (unless a ``vis_bbox`` tells, from which readers derive it), as high as its box, neither
            ignored nor a crowd.
        image_root: folder of the images, relative to the file that will hold the document, or absolute.
    """
    return {
        "info": {"image_root": image_root},
        "images": [dict(image) for image in images],
        "categories": [{"id": PEDESTRIAN_ID, "name": "pedestrian"}],
        "annotations": [
            {
                "id": number,
                "category_id": PEDESTRIAN_ID,
                **({} if "vis_bbox" in annotation else {"vis_ratio": 1}),
                "height": annotation["bbox"][3],
                "ignore": 0,
                "iscrowd": 0,
                **annotation,
            }
            for number, annotation in enumerate(annotations, 1)
        ],
    }


def write_annotations(
    path: Path, images: Sequence[Mapping[str, Any]], annotations: Sequence[Mapping[str, Any]], image_root: str
) -> None:
    """Writes :func:`annotation_document` at ``path`` atomically."""
    write_documents({path: annotation_document(images, annotations, image_root)})


def write_documents(documents: Mapping[Path, Mapping[str, Any]]) -> None:
    """Write each document at its path; an error while writing one leaves all paths unchanged."""
    write_all_atomically({path: json.dumps(document, allow_nan=False) for path, document in documents.items()})


def read_json(path: Path) -> object:
    """The document in a JSON file.

    Raises:
        AnnotationError: the file cannot be read, is larger than any annotations (1 GiB), or is not JSON.
    """
    try:
        content = read_bounded(path)
    except FileNotFoundError:
        problem = "there is no such file; name the COCO-style JSON of a data set, or make one with `hkd data`"
    except OSError as error:
        problem = f"the file cannot be read ({error.strerror}); name a readable COCO-style JSON file"
    else:
        return parse_json(content, str(path))
    raise AnnotationError([problem], str(path))


def parse_json(content: bytes, source: str) -> object:
    """The document that these bytes of ``source`` hold.

    Raises:
        AnnotationError: they are not JSON, or have a key twice in one object.
    """
    try:
        return load_json(content)
    except RepeatedKeyError as error:
        problem = f"{error}; keep one of the two"
    except json.JSONDecodeError as error:
        problem = f"line {error.lineno}, column {error.colno}: not valid JSON ({error.msg}); is the file truncated?"
    except (ValueError, RecursionError) as error:  # no UTF-8, a number of thousands of digits, brackets without end
        problem = f"not valid JSON ({type(error).__name__}); the file must be COCO-style JSON in UTF-8"
    except MemoryError:
        problem = "it takes more memory than there is"
    raise AnnotationError([problem], source)


def _image_root(document: Mapping[str, Any], path: Path, override: Path | None, problems: list[str]) -> Path:
    if override is not None:
        return Path(override)
    info = document.get("info", {})
    stated = info.get("image_root", ".") if isinstance(info, dict) else "."
    if not isinstance(stated, str):
        problems.append(f"info.image_root is {shown(stated)}; it must be the path of the images' folder")
        stated = "."
    return path.parent / stated
