from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from hkd.coco.ground_truth import GroundTruth, parse_ground_truth
from hkd.evaluation.preparation import (
    preparation_notes,
    prepare_ground_truth,
    with_aspect_ratio,
    with_scaled_heights,
)
from hkd.evaluation.protocols import ACF, CALTECH, CITYPERSONS, Protocol
from tests.evaluation.coco_files import EVERYONE, Json, coco, parse, person

BOX = [100.0, 100.0, 41.0, 100.0]


def truth_of(*people: Json) -> GroundTruth:
    return parse(coco(1, list(people)), [])[0]


def counting(people: list[Json], protocol: Protocol, subset: int = 0) -> list[bool]:
    return [bool(counts) for counts in prepare_ground_truth(truth_of(*people), protocol).counting[subset]]


def test_classes_are_counted_ignored_or_dropped() -> None:
    people = [person(1, BOX, **more) for more in ({"label": "person"}, {"label": "people"}, {"label": "rider"}, {})]
    # Any class counts; one does not.
    assert counting(people, EVERYONE) == [True] * 4
    assert counting(people, replace(EVERYONE, ignored_labels=("people",))) == [True, False, True, True]
    # Once the classes that count are named, the rider is not there. A box without a class is a pedestrian.
    named = replace(EVERYONE, name="mine", counted_labels=("person",), ignored_labels=("people",))
    assert counting(people, named) == [True, False, True]
    assert preparation_notes(truth_of(*people), named) == (
        "Neither counted nor ignored, as mine does not list their class: 1 rider.",
    )
    assert preparation_notes(truth_of(*people), EVERYONE) == ()
    assert preparation_notes(truth_of(*people[:2]), named) == ()


def test_ignored_boxes_never_count() -> None:
    people = [person(1, BOX, label="person", ignore=1), person(1, BOX, label="person", iscrowd=1)]
    assert counting(people, replace(EVERYONE, counted_labels=("person",))) == [False, False]


@pytest.mark.parametrize(
    ("box", "is_inside"),
    [
        ([5, 5, 630, 470], True),
        ([4.99, 5, 41, 100], False),
        ([5, 4.99, 41, 100], False),
        ([594.01, 100, 41, 100], False),
        ([594, 100, 41, 100], True),
        ([100, 375, 41, 100], True),
        ([100, 375.01, 41, 100], False),
    ],
)
def test_boxes_across_border_are_ignored(box: list[float], is_inside: bool) -> None:
    # To x 635 and y 475.
    assert counting([person(1, box)], CALTECH) == [is_inside]
    assert counting([person(1, box)], CITYPERSONS) == [True]


@pytest.mark.parametrize(
    ("more", "caltech", "acf"),
    [
        # Occluded by half: 0.5.
        ({"vis_bbox": [100, 100, 41, 50], "occluded": 1}, 0.5, 0.5),
        # The same box, but not occluded; and without a visible box.
        ({"vis_bbox": [100, 100, 41, 50], "occluded": 0}, math.inf, 1.0),
        ({"vis_bbox": [0, 0, 0, 0], "occluded": 1}, math.inf, 1.0),
        ({"vis_bbox": [0, 0, 0, 0], "occluded": 0}, math.inf, 1.0),
        # An area of 0 that is not all zeros: nothing is visible.
        ({"vis_bbox": [100, 100, 0, 50], "occluded": 1}, 0.0, 0.0),
        # Occluded, but the visible box is the whole: for acfTest hardly visible.
        ({"vis_bbox": BOX, "occluded": 1}, 1.0, 0.0),
        # Without the flag, a visible box with an area means occluded.
        ({"vis_bbox": [100, 100, 41, 75]}, 0.75, 0.75),
        ({"vis_bbox": [0, 0, 0, 0]}, math.inf, 1.0),
        # Without a visible box, the stated share, unless it is whole or not stated.
        ({"vis_ratio": 0.25}, 0.25, 0.25),
        ({"vis_ratio": 1.0}, math.inf, 1.0),
        ({}, math.inf, 1.0),
        # Flagged as occluded, without a visible box: counts as not occluded.
        ({"occluded": 1}, math.inf, 1.0),
        ({"occluded": 1, "vis_ratio": 1.0}, math.inf, 1.0),
        ({"occluded": 1, "vis_ratio": 0.25}, 0.25, 0.25),
        # A visible box goes before the stated share.
        ({"vis_bbox": [100, 100, 41, 50], "vis_ratio": 0.9}, 0.5, 0.5),
    ],
)
def test_visibility_follows_protocol(more: Json, caltech: float, acf: float) -> None:
    truth = truth_of(person(1, BOX, **more))
    # CityPersons: as stated, else of the visible box, whatever the flag says; BOX has 41 x 100 px.
    visible = more.get("vis_bbox", BOX)
    stated = more.get("vis_ratio", visible[2] * visible[3] / 4100)
    for protocol, expected in ((CALTECH, caltech), (ACF, acf), (CITYPERSONS, stated)):
        ranges = [(0.0, 0.1), (0.2, 0.3), (0.4, 0.6), (0.7, 0.8), (0.85, 1.0), (math.inf, math.inf)]
        subsets = tuple(
            replace(
                protocol.subsets[0],
                name=str(low),
                visibility_range=replace(protocol.subsets[0].visibility_range, low=low, high=high),
            )
            for low, high in ranges
        )
        (found,) = np.flatnonzero(prepare_ground_truth(truth, replace(protocol, subsets=subsets)).counting[:, 0])
        assert ranges[found][0] <= expected <= ranges[found][1]


def test_coordinates_are_rounded_half_away_from_zero() -> None:
    # Heights of 49.5 and more become 50 and count; the stated height has no part in it.
    heights = [49.4, 49.5, 50.4]
    people = [person(1, [10.5, -2.5, 20.5, height], height=60) for height in heights]
    plain = replace(EVERYONE, rounds_boxes=True, subsets=ACF.subsets)
    prepared = prepare_ground_truth(truth_of(*people), plain)
    assert prepared.boxes_xywh.tolist() == [[11, -3, 21, 49], [11, -3, 21, 50], [11, -3, 21, 50]]
    assert prepared.counting.tolist() == [[False, True, True]]
    # Not by corners: 10.6 + 20.6 = 31.2 would end at 31, and not at 11 + 21 = 32.
    (box,) = prepare_ground_truth(truth_of(person(1, [10.6, 0, 20.6, 50])), plain).boxes_xywh.tolist()
    assert box == [11, 0, 21, 50]
    # A box that rounds to nothing is found by no one and breaks nothing.
    nothing = person(1, [10, 10, 0.4, 60], occluded=1, vis_bbox=[10, 10, 0.4, 30])
    assert counting([nothing], ACF) == [False]


def test_counted_boxes_are_resized_about_centre() -> None:
    # 100 high, 10 wide from 100 to 110: 41 wide from 84.5 to 125.5.
    prepared = prepare_ground_truth(truth_of(person(1, [100, 100, 10, 100])), CALTECH)
    assert prepared.counted_boxes_xywh.tolist() == [[84.5, 100, 41, 100]]
    assert prepared.boxes_xywh.tolist() == [[100, 100, 10, 100]]
    # The border applies to the box before resizing: afterwards it would reach to 650.5.
    assert counting([person(1, [625, 100, 10, 100])], CALTECH) == [True]
    assert with_aspect_ratio(prepared.boxes_xywh, None) is prepared.boxes_xywh


def test_heights_are_scaled_about_centre() -> None:
    assert with_scaled_heights(np.array([[1.0, 10.0, 3.0, 20.0]]), 0.5).tolist() == [[1, 15, 3, 10]]


def test_note_counts_boxes_ignored_by_border() -> None:
    # One inside, two outside, one of these ignored anyway; a rider is not there, people are ignored.
    outside = [0.0, 100.0, 41.0, 100.0]
    people = [person(1, BOX, vis_ratio=0.9), person(1, outside), person(1, outside, ignore=1)]
    people += [person(1, outside, label=label) for label in ("rider", "people")]
    *_, note = preparation_notes(truth_of(*people), CALTECH)
    assert note == "Ignored, as they are not wholly inside the border (5, 5, 635, 475) of caltech: 1 of 2 boxes."
    assert preparation_notes(truth_of(people[0]), CALTECH) == ()
    # By rounded boxes where the protocol rounds: 4.6 becomes 5.
    near = person(1, [4.6, 100, 41, 100], vis_ratio=0.9)
    assert len(preparation_notes(truth_of(near), CALTECH)) == 1
    assert preparation_notes(truth_of(near), ACF) == ()


@pytest.mark.parametrize(
    ("size", "fits"),
    [((640, 480), True), ((635, 475), True), ((634, 480), False), ((640, 474), False), ((2048, 1024), False)],
)
def test_note_warns_of_a_border_for_other_image_sizes(size: tuple[int, int], fits: bool) -> None:
    raw = coco(2, [person(1, BOX, vis_ratio=0.9)])
    raw["images"][0] |= {"width": size[0], "height": size[1]}
    notes = preparation_notes(parse_ground_truth(raw, "gt.json"), CALTECH)
    assert [f"not meant for images of {size[0]} x {size[1]} pixels" in note for note in notes] == [True] * (not fits)
    assert preparation_notes(parse_ground_truth(raw, "gt.json"), CITYPERSONS) == ()


@pytest.mark.parametrize(
    ("more", "is_noted"),
    [
        ({}, True),
        ({"vis_ratio": 1}, True),
        ({"vis_bbox": [0, 0, 0, 0], "occluded": 0, "vis_ratio": 1}, True),
        ({"vis_ratio": 0.9}, False),
        ({"vis_bbox": BOX}, False),
    ],
)
def test_note_warns_if_no_box_states_visibility(more: Json, is_noted: bool) -> None:
    truth = truth_of(person(1, BOX, **more), person(1, BOX))
    for protocol in (CITYPERSONS, CALTECH, ACF):
        notes = preparation_notes(truth, protocol)
        assert [note.startswith("No ground-truth box states a visible part") for note in notes] == [True] * is_noted
    # No subset uses visibility, or there is no box.
    assert preparation_notes(truth, EVERYONE) == ()
    assert preparation_notes(truth_of(), CITYPERSONS) == ()
