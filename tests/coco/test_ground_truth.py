from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hkd.coco.annotations import parse_annotations
from hkd.coco.detections import parse_detections
from hkd.coco.ground_truth import parse_ground_truth
from hkd.coco.parsing.errors import AnnotationError
from tests.evaluation.coco_files import Json, coco, detection, person

GROUND_TRUTH = coco(2, [person(1, [0, 0, 20, 60]), person(2, [5, 5, 30, 90]), person(2, [50, 5, 30, 90])])
DETECTIONS = [detection(1, [0, 0, 20, 60], 0.9), detection(2, [5, 5, 30, 80], 0.5)]
TRUTH = parse_ground_truth(GROUND_TRUTH, "val.json")


def ground_truth_problems(raw: object) -> tuple[str, ...]:
    with pytest.raises(AnnotationError) as caught:
        parse_ground_truth(raw, "val.json")
    assert caught.value.source == "val.json"
    return caught.value.problems


def test_boxes_are_ordered_by_image_and_completed_by_defaults() -> None:
    people = [
        person(7, [1, 2, 3, 4], id=30, height=44, vis_ratio=0.5, ignore=0, iscrowd=0),
        person(3, [5.5, 6, 7, 8], id=10),
        person(7, [-9, 0, 1, 2], id=20, ignore=1),
        person(3, [0, 0, 1, 1], id=40, iscrowd=True, segmentation=[]),
    ]
    truth = parse_ground_truth({"images": [{"id": 7, "im_name": "b"}, {"id": 3}], "annotations": people}, "val.json")
    assert truth.image_ids.tolist() == [3, 7]
    assert truth.image_index.tolist() == [0, 0, 1, 1]
    assert truth.boxes_xywh.tolist() == [[5.5, 6, 7, 8], [0, 0, 1, 1], [1, 2, 3, 4], [-9, 0, 1, 2]]
    assert truth.heights.tolist() == [8, 1, 44, 2]
    assert truth.visibilities.tolist() == [1, 1, 0.5, 1]
    assert truth.ignore.tolist() == [False, True, False, True]


def test_label_occlusion_and_visible_box_are_read() -> None:
    people = [
        person(7, [1, 2, 3, 4], label="person", occluded=1, vis_bbox=[1, 2, 3, 1]),
        person(3, [5, 6, 7, 8], label="people", vis_bbox=[0, 0, 0, 0]),
        person(7, [1, 2, 3, 4], vis_bbox=[1, 2, 2, 4]),
        person(3, [5, 6, 7, 8], label="person", occluded=False, vis_bbox=[5, 6, 7, 1]),
        person(7, [1, 2, 3, 4], ignore=True, iscrowd=False),
    ]
    images = [{"id": 7, "file_name": "set06/b.jpg"}, {"id": 3, "im_name": "c.d.png"}, {"id": 9, "file_name": None}]
    truth = parse_ground_truth({"images": images, "annotations": people}, "val.json")
    assert truth.image_names == ("c.d", "b", "")
    assert truth.label_names == ("people", "person")
    # Image 3 first; -1 has no label.
    assert truth.label_index.tolist() == [0, 1, 1, -1, -1]
    # Without the flag, a visible box with an area means occluded.
    assert truth.occluded.tolist() == [False, False, True, True, False]
    assert truth.visible_boxes_xywh[:4].tolist() == [[0, 0, 0, 0], [5, 6, 7, 1], [1, 2, 3, 1], [1, 2, 2, 4]]
    assert np.isnan(truth.visible_boxes_xywh[4]).all()
    assert truth.ignore.tolist() == [False, False, False, False, True]
    assert truth.notes == ()


def test_height_beside_width_is_that_of_image() -> None:
    # As pycococreator writes it: every person would be 480 px high.
    people = [person(1, [0, 0, 10, 60], width=640, height=480), person(1, [0, 0, 10, 70], height=71)]
    truth = parse_ground_truth(coco(1, people), "val.json")
    assert truth.heights.tolist() == [60, 71]
    (note,) = truth.notes
    assert note.sentence.startswith("val.json: 1 annotations state a width beside their height")


def test_visible_share_above_one_by_rounding_is_clamped() -> None:
    # It would fall out of a subset that goes up to 1.
    truth = parse_ground_truth(coco(1, [person(1, [0, 0, 10, 60], vis_ratio=1 + 1e-7)]), "val.json")
    assert truth.visibilities.tolist() == [1]


def test_absent_visibility_is_derived_from_visible_box() -> None:
    # 10 x 60 px, of which 10 x 15 are visible: a quarter. A visible box larger than the body counts as all of it.
    visible: list[Json] = [
        {"vis_bbox": [0, 0, 10, 15]},
        {"vis_bbox": [0, 0, 10, 15], "vis_ratio": None},
        {"vis_bbox": [0, 0, 10, 15], "vis_ratio": 0.5},
        {"vis_bbox": [0, 0, 20, 60]},
        {"vis_bbox": [0, 0, 0, 0]},
        {"vis_bbox": None},
        {},
    ]
    people = [person(1, [0, 0, 10, 60], id=i, **more) for i, more in enumerate(visible, 1)]
    raw = coco(1, people)
    assert parse_ground_truth(raw, "val.json").visibilities.tolist() == [0.25, 0.25, 0.5, 1, 0, 1, 1]
    raw["images"][0] |= {"file_name": "1.jpg", "width": 640, "height": 480}
    raw["categories"] = [{"id": 1, "name": "pedestrian"}]
    trained = parse_annotations(raw, Path("val.json"), check_images=False)
    assert trained.visibilities.tolist() == parse_ground_truth(raw, "val.json").visibilities.tolist()


def test_null_of_optional_key_counts_as_absent() -> None:
    keys = ("height", "vis_ratio", "vis_bbox", "label", "occluded", "ignore", "iscrowd")
    truth = parse_ground_truth(coco(1, [person(1, [0, 0, 10, 60], **dict.fromkeys(keys))]), "val.json")
    assert (truth.heights.tolist(), truth.visibilities.tolist(), truth.ignore.tolist()) == ([60], [1], [False])
    assert truth.label_names == ()


def test_empty_label_counts_as_absent() -> None:
    truth = parse_ground_truth(coco(1, [person(1, [0, 0, 10, 60], label=label) for label in ("", "rider")]), "a.json")
    assert (truth.label_names, truth.label_index.tolist()) == (("rider",), [-1, 0])


def test_height_of_image_is_not_checked() -> None:
    truth = parse_ground_truth(coco(1, [person(1, [0, 0, 10, 60], width=640, height=0)]), "val.json")
    assert truth.heights.tolist() == [60]


def test_integers_may_be_written_as_floats() -> None:
    # An integer id beyond the precision of float64 is not changed by a float id beside it.
    people = [person(2**62 + 1, [0, 0, 10, 60], id=1.0, ignore=1.0), person(1, [0, 0, 10, 70], category_id=1.0)]
    truth = parse_ground_truth({"images": [{"id": 1.0}, {"id": 2**62 + 1}], "annotations": people[:1]}, "val.json")
    assert truth.image_ids.tolist() == [1, 2**62 + 1]
    assert (truth.image_index.tolist(), truth.ignore.tolist()) == ([1], [True])
    found = parse_detections([detection(1, [0, 0, 1, 1], 1) | {"image_id": 1.0, "category_id": 1.0}], "found", truth)
    assert found.image_index.tolist() == [0]


def test_images_without_people_and_empty_detections_are_read() -> None:
    truth = parse_ground_truth(coco(2, []), "val.json")
    assert truth.boxes_xywh.shape == (0, 4)
    assert len(truth.image_ids) == 2
    assert parse_detections([], "found.json", truth).boxes_xywh.shape == (0, 4)


BAD_BOXES = [
    None,
    "1 2 3 4",
    [],
    [1, 2, 3],
    [1, 2, 3, 4, 5],
    [1, 2, 3, "4"],
    [1, 2, 3, True],
    [1, None, 3, 4],
    [[1, 2], 2, 3, 4],
    [math.nan, 2, 3, 4],
    [1, math.inf, 3, 4],
    [1, 2, math.inf, 4],
    [1, 2, 3, math.nan],
    [1, 2, 0, -4],
    [1, 2, 3, -4],
    [1e10, 2, 3, 4],
    [1, 2, 1e10, 4],
    [1, 2, 10**400, 4],
]


@pytest.mark.parametrize("box", BAD_BOXES)
def test_invalid_boxes_are_reported(box: object) -> None:
    raw = deepcopy(GROUND_TRUTH)
    raw["annotations"][1]["bbox"] = box
    (problem,) = ground_truth_problems(raw)
    assert '"bbox" must be [x, y, width, height] in pixels' in problem
    assert "annotations[1] (image_id 2) has " in problem
    with pytest.raises(AnnotationError) as caught:
        parse_detections([DETECTIONS[0], DETECTIONS[1] | {"bbox": box}], "found.json", TRUTH)
    (problem,) = caught.value.problems
    assert '"bbox" must be' in problem
    assert "detections[1] (image_id 2) has " in problem


@pytest.mark.parametrize(
    ("key", "value", "shown", "allowed"),
    [
        ("image_id", "b", '"b"', "an integer"),
        ("image_id", 1.5, "1.5", "an integer"),
        ("image_id", math.inf, "Infinity", "an integer"),
        ("image_id", True, "true", "an integer"),
        ("image_id", 2**63, str(2**63), "an integer"),
        ("image_id", 3, "3", 'the "id" of one of the "images"'),
        ("category_id", 2, "2", "1, as the file lists no"),
        ("category_id", None, "null", "an integer"),
        ("id", "a", '"a"', "an integer"),
        ("height", 0, "0", "above 0"),
        ("height", math.nan, "NaN", "above 0"),
        ("vis_ratio", -0.1, "-0.1", "from 0 to 1"),
        ("vis_ratio", 1.1, "1.1", "from 0 to 1"),
        ("vis_ratio", math.inf, "Infinity", "from 0 to 1"),
        ("vis_ratio", "1", '"1"', "from 0 to 1"),
        ("ignore", 2, "2", "0 or 1"),
        ("occluded", -1, "-1", "0 or 1"),
        ("label", 1, "1", "text"),
        ("vis_bbox", [1, 2, 3], "[1, 2, 3]", "the last two at least 0"),
        ("vis_bbox", [1, 2, -3, 4], "[1, 2, -3, 4]", "the last two at least 0"),
        ("vis_bbox", [1, math.nan, 3, 4], "[1, NaN, 3, 4]", "the last two at least 0"),
        ("iscrowd", 0.5, "0.5", "0 or 1"),
    ],
)
def test_invalid_values_of_annotations_are_reported(key: str, value: object, shown: str, allowed: str) -> None:
    raw = deepcopy(GROUND_TRUTH)
    for i, annotation in enumerate(raw["annotations"]):
        annotation["id"] = i
    raw["annotations"][2][key] = value
    (problem,) = ground_truth_problems(raw)
    assert f'"{key}" must be' in problem
    assert allowed in problem
    assert re.search(rf"annotations\[2\] \(.*\) has {re.escape(shown)};", problem)


@pytest.mark.parametrize("key", ["image_id", "category_id", "bbox"])
def test_missing_keys_of_annotations_are_reported(key: str) -> None:
    raw = deepcopy(GROUND_TRUTH)
    del raw["annotations"][0][key]
    (problem,) = ground_truth_problems(raw)
    assert re.search(r"annotations\[0\](| \(image_id 1\)) has none;", problem)


def test_duplicate_ids_are_reported() -> None:
    raw = {"images": [{"id": 4}, {"id": 5}, {"id": 4}], "annotations": []}
    (problem,) = ground_truth_problems(raw)
    assert '"id" must be different in each record, but images[2] (id 4) has 4;' in problem
    raw = coco(1, [person(1, [0, 0, 1, 1], id=8), person(1, [0, 0, 1, 2], id=8)])
    (problem,) = ground_truth_problems(raw)
    assert '"id" must be different in each record, but annotations[1] (id 8, image_id 1) has 8;' in problem
    # Either all are numbered, or none.
    raw = coco(1, [person(1, [0, 0, 1, 1], id=8), person(1, [0, 0, 1, 2])])
    (problem,) = ground_truth_problems(raw)
    assert "annotations[1] (image_id 1) has none; number all annotations, or none" in problem


def test_ground_truth_without_images_is_reported() -> None:
    (problem,) = ground_truth_problems({"images": [], "annotations": []})
    assert "must list at least one image" in problem


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ([], "a list; name a COCO-style file"),
        ([{"score": 1}], "it has scores, as detections have; perhaps the two files were swapped"),
        ({"ID": "a", "gtboxes": []}, "CrowdHuman's annotations, which `hkd data crowdhuman` converts"),
        (None, "but is null;"),
        ("text", "but is a string;"),
        ({}, "but has nothing;"),
        ({"images": []}, 'but has "images" (a list);'),
        ({"images": [], "annotations": {}}, '"annotations" (an object);'),
    ],
)
def test_document_without_lists_is_reported(raw: object, words: str) -> None:
    (problem,) = ground_truth_problems(raw)
    assert words in problem


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.sampled_from([0, 1, 2, 10**400]),
    lambda values: st.lists(values, max_size=5) | st.dictionaries(st.text(max_size=3), values, max_size=3),
    max_leaves=6,
)


def places_in(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path] + [place for key, child in children for place in places_in(child, (*path, key))]


def replaced(value: Any, path: tuple[Any, ...], junk: object) -> Any:
    if not path:
        return junk
    changed = deepcopy(value)
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = junk
    return changed


@settings(max_examples=200, deadline=None)
@given(data=st.data(), junk=JUNK)
def test_junk_in_any_place_is_reported_or_read(data: st.DataObject, junk: object) -> None:
    full = deepcopy(GROUND_TRUTH)
    full["annotations"][0] |= {"height": 60, "vis_ratio": 0.5, "ignore": 0, "iscrowd": 0}
    full["annotations"][1] |= {"label": "person", "occluded": 1, "vis_bbox": [5, 5, 10, 10]}

    def parse_truth(raw: object) -> None:
        truth = parse_ground_truth(raw, "val.json")
        assert np.isfinite(truth.boxes_xywh).all()
        assert (truth.boxes_xywh[:, 2:] > 0).all()

    def parse_found(raw: object) -> None:
        boxes = parse_detections(raw, "val.json", TRUTH)
        assert np.isfinite(boxes.scores).all()
        assert (boxes.boxes_xywh[:, 2:] > 0).all()

    valid: Json | list[Json]
    parse: Callable[[object], None]
    for valid, parse in ((full, parse_truth), (DETECTIONS, parse_found)):
        path = data.draw(st.sampled_from(places_in(valid)))
        problems: tuple[str, ...] = ()
        try:
            parse(json.loads(json.dumps(replaced(valid, path, junk))))
        except AnnotationError as error:
            problems = error.located_problems or ("no problem",)
        assert all(problem.startswith("val.json: ") for problem in problems)


def test_height_beside_width_that_is_the_box_is_no_change() -> None:
    # Both readings agree: nothing to note.
    truth = parse_ground_truth(coco(1, [person(1, [0, 0, 10, 60], width=10, height=60)]), "val.json")
    assert (truth.heights.tolist(), truth.notes) == ([60], ())


def test_height_of_image_without_width_is_that_of_image() -> None:
    # In an image of 480 pixels: that of a box of 60; of one of 300, which may be a body at the image's edge; and one of
    # 150, which is not the image's.
    people = [person(1, [0, 0, 10, h], height=stated) for h, stated in ((60, 480), (300, 480), (60, 150))]
    raw = coco(1, people)
    raw["images"][0]["height"] = 480
    truth = parse_ground_truth(raw, "val.json")
    assert truth.heights.tolist() == [60, 480, 150]
    (note,) = truth.notes
    assert (note.kind, note.count) == ("heights_of_images", 1)


def test_width_alone_is_not_size_of_image() -> None:
    truth = parse_ground_truth(coco(1, [person(1, [0, 0, 10, 60], width=640)]), "val.json")
    assert truth.notes == ()


def test_boxes_of_image_keep_order_of_file() -> None:
    # It decides between equal overlaps. So many boxes that a sort that is not stable changes it.
    people = [person(2 - k % 2, [k, 0, 10, 60]) for k in range(400)]
    truth = parse_ground_truth(coco(2, people), "val.json")
    assert truth.boxes_xywh[:, 0].tolist() == [*range(1, 400, 2), *range(0, 400, 2)]


def test_box_whose_area_underflows_is_visible() -> None:
    tiny = [0, 0, 1e-200, 1e-200]
    truth = parse_ground_truth(coco(1, [person(1, tiny, vis_bbox=tiny)]), "val.json")
    assert truth.visibilities.tolist() == [1.0]


def test_file_name_is_preferred_to_im_name() -> None:
    document = coco(1, [])
    document["images"][0] |= {"file_name": "a.png", "im_name": "b.png"}
    assert parse_ground_truth(document, "val.json").image_names == ("a",)


def test_boxes_without_area_are_left_out_and_counted() -> None:
    # Their other fields are not checked: a body without height has none to state.
    people = [
        person(1, [0, 0, 10, 0], height=0),
        person(1, [0, 0, 10, 60]),
        person(1, [0, 0, 0, 60]),
    ]
    truth = parse_ground_truth(coco(1, people), "val.json")
    assert truth.heights.tolist() == [60]
    (note,) = truth.notes
    assert (note.kind, note.count) == ("boxes_without_area", 2)
    assert all(fact in note.sentence for fact in ("val.json", "2 boxes", "annotations[0]"))


def test_backslashes_in_file_names_are_folder_separators() -> None:
    document = {"images": [{"id": 1, "file_name": "set06\\V000\\b.jpg"}], "annotations": []}
    truth = parse_ground_truth(document, "val.json")
    assert (truth.file_names, truth.image_names) == (("set06/V000/b.jpg",), ("b",))


def test_people_with_the_same_box_are_counted() -> None:
    # The first two are one person. Another label, another image and an ignore region are no repetition.
    people = [
        person(1, [0, 0, 10, 60]),
        person(1, [0, 0, 10, 60]),
        person(1, [0, 0, 10, 60], label="rider"),
        person(2, [0, 0, 10, 60]),
        person(1, [0, 0, 10, 60], ignore=1),
    ]
    truth = parse_ground_truth(coco(2, people), "val.json")
    assert len(truth.boxes_xywh) == 5
    (note,) = truth.notes
    assert (note.kind, note.count) == ("boxes_repeated", 1)
    assert "annotations[1], image 1, bbox [0, 0, 10, 60]" in note.sentence


def test_images_of_the_same_file_are_counted() -> None:
    raw = coco(3, [])
    raw["images"] = [{"id": i, "file_name": name} for i, name in enumerate(("x/a.jpg", "y/a.jpg", "x\\a.jpg"), 1)]
    (note,) = parse_ground_truth(raw, "val.json").notes
    assert (note.kind, note.count) == ("images_repeated", 1)
    assert "x/a.jpg" in note.sentence
