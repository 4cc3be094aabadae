"""Images of detections, by id and by file name."""

from __future__ import annotations

import pytest

from hkd.coco.detected_images import ImageNames
from hkd.coco.detections import parse_detections
from hkd.coco.ground_truth import GroundTruth, parse_ground_truth
from hkd.coco.parsing.errors import AnnotationError
from tests.evaluation.coco_files import detection


def truth_of(*images: tuple[object, str]) -> GroundTruth:
    document = {"images": [{"id": id_, "file_name": name} for id_, name in images], "annotations": []}
    return parse_ground_truth(document, "val.json")


def image_ids(truth: GroundTruth, *values: object) -> list[int]:
    """The ids of the images that these values of image_id name."""
    found = [detection(0, [1, 2, 3, 4], 1) | {"image_id": value} for value in values]
    boxes = parse_detections(found, "found.json", truth)
    ids: list[int] = truth.image_ids[boxes.image_index].tolist()
    return ids


def problems_of(truth: GroundTruth, *values: object) -> tuple[str, ...]:
    with pytest.raises(AnnotationError) as caught:
        image_ids(truth, *values)
    return caught.value.problems


@pytest.mark.parametrize(
    ("name", "position"),
    [
        ("b_2.png", 1),
        ("b_2", 1),
        ("val/x/b_2.png", 1),
        ("x/b_2", 1),
        ("x\\b_2.png", 1),
        ("/data/val/x/b_2.png", 1),
        # Converted to another format.
        ("b_2.jpg", 1),
        # Dots that end no file's name.
        ("clip.mp4_7", 3),
        ("clip.mp4_7.jpg", 3),
        ("clip.mp4", None),
        # Another folder of the same file name.
        ("y/b_2.png", None),
        ("c", -1),
        ("v/c", -1),
        ("v/c.png", 4),
        ("c.jpg", 5),
        ("d/u/e.png", 6),
        ("e.png", -1),
        ("", None),
    ],
)
def test_images_are_found_by_name(name: str, position: int | None) -> None:
    names = ["a.png", "x/b_2.png", "", "clip.mp4_7.png", "v/c.png", "v/c.jpg", "u/e.png", "v/e.png"]
    assert ImageNames(names).find(name) == position


CITIES = (7, "frankfurt/frankfurt_000000_000294_leftImg8bit.png"), (3, "munster/munster_000001_000019_leftImg8bit.png")


def test_file_names_in_image_id_are_matched_and_counted() -> None:
    truth = truth_of(*CITIES)
    stems = ("munster_000001_000019_leftImg8bit", "frankfurt_000000_000294_leftImg8bit.png")
    assert image_ids(truth, *stems) == [3, 7]
    found = [detection(0, [1, 2, 3, 4], 1) | {"image_id": stem} for stem in stems]
    (note,) = parse_detections(found, "found.json", truth).notes
    assert (note.kind, note.count) == ("detections_matched_by_name", 2)


def test_numbers_are_ids_and_otherwise_names() -> None:
    # As ultralytics writes them: the stem as a number, if it is one, else as text.
    truth = truth_of((1, "000007.jpg"), (2, "000001.jpg"), (3, "b.jpg"))
    assert image_ids(truth, 1, 2) == [1, 2]
    assert image_ids(truth, 7, "b") == [1, 3]
    assert image_ids(truth, "000007", "b.jpg", 7.0) == [1, 3, 1]


def test_numbers_as_text_are_ids_unless_they_are_names() -> None:
    truth = truth_of((139, "000000000139.jpg"), (5, "a.jpg"))
    assert image_ids(truth, "000000000139", "5") == [139, 5]
    # The id of one image, the name of the other.
    (problem,) = problems_of(truth_of((1, "000002.jpg"), (2, "000001.jpg")), "000001")
    assert all(fact in problem for fact in ('"image_id"', "detections[0]", '"000001"', "as numbers"))


@pytest.mark.parametrize(
    ("values", "facts"),
    [
        (("bonn", "munster_000001_000019_leftImg8bit"), ["detections[0]", '"bonn"', '"id" or the file name']),
        ((9,), ["detections[0]", "has 9", '"id" or the file name']),
        # One an id, the other a name.
        ((3, "frankfurt_000000_000294_leftImg8bit"), ["detections[0]", "has 3", "use one of the two"]),
    ],
)
def test_unknown_images_are_reported(values: tuple[object, ...], facts: list[str]) -> None:
    (problem,) = problems_of(truth_of(*CITIES), *values)
    assert all(fact in problem for fact in facts), problem


def test_name_of_several_images_is_reported() -> None:
    truth = truth_of((1, "a/1.jpg"), (2, "b/1.jpg"), (3, "b/2.jpg"))
    (problem,) = problems_of(truth, "1.jpg", "2.jpg")
    assert all(fact in problem for fact in ("detections[0]", '"1.jpg"', "folders"))
    assert image_ids(truth, "a/1.jpg", "2.jpg") == [1, 3]


def test_ids_that_are_text_are_numbered_in_the_order_of_the_file() -> None:
    document = {
        "images": [{"id": "z"}, {"id": "12"}],
        "annotations": [
            {"image_id": "12", "category_id": 1, "bbox": [0, 0, 9, 20]},
            {"image_id": "z", "category_id": 1, "bbox": [0, 0, 9, 30]},
        ],
    }
    truth = parse_ground_truth(document, "val.json")
    assert (truth.image_ids.tolist(), truth.heights.tolist()) == ([1, 2], [30, 20])
    assert image_ids(truth, "12", "z") == [2, 1]
    # A number could be that of our numbering, or of another one.
    (problem,) = problems_of(truth, 1)
    assert "has 1" in problem


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        (["a", 1], 'images[0] (id "a") has "a"'),
        (["a", "b", "a"], "different in each record, but images[2]"),
        (["a", None], 'images[0] (id "a") has "a"'),
    ],
)
def test_ids_of_mixed_kinds_are_reported(ids: list[object], words: str) -> None:
    with pytest.raises(AnnotationError) as caught:
        parse_ground_truth({"images": [{"id": id_} for id_ in ids], "annotations": []}, "val.json")
    assert words in caught.value.problems[0]


def test_annotation_of_unknown_text_id_is_reported() -> None:
    people = [{"image_id": value, "category_id": 1, "bbox": [0, 0, 9, 20]} for value in ("a", "b", 1)]
    with pytest.raises(AnnotationError) as caught:
        parse_ground_truth({"images": [{"id": "a"}], "annotations": people}, "val.json")
    (problem,) = caught.value.problems
    assert all(fact in problem for fact in ("annotations[1]", "annotations[2]", 'the "id" of one of the "images"'))


def test_file_names_name_images_where_image_id_is_absent() -> None:
    truth = parse_ground_truth({"images": [{"id": 7, "file_name": "x/a.jpg"}], "annotations": []}, "val.json")
    boxes = parse_detections([{"file_name": "a.jpg", "category_id": 1, "bbox": [1, 2, 3, 4], "score": 1}], "dt", truth)
    assert boxes.image_index.tolist() == [0]


def test_file_names_are_preferred_to_ids_of_other_images() -> None:
    # Ultralytics: image_id is the number in the file name, here the id of the other image.
    images = [{"id": 1, "file_name": "000002.jpg"}, {"id": 2, "file_name": "000001.jpg"}]
    truth = parse_ground_truth({"images": images, "annotations": []}, "val.json")
    raw = [{"image_id": 2, "file_name": "000002.jpg", "category_id": 1, "bbox": [1, 2, 3, 4], "score": 1}]
    boxes = parse_detections(raw, "dt", truth)
    assert boxes.image_index.tolist() == [0]
    assert [note.kind for note in boxes.notes][:1] == ["image_ids_ambiguous"]
    # Without the name, it is an id, as COCO defines it.
    del raw[0]["file_name"]
    boxes = parse_detections(raw, "dt", truth)
    assert boxes.image_index.tolist() == [1]
    assert [(note.kind, note.count) for note in boxes.notes] == [("image_ids_ambiguous", 1)]


def test_accented_names_are_found_composed_and_decomposed() -> None:
    # u with a following diaeresis, as macOS writes it.
    truth = parse_ground_truth({"images": [{"id": 7, "file_name": "Z\u00fcrich.jpg"}], "annotations": []}, "val.json")
    raw = [{"image_id": "Zu\u0308rich.jpg", "category_id": 1, "bbox": [1, 2, 3, 4], "score": 1}]
    assert parse_detections(raw, "dt", truth).image_index.tolist() == [0]
