"""Which boxes are people, ignore regions or not read, in ground truth, annotations and detections."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hkd.coco.annotations import parse_annotations
from hkd.coco.categories import CategoryNames
from hkd.coco.detections import DetectedBoxes, parse_detections
from hkd.coco.ground_truth import GroundTruth, parse_ground_truth
from hkd.coco.parsing.errors import AnnotationError
from tests.evaluation.coco_files import Json, coco, detection, person

GROUND_TRUTH = coco(2, [person(1, [0, 0, 20, 60]), person(2, [5, 5, 30, 90]), person(2, [50, 5, 30, 90])])
COCO_91 = [(1, "person"), (2, "bicycle"), (3, "car"), (90, "toothbrush")]


def ground_truth_problems(raw: object, named: CategoryNames | None = None) -> tuple[str, ...]:
    with pytest.raises(AnnotationError) as caught:
        parse_ground_truth(raw, "val.json", named)
    assert caught.value.source == "val.json"
    return caught.value.problems


def document(categories: list[tuple[int, str]], boxes_of: list[int], **more: object) -> Json:
    """One image with a box of each of these categories, 60, 61 ... pixels high."""
    raw = coco(1, [person(1, [0, 0, 10, 60 + i]) | {"category_id": id_} | more for i, id_ in enumerate(boxes_of)])
    raw["images"][0] |= {"file_name": "1.jpg", "width": 640, "height": 480}
    return raw | {"categories": [{"id": id_, "name": name} for id_, name in categories]}


def heights_and_flags(raw: Json, named: CategoryNames | None = None) -> list[tuple[float, bool]]:
    """Height and ignore flag of each box that is read; training and evaluation read the same."""
    truth = parse_ground_truth(raw, "val.json", named)
    trained = parse_annotations(raw, Path("val.json"), named=named, check_images=False)
    read = list(zip(truth.heights.tolist(), truth.ignore.tolist(), strict=True))
    assert list(zip(trained.heights.tolist(), trained.ignore.tolist(), strict=True)) == read
    return read


@pytest.mark.parametrize(
    ("categories", "boxes_of", "read"),
    [
        ([(0, "person"), (1, "rider"), (2, "dog")], [0, 1, 2], [(60, False)]),
        ([(0, "rider"), (2, " Pedestrian ")], [0, 2, 2], [(61, False), (62, False)]),
        (COCO_91, [3, 1, 90], [(61, False)]),
        # Ignore regions by name.
        ([(1, "pedestrian"), (0, "ignore region"), (2, "rider")], [0, 1, 2], [(60, True), (61, False)]),
        ([(1, "Person"), (2, "DontCare"), (3, "ignored")], [1, 2, 3], [(60, False), (61, True), (62, True)]),
        # A root without boxes, as Roboflow (first) and CVAT write it, is none of the people.
        ([(0, "pedestrian"), (1, "person")], [1, 1], [(60, False), (61, False)]),
        ([(0, "person"), (1, "pedestrian")], [1], [(60, False)]),
        ([(0, "People"), (1, "person")], [1], [(60, False)]),
        # Two categories of the same name mean the same.
        ([(3, "Person"), (1, "person")], [1, 3], [(60, False), (61, False)]),
        # The name does not matter if there is only 1.
        ([(1, "pedestrain")], [1], [(60, False)]),
        ([], [1], [(60, False)]),
        # No box at all.
        ([(0, "pedestrian"), (1, "person")], [], []),
    ],
)
def test_people_and_ignore_regions_are_found_by_name(
    categories: list[tuple[int, str]], boxes_of: list[int], read: list[tuple[float, bool]]
) -> None:
    assert heights_and_flags(document(categories, boxes_of)) == read


def test_box_of_another_category_that_is_marked_as_ignored_is_an_ignore_region() -> None:
    categories = [(1, "pedestrian"), (2, "rider")]
    assert heights_and_flags(document(categories, [2, 1], ignore=1)) == [(60, True), (61, True)]
    assert heights_and_flags(document(categories, [2, 1], ignore=0)) == [(61, False)]
    assert heights_and_flags(document(categories, [2], iscrowd=1)) == []


def test_what_is_left_out_or_ignored_is_counted() -> None:
    categories = [(1, "person"), (3, "car"), (4, "bus"), (5, "dontcare")]
    truth = parse_ground_truth(document(categories, [1, 3, 3, 4, 5]), "val.json")
    left_out, ignored = truth.notes
    # Two cars, one bus; one region.
    assert (left_out.kind, left_out.count) == ("boxes_of_other_categories", 3)
    assert left_out.examples == ('2 of 3 "car"', '1 of 4 "bus"')
    assert "val.json: left out 3 boxes" in left_out.sentence
    assert (ignored.kind, ignored.count, ignored.examples) == ("boxes_of_ignored_categories", 1, ('1 of 5 "dontcare"',))


@pytest.mark.parametrize(
    ("named", "read"),
    [
        (CategoryNames(people=("Rider ",)), [(61, False)]),
        (CategoryNames(people=("rider", "person")), [(60, False), (61, False)]),
        (CategoryNames(people=("person",), ignored=("RIDER",)), [(60, False), (61, True)]),
    ],
)
def test_user_names_categories(named: CategoryNames, read: list[tuple[float, bool]]) -> None:
    raw = document([(1, "person"), (2, "rider"), (3, "pedestrian")], [1, 2, 3])
    assert heights_and_flags(raw, named) == read


def test_name_that_no_category_has_is_noted() -> None:
    raw = document([(1, "person")], [1])
    named = CategoryNames(("person", "skater"), ("bus",))
    assert heights_and_flags(raw, named) == [(60, False)]
    (note,) = parse_ground_truth(raw, "val.json", named).notes
    assert (note.kind, note.count, note.examples) == ("categories_not_found", 2, ('"skater"', '"bus"'))


def test_category_of_people_is_asked_about_where_two_have_boxes() -> None:
    raw = document([(1, "person"), (2, "pedestrian")], [1, 2, 2])
    (problem,) = ground_truth_problems(raw)
    assert all(fact in problem for fact in ('"person" (1)', '"pedestrian" (2)', "--person", "person_categories"))


@pytest.mark.parametrize(
    ("named", "facts"),
    [
        (CategoryNames(people=("walker",)), ['"walker"', '"person", "car"', "--person"]),
        (CategoryNames(people=("car",), ignored=("Car",)), ['"car"', "people and ignored"]),
    ],
)
def test_named_categories_that_cannot_be_used_are_reported(named: CategoryNames, facts: list[str]) -> None:
    (problem,) = ground_truth_problems(document([(1, "person"), (2, "car")], [1]), named)
    assert all(fact in problem for fact in facts)


def test_names_are_of_no_use_without_categories() -> None:
    (problem,) = ground_truth_problems(GROUND_TRUTH, CategoryNames(people=("rider",)))
    assert all(fact in problem for fact in ('"categories"', '"rider"'))


@pytest.mark.parametrize(
    ("categories", "words"),
    [
        ({}, '"categories" must be a list, but is an object'),
        ([{"id": 2, "name": "people"}], 'is named pedestrian or person: "people"; name'),
        ([{"id": 1, "name": "people"}, {"id": 2, "name": "cars"}], ': "people", "cars"; name'),
        ([{"id": "one", "name": "person"}], '"id" must be an integer, but categories[0] has "one"'),
        ([{"id": 1}], '"name" must be text, but categories[0] has none'),
        ([{"id": 1, "name": "person"}, {"id": "01", "name": "rider"}], '"id" must be different in each record'),
        (["person"], "each record must be an object in braces, but categories[0]"),
    ],
)
def test_invalid_categories_are_reported(categories: object, words: str) -> None:
    (problem,) = ground_truth_problems(GROUND_TRUTH | {"categories": categories})
    assert words in problem


def test_box_of_unknown_category_is_reported() -> None:
    raw = GROUND_TRUTH | {"categories": [{"id": 0, "name": "person"}, {"id": 4, "name": "rider"}]}
    (problem,) = ground_truth_problems(raw)
    assert '"category_id" must be the "id" of one of the "categories", which are 0 "person", 4 "rider"' in problem
    assert "annotations[2] (image_id 2) has 1" in problem
    assert "remove" not in problem


@pytest.mark.parametrize("write_id", [float, str, lambda id_: f"{id_:06}", lambda id_: f"{id_}.0"])
def test_ids_may_be_numbers_in_any_form(write_id: Any) -> None:
    raw = document([(0, "person"), (7, "car")], [0, 7, 0])
    for place, key in (
        ("images", "id"),
        ("annotations", "image_id"),
        ("annotations", "category_id"),
        ("categories", "id"),
    ):
        for record in raw[place]:
            record[key] = write_id(record[key])
    assert heights_and_flags(raw) == [(60, False), (62, False)]
    found = [{"image_id": write_id(1), "category_id": write_id(0), "bbox": [1, 2, 3, 4], "score": 1}]
    assert parse_detections(found, "found.json", parse_ground_truth(raw, "val.json")).image_index.tolist() == [0]


def test_ids_that_are_the_same_number_are_reported() -> None:
    (problem,) = ground_truth_problems({"images": [{"id": "1"}, {"id": "000001"}], "annotations": []})
    assert '"id" must be different in each record, but images[1] (id "000001")' in problem


def found_in(
    categories: list[tuple[int, str]], boxes_of: list[int], detections_of: list[int], named: CategoryNames | None = None
) -> tuple[GroundTruth, DetectedBoxes]:
    """Detections of these categories, with scores 0, 1, 2 ..."""
    truth = parse_ground_truth(document(categories, boxes_of), "val.json", named)
    found = [detection(1, [0, 0, 10, 60], i) | {"category_id": id_} for i, id_ in enumerate(detections_of)]
    return truth, parse_detections(found, "found.json", truth)


@pytest.mark.parametrize(
    ("categories", "boxes_of", "detections_of", "scores"),
    [
        # Results of all of COCO's categories, with a ground truth of all, of one, and of none.
        (COCO_91, [1], [1, 3, 1], [0, 2]),
        ([(1, "person")], [1], [3, 1, 90, 1], [1, 3]),
        ([], [1], [3, 1, 90], [1]),
        # The ground truth's ids decide, also from 0.
        ([(0, "person"), (1, "car")], [0, 1], [0, 1], [0]),
        # 1, which hkd writes, where the ground truth has no 1 and nothing is of its own id.
        ([(0, "person")], [0], [1, 1], [0, 1]),
        ([(7, "person"), (8, "car")], [7], [1, 8], [0]),
        # Otherwise 1 may be anything: bicycles, where ids count from 0.
        ([(0, "person")], [0], [0, 1], [0]),
        # Roboflow's unused root.
        ([(0, "pedestrian"), (1, "person")], [1], [1, 1], [0, 1]),
        ([(0, "pedestrian"), (1, "person")], [], [0, 1], [0, 1]),
        ([(1, "pedestrain")], [1], [1], [0]),
        ([(1, "person")], [1], [], []),
    ],
)
def test_detections_of_other_categories_are_left_out(
    categories: list[tuple[int, str]], boxes_of: list[int], detections_of: list[int], scores: list[float]
) -> None:
    _, boxes = found_in(categories, boxes_of, detections_of)
    assert boxes.scores.tolist() == scores
    num_left_out = len(detections_of) - len(scores)
    counts = [note.count for note in boxes.notes if note.kind == "detections_of_other_categories"]
    assert counts == [num_left_out] * (num_left_out > 0)


def test_detections_of_named_people_count() -> None:
    _, boxes = found_in([(0, "pedestrian"), (1, "person")], [1], [0, 1], CategoryNames(people=("pedestrian", "person")))
    assert boxes.scores.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("categories", "boxes_of", "detections_of", "facts"),
    [
        # The root has no box: are these people?
        (
            [(0, "pedestrian"), (1, "person")],
            [1],
            [0, 0],
            ["2 of 2", '0 "pedestrian"', "no box", '1 "person"', '--person "pedestrian" --person "person"'],
        ),
        ([(0, "pedestrian"), (1, "person")], [1], [0, 1], ["1 of 2", '0 "pedestrian"']),
        # Only other categories.
        ([(1, "person"), (3, "car")], [1], [3, 3], ["none of 2", '1 "person"', 'category 3 "car"']),
        ([(1, "person")], [1], [5], ["none of 1", "category 5"]),
        # Counted from 0.
        ([(1, "person")], [1], [0, 0], ["none of 2", "category 0", "Perhaps", "from 0"]),
        ([(1, "person")], [1], [0, 1, 1], ["1 of 3", "category 0", "Perhaps", "from 0"]),
        ([], [1], [0], ["none of 1", "category 0"]),
    ],
)
def test_detections_whose_categories_are_unclear_are_reported(
    categories: list[tuple[int, str]], boxes_of: list[int], detections_of: list[int], facts: list[str]
) -> None:
    with pytest.raises(AnnotationError) as caught:
        found_in(categories, boxes_of, detections_of)
    (problem,) = caught.value.problems
    assert all(fact in problem for fact in facts), problem
    assert "remove" not in problem
