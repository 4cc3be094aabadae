from __future__ import annotations

from pathlib import Path

import pytest

from hkd.coco.annotations import parse_annotations
from hkd.coco.detections import parse_detections
from hkd.coco.ground_truth import parse_ground_truth
from hkd.coco.parsing.errors import AnnotationError
from tests.evaluation.coco_files import coco, detection, person

GROUND_TRUTH = coco(2, [person(1, [0, 0, 20, 60]), person(2, [5, 5, 30, 90]), person(2, [50, 5, 30, 90])])


def ground_truth_problems(raw: object) -> tuple[str, ...]:
    with pytest.raises(AnnotationError) as caught:
        parse_ground_truth(raw, "val.json")
    assert caught.value.source == "val.json"
    return caught.value.problems


@pytest.mark.parametrize(
    ("categories", "pedestrian", "ignored", "of_detections"),
    [
        # Annotations are of categories 0, 1 and 2.
        ([(0, "person"), (1, "rider"), (2, "dog")], 0, [False, True, True], (0,)),
        ([(0, "rider"), (1, "Person"), (2, " Pedestrian ")], 2, [True, True, False], (2,)),
        ([(1, "pedestrian"), (0, "ignore region"), (2, "rider")], 1, [True, False, True], (1,)),
        # 1 is what hkd writes, and here means nothing else.
        ([(0, "person")], 0, [False], (0, 1)),
        # The name does not matter if there is only 1.
        ([(1, "pedestrain")], 1, [False], (1,)),
        ([], 1, [False], (1,)),
    ],
)
def test_pedestrian_category_is_found_by_name(
    categories: list[tuple[int, str]], pedestrian: int, ignored: list[bool], of_detections: tuple[int, ...]
) -> None:
    ids = [0, 1, 2] if len(ignored) == 3 else [pedestrian]
    raw = coco(1, [person(1, [0, 0, 10, 60 + i], id=i + 1) | {"category_id": i} for i in ids])
    raw["categories"] = [{"id": i, "name": name} for i, name in categories]
    truth = parse_ground_truth(raw, "val.json")
    assert truth.ignore.tolist() == ignored
    assert truth.pedestrian_ids == of_detections
    if categories:
        raw["images"][0] |= {"file_name": "1.jpg", "width": 640, "height": 480}
        trained = parse_annotations(raw, Path("val.json"), check_images=False)
        assert trained.ignore.tolist() == truth.ignore.tolist()
    for category in range(3):
        found = [detection(1, [0, 0, 10, 60], 0.5) | {"category_id": category}]
        if category in of_detections:
            assert len(parse_detections(found, "found.json", truth).scores) == 1
        else:
            problem = rf"must be .*\(pedestrian\).* detections\[0\] \(image_id 1\) has {category};"
            with pytest.raises(AnnotationError, match=problem):
                parse_detections(found, "found.json", truth)


@pytest.mark.parametrize(
    ("categories", "words"),
    [
        ({}, '"categories" must be a list, but is an object'),
        ([{"id": 2, "name": "people"}], 'must be named pedestrian or person, but they are "people"; rename'),
        ([{"id": 1, "name": "people"}, {"id": 2, "name": "cars"}], 'but they are "people", "cars"; rename'),
        ([{"id": "1", "name": "person"}], '"id" must be an integer, but categories[0] has "1"'),
        ([{"id": 1}], '"name" must be text, but categories[0] has none'),
        ([{"id": 1, "name": "person"}, {"id": 1, "name": "rider"}], '"id" must be different in each record'),
        (["person"], "each record must be an object in braces, but categories[0]"),
    ],
)
def test_invalid_categories_are_reported(categories: object, words: str) -> None:
    (problem,) = ground_truth_problems(GROUND_TRUTH | {"categories": categories})
    assert words in problem


def test_box_of_unknown_category_is_reported() -> None:
    raw = GROUND_TRUTH | {"categories": [{"id": 0, "name": "person"}, {"id": 4, "name": "rider"}]}
    problem = ground_truth_problems(raw)[0]
    assert '"category_id" must be 0 (pedestrian) or another of the "categories", which is ignored' in problem
    assert "annotations[2] (image_id 2) has 1;" in problem
