"""The lists of a COCO document, read for :mod:`hkd.coco.ground_truth` and :mod:`hkd.coco.annotations` alike."""

from __future__ import annotations

from pathlib import Path

from hkd.coco.boxes import BoxColumns
from hkd.coco.categories import PEDESTRIAN_ID, Categories, CategoryNames, read_categories
from hkd.coco.images import IMAGE_NAMES, ImageRecord, parse_images, read_image_ids
from hkd.coco.parsing.errors import AnnotationError
from hkd.coco.parsing.other_formats import export_hint
from hkd.coco.parsing.reading import read_json
from hkd.coco.parsing.records import Records
from hkd.coco.parsing.values import kind_of, shown
from hkd.coco.selection import SelectedAnnotations


class DocumentColumns:
    """Ids of the images, categories and fields of the annotations of a document, checked.

    Args:
        document: the parsed JSON.
        source: the document's file; for messages.
        named: the categories that the user names.

    Raises:
        AnnotationError: the document is not an object with the lists ``images`` and ``annotations``. Mistakes in their
            records are added to ``problems``.
    """

    def __init__(self, document: object, source: str, named: CategoryNames | None = None) -> None:
        self.problems: list[str] = []
        image_values, annotation_values, category_values = _lists(document, source)
        self.images = Records(image_values, "images", self.problems, named_by=IMAGE_NAMES)
        self.image_ids = read_image_ids(self.images)
        known_ids = None if self.problems else self.image_ids
        annotations = Records(annotation_values, "annotations", self.problems, named_by=("id", "image_id"))
        category_ids = (row.get("category_id") for row in annotations.rows)
        self.categories: Categories | None = read_categories(category_values, category_ids, self.problems, named)
        self.boxes = BoxColumns(SelectedAnnotations(annotations, self.images, known_ids, self.categories))


def read_images(path: Path) -> tuple[list[ImageRecord], int]:
    """The images of a COCO document, and its category of people, 1 where that is unclear.

    It need not have annotations; neither they nor files are checked.

    Raises:
        AnnotationError: the file cannot be read, or its images are invalid.
    """
    document = read_json(path)
    values = document.get("images") if isinstance(document, dict) else None
    if not isinstance(document, dict) or not isinstance(values, list):
        problem = (
            f'it must be an object with the list "images" (COCO-style JSON), but is {kind_of(document)} without it'
        )
        raise AnnotationError([f"{problem}; name a COCO-style file"], str(path))
    problems: list[str] = []
    images = parse_images(values, problems)
    if problems:
        raise AnnotationError(problems, str(path))
    return images, _people_id(document)


def _people_id(document: dict[str, object]) -> int:
    annotations = document.get("annotations")
    records = annotations if isinstance(annotations, list) else []
    category_ids = [record.get("category_id") for record in records if isinstance(record, dict)]
    categories = read_categories(document.get("categories"), category_ids, [])
    return PEDESTRIAN_ID if categories is None else categories.written


def _lists(document: object, source: str) -> tuple[list[object], list[object], object]:
    """The lists of images and of annotations, and the categories unchecked (None if absent).

    Raises:
        AnnotationError: the document has no such lists.
    """
    shape = 'it must be an object with the lists "images" and "annotations" (COCO-style JSON)'
    if not isinstance(document, dict):
        hint = export_hint(document) or "name a COCO-style file"
        if isinstance(document, list) and any(isinstance(one, dict) and "score" in one for one in document):
            hint = "it has scores, as detections have; perhaps the two files were swapped"
        raise AnnotationError([f"{shape}, but is {kind_of(document)}; {hint}"], source)
    images, annotations = document.get("images"), document.get("annotations")
    if isinstance(images, list) and isinstance(annotations, list):
        return images, annotations, document.get("categories")
    found = (
        ", ".join(f"{shown(str(key))} ({kind_of(value)})" for key, value in list(document.items())[:10]) or "nothing"
    )
    hint = export_hint(document) or "name a COCO-style file"
    if "gtboxes" in document:
        hint = "these are CrowdHuman's annotations, which `hkd data crowdhuman` converts"
    raise AnnotationError([f"{shape}, but has {found}; {hint}"], source)
