"""Annotation formats in JSON other than COCO's, recognised so that messages can name them."""

from __future__ import annotations

_KEYS_OF_OBJECTS = (
    ({"shapes", "imagePath"}, "labelme's, one file per image"),
    ({"_via_img_metadata"}, "VGG Image Annotator's"),
    ({"items", "categories"}, "Datumaro's"),
    ({"openlabel"}, "OpenLABEL's"),
    ({"size", "objects"}, "Supervisely's, one file per image"),
    ({"item", "annotations"}, "V7 Darwin's"),
)
_KEYS_OF_RECORDS = (
    ({"data", "annotations"}, "Label Studio's"),
    ({"data", "completions"}, "Label Studio's"),
    ({"image", "annotations"}, "Apple Create ML's"),
    ({"name", "labels"}, "BDD100K's or Scalabel's"),
)


def other_format(document: object) -> str | None:
    """The tool or format of a JSON document by its keys, such as ``Datumaro's``; None if none is recognised."""
    if isinstance(document, list):
        first = document[0] if document else None
        if not isinstance(first, dict):
            return None
        return next((name for keys, name in _KEYS_OF_RECORDS if keys <= first.keys()), None)
    if not isinstance(document, dict):
        return None
    found = next((name for keys, name in _KEYS_OF_OBJECTS if keys <= document.keys()), None)
    if found is None and any(
        isinstance(value, dict) and {"filename", "regions"} <= value.keys() for value in list(document.values())[:3]
    ):
        return "VGG Image Annotator's"
    return found


def export_hint(document: object) -> str | None:
    """What to do about a document in another format; None if none is recognised."""
    name = other_format(document)
    return None if name is None else f"the format is {name}: export or convert the annotations as COCO JSON"
