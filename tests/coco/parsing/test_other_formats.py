"""Recognition of annotation formats other than COCO's."""

from __future__ import annotations

import pytest

from hkd.coco.ground_truth import parse_ground_truth
from hkd.coco.parsing.errors import AnnotationError
from hkd.coco.parsing.other_formats import other_format


@pytest.mark.parametrize(
    ("document", "name"),
    [
        ({"version": "5.0", "shapes": [], "imagePath": "a.jpg"}, "labelme"),
        ({"a.jpg123": {"filename": "a.jpg", "size": 123, "regions": []}}, "VGG Image Annotator"),
        ({"_via_settings": {}, "_via_img_metadata": {}}, "VGG Image Annotator"),
        ({"info": {}, "categories": {"label": {}}, "items": []}, "Datumaro"),
        ({"openlabel": {}}, "OpenLABEL"),
        ({"size": {"height": 4, "width": 6}, "objects": []}, "Supervisely"),
        ([{"id": 1, "data": {"image": "a.jpg"}, "annotations": []}], "Label Studio"),
        ([{"name": "a.jpg", "labels": []}], "BDD100K"),
    ],
)
def test_format_is_named_with_what_to_do(document: object, name: str) -> None:
    with pytest.raises(AnnotationError) as caught:
        parse_ground_truth(document, "val.json")
    (problem,) = caught.value.problems
    assert name in problem
    assert "export or convert the annotations as COCO JSON" in problem


@pytest.mark.parametrize("document", [None, 1, "a", [], [1], {}, {"images": [], "annotations": []}])
def test_other_documents_are_not_named(document: object) -> None:
    assert other_format(document) is None
