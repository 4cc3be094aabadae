from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hkd.coco.detections import DetectedBoxes
from hkd.coco.ground_truth import GroundTruth
from hkd.coco.parsing.errors import AnnotationError
from hkd.evaluation import matching
from hkd.evaluation.matching import FALSE_POSITIVE, LEFT_OUT, TRUE_POSITIVE, match
from hkd.evaluation.protocols import CITYPERSONS, Protocol
from tests.evaluation.coco_files import EVERYONE, Json, coco, crowded_scene, detection, parse, person, tiny_protocol
from tests.evaluation.plain_evaluator import plain_outcomes


def outcomes_of(
    people: list[Json], detections: list[Json], protocol: Protocol = EVERYONE, subset: int = 0
) -> list[int]:
    """The outcome of each detection, in the order given."""
    truth, boxes = parse(coco(3, people), detections)
    matches = match(truth, boxes, protocol)
    assert len(matches.order) == len(detections)
    return [int(matches.outcomes[subset, matches.order.tolist().index(d)]) for d in range(len(detections))]


def test_person_is_matched_once() -> None:
    box = [0.0, 0.0, 10.0, 20.0]
    # The higher score matches, whatever its position in the file.
    assert outcomes_of([person(1, box)], [detection(1, box, 0.5), detection(1, box, 0.9)]) == [
        FALSE_POSITIVE,
        TRUE_POSITIVE,
    ]
    # In another image there is no one.
    assert outcomes_of([person(1, box)], [detection(2, box, 0.9)]) == [FALSE_POSITIVE]


def test_overlap_equal_to_threshold_matches() -> None:
    # 10 x 10 inside 10 x 20: IoU 100 / 200.
    assert outcomes_of([person(1, [0, 0, 10, 20])], [detection(1, [0, 0, 10, 10], 0.9)]) == [TRUE_POSITIVE]
    assert outcomes_of([person(1, [0, 0, 10, 20.001])], [detection(1, [0, 0, 10, 10], 0.9)]) == [FALSE_POSITIVE]


def test_detection_matches_box_of_highest_overlap() -> None:
    # A spans 0..10, B 3..13. The first detection, at 2..12, overlaps A by 8 / 12 and B by 9 / 11: it takes B.
    # The second, at 3..13, has B as its favourite (1), gone, and takes A (7 / 13). For the third nothing is left.
    people = [person(1, [0, 0, 10, 50]), person(1, [3, 0, 10, 50])]
    detections = [detection(1, [x, 0, 10, 50], score) for x, score in ((2, 0.9), (3, 0.8), (0, 0.7))]
    assert outcomes_of(people, detections) == [TRUE_POSITIVE, TRUE_POSITIVE, FALSE_POSITIVE]
    # Had the first taken A, the last, at -1..9, would find only B, too far (6 / 14).
    detections[2] = detection(1, [-1, 0, 10, 50], 0.85)
    assert outcomes_of(people, detections[::2]) == [TRUE_POSITIVE, TRUE_POSITIVE]


def test_equal_overlaps_match_the_later_record() -> None:
    # At 2..12 both A (0..10) and B (4..14) are overlapped by 8 / 12. The second detection, at -2..8, reaches A only
    # (8 / 12, against 4 / 16 of B), and finds it only if the first took B: B must be the later record.
    a, b = person(1, [0, 0, 10, 50]), person(1, [4, 0, 10, 50])
    detections = [detection(1, [2, 0, 10, 50], 0.9), detection(1, [-2, 0, 10, 50], 0.8)]
    assert outcomes_of([a, b], detections) == [TRUE_POSITIVE, TRUE_POSITIVE]
    assert outcomes_of([b, a], detections) == [TRUE_POSITIVE, FALSE_POSITIVE]


def test_ignored_ground_truth_matches_any_number_of_detections_by_their_area() -> None:
    # A 10 x 10 detection wholly inside a 100 x 100 region: own overlap 1, IoU 0.01.
    region = person(1, [0, 0, 100, 100], ignore=1)
    inside = [detection(1, [10 * i, 0, 10, 10], 0.9) for i in range(4)]
    assert outcomes_of([region], inside) == [LEFT_OUT] * 4
    # Half of it inside is enough, less is not.
    at_edge = [detection(1, [95, 0, 10, 10], 0.9), detection(1, [95.1, 0, 10, 10], 0.9)]
    assert outcomes_of([region], at_edge) == [LEFT_OUT, FALSE_POSITIVE]


def test_person_takes_precedence_over_ignore_region() -> None:
    # The detection lies wholly on the region, and on the person by 100 / 180 only: it takes the person all the same.
    people = [person(1, [0, 0, 100, 100], iscrowd=1), person(1, [0, 0, 10, 18])]
    twice = [detection(1, [0, 0, 10, 10], 0.9), detection(1, [0, 0, 10, 10], 0.8)]
    assert outcomes_of(people, twice) == [TRUE_POSITIVE, LEFT_OUT]


def test_subset_ignores_boxes_that_do_not_count_and_leaves_out_other_heights() -> None:
    # 100 px high, visible by half: counts in heavy and all, is ignored in reasonable and small.
    people = [person(1, [0, 0, 40, 100], vis_ratio=0.5)]
    detections = [detection(1, [0, 0, 40, 100], 0.9), detection(2, [0, 0, 40, 95], 0.8)]
    by_subset = [outcomes_of(people, detections, CITYPERSONS, subset) for subset in range(4)]
    assert by_subset == [
        [LEFT_OUT, FALSE_POSITIVE],
        [LEFT_OUT, LEFT_OUT],  # small leaves out detections of 93.75 px or more
        [TRUE_POSITIVE, FALSE_POSITIVE],
        [TRUE_POSITIVE, FALSE_POSITIVE],
    ]


def test_left_out_detection_does_not_match() -> None:
    # 60 px high and counted in small; the surer detection is 94 px high, too high for small, though IoU 60 / 94.
    people = [person(1, [0, 0, 20, 60])]
    detections = [detection(1, [0, 0, 20, 94], 0.9), detection(1, [0, 0, 20, 60], 0.8)]
    assert outcomes_of(people, detections, CITYPERSONS, subset=1) == [LEFT_OUT, TRUE_POSITIVE]
    assert outcomes_of(people, detections, CITYPERSONS, subset=0) == [TRUE_POSITIVE, FALSE_POSITIVE]


def test_equal_scores_keep_the_order_of_images_then_of_the_file() -> None:
    box = [0.0, 0.0, 10.0, 50.0]
    detections = [detection(image, box, score) for image, score in ((3, 0.5), (1, 0.5), (2, 0.9), (1, 0.5), (2, 0.5))]
    truth, boxes = parse(coco(3, [person(1, box)]), detections)
    matches = match(truth, boxes, EVERYONE)
    assert matches.order.tolist() == [2, 1, 3, 4, 0]
    assert matches.image_index.tolist() == [1, 0, 0, 1, 2]
    # Of the two in image 1 the first in the file finds the person.
    assert matches.outcomes.tolist() == [
        [FALSE_POSITIVE, TRUE_POSITIVE, FALSE_POSITIVE, FALSE_POSITIVE, FALSE_POSITIVE]
    ]


def test_only_best_detections_of_an_image_are_evaluated() -> None:
    box = [0.0, 0.0, 10.0, 50.0]
    detections = [detection(image, box, score) for image, score in ((1, 0.1), (1, 0.3), (1, 0.2), (2, 0.1))]
    truth, boxes = parse(coco(2, []), detections)
    matches = match(truth, boxes, replace(EVERYONE, max_detections_per_image=2))
    # The last has the score of the first, but is alone in its image.
    assert matches.order.tolist() == [1, 2, 3]


def test_boxes_that_count_are_numbered_by_image() -> None:
    people = [person(3, [0, 0, 9, 60]), person(1, [0, 0, 9, 60]), person(3, [0, 0, 9, 90]), person(3, [0, 0, 9, 9])]
    truth, boxes = parse(coco(3, people), [])
    matches = match(truth, boxes, CITYPERSONS)
    # reasonable, small, heavy, all: the box of 9 px counts nowhere, the one of 90 px is not small.
    assert matches.counted_per_image.tolist() == [[1, 0, 2], [1, 0, 1], [0, 0, 0], [1, 0, 2]]
    assert matches.outcomes.shape == (4, 0)


def assert_equal_to_plain(truth: GroundTruth, boxes: DetectedBoxes, protocol: Protocol) -> None:
    matches = match(truth, boxes, protocol)
    for s, subset in enumerate(protocol.subsets):
        expected, num_counting = plain_outcomes(truth, boxes, protocol, subset)
        admitted = protocol.admitted(boxes.boxes_xywh[matches.order, 3])[s]
        found = list(zip(matches.order[admitted].tolist(), matches.outcomes[s, admitted].tolist(), strict=True))
        assert found == expected, subset
        assert (matches.outcomes[s, ~admitted] == LEFT_OUT).all()
        assert matches.counted_per_image[s].sum() == num_counting


# Few values, so that equal scores, equal overlaps and identical boxes are common.
BOXES = st.tuples(st.integers(0, 4), st.integers(0, 3), st.integers(1, 4), st.integers(1, 5))
PEOPLE = st.tuples(st.integers(1, 3), BOXES, st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.sampled_from([0, 0, 0, 1]))
FOUND = st.tuples(st.integers(1, 3), BOXES, st.sampled_from([0.1, 0.5, 0.5, 0.9]))


@settings(max_examples=300, deadline=None)
@given(
    people=st.lists(PEOPLE, max_size=12),
    found=st.lists(FOUND, max_size=14),
    max_detections=st.sampled_from([None, 1, 3]),
    ratio=st.sampled_from([None, 1.25]),
)
def test_matcher_equals_plain_matcher(
    people: list[tuple[int, tuple[int, ...], float, int]],
    found: list[tuple[int, tuple[int, ...], float]],
    max_detections: int | None,
    ratio: float | None,
) -> None:
    truth, boxes = parse(
        coco(3, [person(i, list(box), vis_ratio=visible, ignore=ignore) for i, box, visible, ignore in people]),
        [detection(i, list(box), score) for i, box, score in found],
    )
    assert_equal_to_plain(truth, boxes, tiny_protocol(max_detections, ratio))


# Halves, so that rounding matters; around a border of 1, 1, 6, 6.
HALVES = st.tuples(*[st.integers(low, high).map(lambda k: k / 2) for low, high in ((0, 8), (0, 7), (2, 8), (2, 10))])
HIDDEN = st.sampled_from(["nothing", "stated", "zeros", "all", "part", "half"])
LABELLED = st.tuples(
    st.integers(1, 2),
    HALVES,
    HIDDEN,
    st.booleans(),
    st.sampled_from([None, "person", "people", "rider"]),
    st.booleans(),
)
DRAWN_PROTOCOLS = st.builds(
    partial(replace, tiny_protocol(None, 1.25)),
    counted_labels=st.sampled_from([None, ("person",), ("person", "rider")]),
    ignored_labels=st.sampled_from([(), ("people",)]),
    border_xyxy=st.sampled_from([None, (1, 1, 6, 6)]),
    truth_aspect_ratio=st.sampled_from([None, 0.5, 0.41]),
    detection_aspect_ratio=st.sampled_from([None, 0.5, 0.41]),
    rounds_boxes=st.booleans(),
    unoccluded_visibility=st.sampled_from([1.0, math.inf]),
    visibility_of_equal_boxes=st.sampled_from([None, 0.0]),
) | st.builds(partial(replace, tiny_protocol(2, None)), border_xyxy=st.just((1, 1, 6, 6)))


def labelled_person(
    image: int, box: tuple[float, ...], hidden: str, occluded: bool, label: str | None, ignore: bool
) -> Json:
    x, y, width, height = box
    visible = {
        "zeros": [0, 0, 0, 0],
        "all": list(box),
        "part": [x, y, width, height * 0.75],
        "half": [x + width / 2, y, width / 2, height],
    }
    more: Json = {"occluded": occluded, "ignore": ignore}
    more |= {"vis_bbox": visible[hidden]} if hidden in visible else {}
    more |= {"vis_ratio": 0.75} if hidden == "stated" else {}
    return person(image, list(box), **more, **({} if label is None else {"label": label}))


@settings(max_examples=400, deadline=None)
@given(people=st.lists(LABELLED, max_size=8), found=st.lists(FOUND, max_size=10), protocol=DRAWN_PROTOCOLS)
def test_matcher_equals_plain_matcher_for_any_protocol(
    people: list[tuple[int, tuple[float, ...], str, bool, str | None, bool]],
    found: list[tuple[int, tuple[int, ...], float]],
    protocol: Protocol,
) -> None:
    truth, boxes = parse(
        coco(3, [labelled_person(*one) for one in people]), [detection(i, list(box), score) for i, box, score in found]
    )
    assert_equal_to_plain(truth, boxes, protocol)


def test_ignored_box_keeps_shape_that_counted_box_changes() -> None:
    # 100 px high and 10 wide: where it counts its width is 41, about the same centre, from -15.5 to 25.5. The detection
    # of 41 x 100 there takes it (overlap 1 after, 10 / 41 before).
    protocol = replace(EVERYONE, truth_aspect_ratio=0.41)
    wide = detection(1, [-15.5, 0, 41, 100], 0.9)
    assert outcomes_of([person(1, [0, 0, 10, 100])], [wide], protocol) == [TRUE_POSITIVE]
    assert outcomes_of([person(1, [0, 0, 10, 100])], [wide]) == [FALSE_POSITIVE]
    # Ignored it stays 10 wide, and covers 10 / 41 of the detection.
    assert outcomes_of([person(1, [0, 0, 10, 100], ignore=1)], [wide], protocol) == [FALSE_POSITIVE]


def test_detections_are_resized_before_matching() -> None:
    # 10 x 100 becomes 41 x 100 about its centre, at 5.
    narrow = detection(1, [0, 0, 10, 100], 0.9)
    people = [person(1, [-15.5, 0, 41, 100])]
    assert outcomes_of(people, [narrow], replace(EVERYONE, detection_aspect_ratio=0.41)) == [TRUE_POSITIVE]
    assert outcomes_of(people, [narrow]) == [FALSE_POSITIVE]


@pytest.mark.parametrize("pairs_at_a_time", [None, 7, 1000])
def test_matcher_equals_plain_matcher_in_crowds_for_any_block_size(
    pairs_at_a_time: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 15 people in 60 x 60 px with 40 detections: long chains of displacements.
    if pairs_at_a_time is not None:
        monkeypatch.setattr(matching, "PAIRS_AT_A_TIME", pairs_at_a_time)
    truth, boxes = parse(*crowded_scene(seed=1, num_images=8, people=15, detections=40))
    assert_equal_to_plain(truth, boxes, CITYPERSONS)
    outcomes = match(truth, boxes, CITYPERSONS).outcomes
    assert all(np.unique(row).tolist() == [LEFT_OUT, FALSE_POSITIVE, TRUE_POSITIVE] for row in outcomes[[0, 2, 3]])


@pytest.mark.parametrize(
    ("limit", "kind"), [("PAIRS_COMPARED", "7 pairs"), ("PAIRS_OVERLAPPING", "7 overlapping pairs")]
)
def test_boxes_that_repeat_too_often_are_refused(limit: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Two boxes and two detections, all the same, in one image: four pairs, each of which overlaps by both measures.
    monkeypatch.setattr(matching, limit, (3, 2))
    box = [0.0, 0.0, 10.0, 20.0]
    detections = [detection(1, box, 0.5), detection(1, box, 0.9)]
    # 3 + 2 * 2 detections are 7; the overlapping pairs count twice: 8.
    if limit == "PAIRS_COMPARED":
        detections *= 2  # 3 + 2 * 4 = 11 pairs are allowed, and there are 8
        outcomes_of([person(1, box)] * 2, detections)
        monkeypatch.setattr(matching, limit, (7, 0))
    with pytest.raises(AnnotationError, match=kind):
        outcomes_of([person(1, box), person(1, box)], detections)
