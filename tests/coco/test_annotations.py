"""Reading and checking of annotations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hkd.coco.annotations import read_annotations
from hkd.coco.categories import CategoryNames
from hkd.coco.ground_truth import GroundTruth, read_ground_truth
from hkd.coco.parsing.values import BOX_REQUIREMENT
from hkd.coco.writing import write_annotations
from tests.coco.conftest import document_of_two_images, reading_error


def test_reads_every_field(write: Callable[[object], Path]) -> None:
    path = write(document_of_two_images())
    annotations = read_annotations(path)
    assert annotations.path == path
    assert annotations.image_root == path.parent / "pictures"
    assert [(i.image_id, i.file_name, i.height, i.width) for i in annotations.images] == [
        (7, "a.png", 40, 60),
        (3, "sub/b.png", 30, 20),
    ]
    assert annotations.image_index.tolist() == [1, 0]
    assert annotations.boxes_xywh.tolist() == [[1, 2, 10, 20], [0, 0, 5, 10]]
    # (10 * 5) / (10 * 20) of the first is visible; the second states its own.
    assert annotations.visibilities.tolist() == [0.25, 0.75]
    assert annotations.heights.tolist() == [20, 12]
    assert annotations.ignore.tolist() == [False, True]
    assert annotations.boxes_of(0).tolist() == [[0, 0, 5, 10]]
    assert annotations.notes == ()


def test_coco_records_are_complete_and_of_one_category(write: Callable[[object], Path]) -> None:
    annotations = read_annotations(write(document_of_two_images()))
    records = annotations.coco_records()
    assert records == [
        {
            "image_id": 3,
            "category_id": 1,
            "bbox": [1, 2, 10, 20],
            "vis_bbox": [1, 2, 10, 5],
            "vis_ratio": 0.25,
            "height": 20,
            "ignore": 0,
            "iscrowd": 0,
        },
        {
            "image_id": 7,
            "category_id": 1,
            "bbox": [0, 0, 5, 10],
            "vis_ratio": 0.75,
            "height": 12,
            "ignore": 1,
            "iscrowd": 0,
        },
    ]
    records[0]["bbox"][0] = 99  # the caller's own
    assert annotations.coco_records()[0]["bbox"][0] == 1


def test_ground_truth_is_what_evaluation_reads_from_the_same_file(write: Callable[[object], Path]) -> None:
    document = document_of_two_images()
    document["annotations"][0] |= {"label": "person?", "occluded": 0, "iscrowd": True, "bbox": [-4, 25, 10, 20]}
    document["annotations"].append({"id": 9, "image_id": 3, "category_id": 1, "bbox": [1, 1, 5, 5], "vis_ratio": None})
    path = write(document)
    found, expected = read_annotations(path).ground_truth(), read_ground_truth(path)
    for field in (field for field in fields(GroundTruth) if field.name != "categories"):
        np.testing.assert_array_equal(getattr(found, field.name), getattr(expected, field.name), err_msg=field.name)
    # Images by ascending id; boxes as annotated, not clipped.
    assert found.image_ids.tolist() == [3, 7]
    assert found.boxes_xywh.tolist() == [[-4, 25, 10, 20], [1, 1, 5, 5], [0, 0, 5, 10]]


def test_boxes_are_clipped_for_training_but_not_for_evaluation(write: Callable[[object], Path]) -> None:
    document = document_of_two_images()
    document["annotations"][0]["bbox"] = [-4, 25, 10, 20]  # on a 20 x 30 image
    annotations = read_annotations(write(document))
    # x: -4..6 -> 0..6; y: 25..45 -> 25..30, 15 pixels below the edge.
    assert annotations.boxes_xywh[0].tolist() == [0, 25, 6, 5]
    assert annotations.heights[0] == 20
    assert annotations.coco_records()[0]["bbox"] == [-4, 25, 10, 20]
    (note,) = annotations.notes
    assert (note.kind, note.count) == ("boxes_clipped", 1)
    assert note.sentence.startswith("clipped 1 of 2 boxes that reach outside their image, by up to 15 pixels")
    assert "annotations[0]" in note.sentence


def test_label_and_occlusion_are_kept(write: Callable[[object], Path], tmp_path: Path) -> None:
    document = document_of_two_images()
    document["annotations"][0] |= {"label": "person?", "occluded": 1, "ignore": 1}
    document["annotations"][1] |= {"occluded": False}
    annotations = read_annotations(write(document))
    first, second = annotations.coco_records()
    assert (first["label"], first["occluded"]) == ("person?", 1)
    assert (second.get("label"), second["occluded"]) == (None, 0)
    path = tmp_path / "again.json"
    write_annotations(path, document_of_two_images()["images"], annotations.coco_records(), "pictures")
    assert read_annotations(path).coco_records() == annotations.coco_records()


def test_width_and_height_of_annotation_are_those_of_image(write: Callable[[object], Path]) -> None:
    document = document_of_two_images()
    document["annotations"][0] |= {"width": 20, "height": 30}
    annotations = read_annotations(write(document))
    # The box of 10 x 20 pixels in an image of 20 x 30; the other annotation states a person's height alone.
    assert annotations.heights.tolist() == [20, 12]
    (note,) = annotations.notes
    assert note.sentence.startswith("1 annotations state a width beside their height")


def test_flags_may_be_true_and_false(write: Callable[[object], Path]) -> None:
    document = document_of_two_images()
    document["annotations"][0] |= {"ignore": True, "iscrowd": False}
    document["annotations"][1] |= {"ignore": False, "iscrowd": True, "category_id": 1}
    annotations = read_annotations(write(document))
    assert annotations.ignore.tolist() == [True, True]
    flags = [(record["ignore"], record["iscrowd"]) for record in annotations.coco_records()]
    assert flags == [(1, 0), (1, 1)]
    assert all(type(flag) is int for pair in flags for flag in pair)  # as evaluators expect


def test_crowds_are_ignored(write: Callable[[object], Path]) -> None:
    document = document_of_two_images()
    document["annotations"][0]["iscrowd"] = 1
    assert read_annotations(write(document)).ignore.tolist() == [True, True]


def test_boxes_of_other_categories_are_not_learned_from(write: Callable[[object], Path]) -> None:
    document = document_of_two_images()
    document["annotations"][0] |= {"category_id": 2, "bbox": [0, 0, 0, -1]}  # a rider, whose box is not checked
    annotations = read_annotations(write(document))
    assert (annotations.image_index.tolist(), annotations.ignore.tolist()) == ([0], [True])
    (note,) = annotations.notes
    assert (note.kind, note.count, note.examples) == ("boxes_of_other_categories", 1, ('1 of 2 "rider"',))


def test_boxes_of_named_categories_are_learned_from(write: Callable[[object], Path]) -> None:
    document = document_of_two_images()
    document["annotations"][0]["category_id"] = 2
    riders = read_annotations(write(document), named=CategoryNames(people=("Rider",)))
    # The box of the pedestrian states "ignore": 1, the rider is the person.
    assert (riders.image_index.tolist(), riders.ignore.tolist()) == ([1, 0], [False, True])
    ignored = read_annotations(write(document), named=CategoryNames(ignored=("rider",)))
    assert (ignored.image_index.tolist(), ignored.ignore.tolist()) == ([1, 0], [True, True])


@pytest.mark.parametrize(
    ("categories", "people_id"),
    [
        ([(1, "pedestrian"), (2, "rider")], 1),
        ([(5, "person"), (1, "car")], 5),
        # Both are people: 1 is what hkd writes, otherwise the lowest.
        ([(0, "person"), (1, "Person")], 1),
        ([(4, "person"), (3, "Person"), (1, "car")], 3),
    ],
)
def test_category_of_people_is_kept_for_detections(
    write: Callable[[object], Path], categories: list[tuple[int, str]], people_id: int
) -> None:
    document = document_of_two_images() | {"categories": [{"id": id_, "name": name} for id_, name in categories]}
    for annotation, (id_, _) in zip(document["annotations"], categories, strict=False):
        annotation["category_id"] = id_
    assert read_annotations(write(document)).people_id == people_id


def test_clipped_box_is_named_by_its_position_in_the_file(write: Callable[[object], Path]) -> None:
    document = document_of_two_images()
    document["annotations"][0] |= {"category_id": 2}
    document["annotations"][1] |= {"bbox": [-1, 0, 5, 10]}
    (note,) = (note for note in read_annotations(write(document)).notes if note.kind == "boxes_clipped")
    assert note.count == 1
    assert note.examples[0].startswith("annotations[1]")


def test_duplicate_category_id_is_rejected(write: Callable[[object], Path]) -> None:
    document = document_of_two_images()
    document["categories"].append({**document["categories"][0], "name": "car"})
    (problem,) = reading_error(write(document)).problems
    assert '"id" must be different in each record, but categories[2] has 1' in problem


@pytest.mark.parametrize("categories", [None, []])
def test_without_categories_all_boxes_are_of_category_1(
    write: Callable[[object], Path], categories: list[object] | None
) -> None:
    document = document_of_two_images() | {"categories": categories}
    document["annotations"][1]["category_id"] = 2
    (problem,) = reading_error(write(document)).problems
    assert '"category_id" must be 1, as the file lists no "categories"' in problem
    assert "annotations[1] (id 5, image_id 7) has 2" in problem
    document["annotations"][1]["category_id"] = 1
    assert read_annotations(write(document)).ignore.tolist() == [False, True]
    del document["categories"]
    assert read_annotations(write(document)).ignore.tolist() == [False, True]


def test_annotations_need_no_ids(write: Callable[[object], Path]) -> None:
    document = document_of_two_images()
    expected = read_annotations(write(document)).content_hash()
    for record in document["annotations"]:
        del record["id"]
    assert read_annotations(write(document)).content_hash() == expected


def test_images_and_sets_without_boxes_are_read(write: Callable[[object], Path]) -> None:
    annotations = read_annotations(write(document_of_two_images() | {"annotations": []}))
    assert annotations.boxes_xywh.shape == (0, 4)
    assert annotations.boxes_of(1).shape == (0, 4)
    assert annotations.coco_records() == []


def test_image_root_override_and_citypersons_image_names(write: Callable[[object], Path], tmp_path: Path) -> None:
    document = document_of_two_images()
    del document["info"]
    document["images"] = [{"id": 7, "im_name": "b.png", "height": 30, "width": 20}]
    document["annotations"] = []
    path = write(document)
    annotations = read_annotations(path, tmp_path / "pictures" / "sub")
    assert annotations.images[0].file_name == "b.png"
    assert "b.png': there is no such file" in str(reading_error(path))  # by default the JSON file's own folder
    assert read_annotations(path, check_images=False).image_root == tmp_path


@pytest.mark.parametrize(
    ("box", "shown"),
    [
        ([float("nan"), 2, 10, 20], "[NaN, 2, 10, 20]"),
        ([1, 2, float("inf"), 20], "[1, 2, Infinity, 20]"),
        ([1, 2, 1e10, 20], "[1, 2, 10000000000.0, 20]"),
        ([1, 2, -10, 20], "[1, 2, -10, 20]"),
        ([1, 2, 10], "[1, 2, 10]"),
        ([1, 2, 10, "20"], '[1, 2, 10, "20"]'),
        ([1, 2, 10, True], "[1, 2, 10, true]"),
        (None, "null"),
        ([1, 2, 10, 10**400], "[1, 2, 10, 1000"),
    ],
)
def test_invalid_box_is_reported(write: Callable[[object], Path], box: object, shown: str) -> None:
    document = document_of_two_images()
    document["annotations"][0]["bbox"] = box
    (problem,) = reading_error(write(document)).problems
    assert f'"bbox" must be {BOX_REQUIREMENT}, but annotations[0] (id 0, image_id 3) has {shown}' in problem


# The image is 20 pixels wide and 30 high; the last box starts where float64 no longer resolves its width.
@pytest.mark.parametrize(
    "box", [[20, 2, 10, 20], [-10, 2, 10, 20], [1, 30, 5, 5], [-1e9, 2, 1e9, 20], [1, 2, 1e-17, 9]]
)
def test_box_outside_its_image_is_reported(write: Callable[[object], Path], box: list[float]) -> None:
    document = document_of_two_images()
    document["annotations"][0]["bbox"] = box
    (problem,) = reading_error(write(document)).problems
    assert '"bbox" must be at least partly inside its image' in problem
    assert "annotations[0] (id 0, image_id 3) has" in problem


@pytest.mark.parametrize(
    ("place", "value", "facts"),
    [
        (("annotations", 0, "image_id"), 4, '"image_id"; the "id" of one of the "images"; annotations[0]; 4'),
        (("annotations", 0, "id"), 5, '"id"; different in each record; annotations[1] (id 5, image_id 7); 5'),
        (("annotations", 0, "id"), "x", '"id"; an integer; annotations[0] (id "x", image_id 3); "x"'),
        (("annotations", 0, "category_id"), 9, '"category_id"; 1 "pedestrian", 2 "rider"; annotations[0]; 9'),
        (("annotations", 1, "vis_ratio"), 1.5, '"vis_ratio"; from 0 to 1; annotations[1]; 1.5'),
        (("annotations", 1, "vis_ratio"), float("nan"), '"vis_ratio"; from 0 to 1; annotations[1]; NaN'),
        (("annotations", 1, "height"), -3, '"height"; pixels above 0; annotations[1]; -3'),
        (("annotations", 1, "height"), 1e10, '"height"; at most 1e9; annotations[1]; 10000000000.0'),
        (("annotations", 1, "ignore"), 2, '"ignore"; 0 or 1; annotations[1]; 2'),
        (("annotations", 1, "ignore"), float("nan"), '"ignore"; 0 or 1; annotations[1]; NaN'),
        (("annotations", 1, "occluded"), 0.5, '"occluded"; 0 or 1; annotations[1]; 0.5'),
        (("annotations", 1, "occluded"), [1], '"occluded"; 0 or 1; annotations[1]; [1]'),
        (("annotations", 1, "label"), 3, '"label"; text; annotations[1]; 3'),
        (("annotations", 1, "iscrowd"), "no", '"iscrowd"; 0 or 1; annotations[1]; "no"'),
        (("annotations", 0, "vis_bbox"), [1, 2, -1, 3], '"vis_bbox"; four finite; annotations[0]; [1, 2, -1, 3]'),
        (("annotations", 0), 3, "each record; an object; annotations[0]; 3"),
        (("images", 0, "id"), "seven", '"id"; an integer; images[0]; "seven"'),
        (("images", 0, "file_name"), None, '"file_name"; text; images[0] (id 7, file_name; null'),
        (("images", 0, "file_name"), "", '"file_name"; text; images[0] (id 7, file_name; ""'),
        (("images", 0, "height"), 0, '"height"; an integer of at least 1; images[0] (id 7, file_name; 0'),
        (("images", 0, "id"), 2**63, '"id"; an integer; images[0]; 9223372036854775808'),
        (("images", 0, "width"), 10**400, '"width"; an integer of at least 1; images[0] (id 7, file_name; 1000'),
        (("images", 0, "width"), 60.5, '"width"; an integer of at least 1; images[0] (id 7, file_name; 60.5'),
        (("images", 0, "file_name"), "../a.png", '"file_name"; relative to the image root; images[0]; "../a.png"'),
        (("images", 0, "file_name"), "sub/../../a.png", '"file_name"; relative to the image root; images[0]'),
        (("images", 0, "file_name"), "/etc/a.png", '"file_name"; relative to the image root; images[0]; "/etc/a.png"'),
        (("images", 0, "file_name"), "..\\a.png", '"file_name"; relative to the image root; images[0]'),
        (("images", 0, "file_name"), "c.png", "image 7; c.png'; there is no such file"),
        (("images", 0, "file_name"), "a\0.png", "image 7; no valid path; embedded null byte"),
        (("images", 1, "id"), 7, '"id"; different in each record; images[1] (id 7, file_name; 7'),
        (("images", 0, "width"), 61, "a.png' is 60 x 40 pixels (width x height); annotated as 61 x 40"),
        (("images", 0), [], "each record; an object; images[0]; []"),
        (("categories", 1), {"id": 2}, '"name"; text; categories[1]; none'),
        (("info", "image_root"), 5, "info.image_root; 5; path"),
        (("info", "image_root"), "a\0b", "info.image_root; path"),
        (("images",), [], '"images"; at least one; empty'),
        (("images",), {}, '"images" (an object); lists "images" and "annotations"'),
    ],
)
def test_invalid_record_is_reported(
    write: Callable[[object], Path], place: tuple[Any, ...], value: object, facts: str
) -> None:
    document = document_of_two_images()
    part: Any = document
    for key in place[:-1]:
        part = part[key]
    part[place[-1]] = value
    problems = reading_error(write(document)).problems
    assert any(all(fact in problem for fact in facts.split("; ")) for problem in problems), problems


@pytest.mark.parametrize("key", ["images", "annotations"])
def test_missing_key_is_reported(write: Callable[[object], Path], key: str) -> None:
    document = document_of_two_images()
    del document[key]
    (problem,) = reading_error(write(document)).problems
    assert 'an object with the lists "images" and "annotations"' in problem
    assert all(f'"{name}" (a' in problem for name in document)  # what there is, and of which kind


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "line 1, column 1: not valid JSON"),
        (b'{"images": [\n{"id": 1', "line 2, column 9: not valid JSON"),
        (b"[]", 'must be an object with the lists "images" and "annotations" (COCO-style JSON), but is a list'),
        (
            b'{"images": [], "images": [1]}',
            'the key "images" is repeated in the object {"images": [], "images": [1]};',
        ),
        (b'{"images": "\xff\xfe\xfd"}', "not valid JSON (UnicodeDecodeError"),
        (b"[" + b"9" * 5000 + b"]", "not valid JSON (ValueError"),
        (b"[" * 100_000, "not valid JSON (RecursionError"),
    ],
)
def test_file_without_document_is_reported(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "annotations.json"
    path.write_bytes(content)
    assert problem in str(reading_error(path))


def test_unreadable_file_is_reported(tmp_path: Path) -> None:
    error = reading_error(tmp_path / "none.json")
    assert "cannot be read (No such file" in str(error)
    assert "`hkd data`" in str(error)
    assert "cannot be read (Is a directory" in str(reading_error(tmp_path))


def test_visibility_above_one_by_rounding_is_accepted(write: Callable[[object], Path]) -> None:
    document = document_of_two_images()
    document["annotations"][1]["vis_ratio"] = 1 + 1e-9
    annotations = read_annotations(write(document))
    assert annotations.visibilities[1] == 1
    assert annotations.coco_records()[1]["vis_ratio"] == 1


def test_all_problems_are_reported_together_by_kind(write: Callable[[object], Path]) -> None:
    document = document_of_two_images()
    document["images"][0]["width"] = 61
    document["annotations"] = [
        {"id": number, "image_id": 7, "category_id": 1, "bbox": [1, 2, -1, 3]} for number in range(30)
    ]
    document["annotations"].append({"id": 30, "image_id": 3, "category_id": 1, "bbox": [90, 2, 1, 3], "ignore": 5})
    error = reading_error(write(document))
    kinds = ("a.png' is 60 x 40 pixels", "[1, 2, -1, 3]", "[90, 2, 1, 3]", '"ignore" must be')
    assert len(error.problems) == len(kinds)
    assert all(any(kind in problem for problem in error.problems) for kind in kinds)
    assert str(error).splitlines()[0].endswith("annotations.json: 4 problems:")
    # Five records are named, the others counted.
    (boxes,) = [problem for problem in error.problems if "[1, 2, -1, 3]" in problem]
    assert boxes.count("has [1, 2, -1, 3]") == 5
    assert "25 more" in boxes


def test_content_hash_depends_on_content_not_on_path(write: Callable[[object], Path], tmp_path: Path) -> None:
    def digest(document: dict[str, Any]) -> str:
        return read_annotations(write(document), check_images=False).content_hash()

    first = digest(document_of_two_images())
    assert digest(document_of_two_images() | {"info": {"image_root": "elsewhere"}}) == first
    for part, key, value in (("annotations", "bbox", [1, 2, 10, 19]), ("images", "file_name", "z.png")):
        changed = document_of_two_images()
        changed[part][0][key] = value
        assert digest(changed) != first


def test_content_hash_does_not_change_between_versions(write: Callable[[object], Path]) -> None:
    # A training is resumed only if the hash of its annotations is the same.
    document = document_of_two_images()
    document["annotations"][0] |= {"height": 21, "iscrowd": 1, "occluded": 1, "label": "rider"}
    assert read_annotations(write(document)).content_hash() == "c83b32a95ff91b18b42541c2adf47923"
