from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from hkd import metric_names
from hkd.evaluation.protocols import ACF, CALTECH, CITYPERSONS, CITYPERSONS_EXTENDED, KAIST, PROTOCOLS, Interval


@pytest.mark.parametrize(
    ("interval", "inside", "text"),
    [
        (Interval(50), [False, True, True, True, True], "[50, inf)"),
        (Interval(50, 75), [False, True, True, False, False], "[50, 75]"),
        (Interval(50, 75, includes_high=False), [False, True, False, False, False], "[50, 75)"),
        # An unknown visibility is infinite in Caltech's files, and some of its experiments ask for just that.
        (Interval(math.inf), [False, False, False, False, True], "inf"),
    ],
)
def test_interval_includes_its_bounds_unless_excluded(interval: Interval, inside: list[bool], text: str) -> None:
    values = np.array([np.nextafter(50, 0), 50, 75, np.nextafter(75, 100), math.inf])
    assert interval.contains(values).tolist() == inside
    assert str(interval) == text


@pytest.mark.parametrize(("low", "high"), [(2, 1), (math.nan, 1), (0, math.nan)])
def test_interval_with_reversed_bounds_is_rejected(low: float, high: float) -> None:
    with pytest.raises(ValueError, match="low <= high"):
        Interval(low, high)


def test_all_mistakes_of_a_protocol_are_reported_together() -> None:
    twice = (CITYPERSONS.subsets[0], CITYPERSONS.subsets[0])
    with pytest.raises(ValueError, match="distinct names") as caught:
        replace(
            CITYPERSONS,
            subsets=twice,
            fppi_points=(1.0, 0.1),
            iou_threshold=1.5,
            height_filter_ratio=0.5,
            max_detections_per_image=0,
            miss_rate_floor=1.0,
        )
    for word in ("ascending", "iou_threshold", "height_filter_ratio", "max_detections_per_image", "miss_rate_floor"):
        assert word in str(caught.value)
    with pytest.raises(ValueError, match="border_xyxy") as caught:
        replace(
            CALTECH,
            ignored_labels=("person", "people"),
            border_xyxy=(5, 5, 5, 475),
            truth_aspect_ratio=0.0,
            detection_aspect_ratio=math.inf,
            unoccluded_visibility=-1.0,
            visibility_of_equal_boxes=math.nan,
        )
    for word in ("in ignored_labels", "truth_asp", "detection_asp", "unoccluded_vis", "visibility_of_equal_boxes from"):
        assert word in str(caught.value)
    with pytest.raises(ValueError, match="needs unoccluded_visibility beside visibility_of_equal_boxes"):
        replace(CITYPERSONS, visibility_of_equal_boxes=0.0)
    with pytest.raises(ValueError, match="at least one subset; fppi_points above 0"):
        replace(CITYPERSONS, subsets=(), fppi_points=())


def test_citypersons_has_subsets_of_metric_names() -> None:
    assert PROTOCOLS["citypersons"] is CITYPERSONS
    named = {metric_names.MR2_REASONABLE, metric_names.MR2_SMALL, metric_names.MR2_HEAVY, metric_names.MR2_ALL}
    assert {f"mr2_{subset.name}" for subset in CITYPERSONS.subsets} == named
    # Nine points, a quarter of a decade apart.
    assert CITYPERSONS.fppi_points == pytest.approx(10.0 ** np.linspace(-2, 0, 9), rel=2e-3)


def test_boxes_count_by_height_visibility_and_ignore() -> None:
    # One box a column; the rows are reasonable, small, heavy, all. Bounds are inside.
    cases = [
        # height, visibility, ignore -> counts
        (50, 0.65, False, [1, 1, 1, 1]),
        (75, 1.0, False, [1, 1, 0, 1]),
        (76, 0.9, False, [1, 0, 0, 1]),
        (49, 0.9, False, [0, 0, 0, 1]),
        (20, 0.2, False, [0, 0, 0, 1]),
        (19, 0.9, False, [0, 0, 0, 0]),
        (100, 0.2, False, [0, 0, 1, 1]),
        (100, 0.19, False, [0, 0, 0, 0]),
        (60, 1.0, True, [0, 0, 0, 0]),
    ]
    counting = CITYPERSONS.counting(
        np.array([case[0] for case in cases], dtype=np.float64),
        np.array([case[1] for case in cases]),
        np.array([case[2] for case in cases]),
    )
    assert counting.T.astype(int).tolist() == [case[3] for case in cases]


def test_detections_up_to_factor_beyond_heights_are_evaluated() -> None:
    # 50 / 1.25 = 40 is inside, 75 * 1.25 = 93.75 is not; all: 20 / 1.25 = 16.
    heights = np.array([15.9, 16, 39.9, 40, 93.7, 93.75, 1000])
    admitted = CITYPERSONS.admitted(heights).astype(int)
    assert admitted[0].tolist() == [0, 0, 0, 1, 1, 1, 1]
    assert admitted[1].tolist() == [0, 0, 0, 1, 1, 0, 0]
    assert admitted[3].tolist() == [0, 1, 1, 1, 1, 1, 1]
    assert replace(CITYPERSONS, height_filter_ratio=None).admitted(heights).all()


def test_extended_protocol_adds_subsets_of_papers() -> None:
    assert CITYPERSONS_EXTENDED.subsets[:4] == CITYPERSONS.subsets
    assert [(s.name, str(s.height_range), str(s.visibility_range)) for s in CITYPERSONS_EXTENDED.subsets[4:]] == [
        ("heavy_all", "[50, inf)", "[0, 0.65]"),
        ("partial", "[50, inf)", "[0.65, 0.9]"),
        ("bare", "[50, inf)", "[0.9, 1]"),
    ]


def test_kaist_protocol_has_the_experiments_of_its_scripts() -> None:
    # Heights and levels of occlusion of kaist_eval_full.m, and All of the benchmark's Python script. Columns:
    # visibility of the levels none, partial, heavy, as the converter writes them.
    visibilities = np.array([1.0, 0.75, 0.25])
    expected = {
        "reasonable": ("[55, inf)", [1, 1, 0]),
        "all": ("[20, inf)", [1, 1, 1]),
        "scale_near": ("[115, inf)", [1, 0, 0]),
        "scale_medium": ("[45, 115]", [1, 0, 0]),
        "scale_far": ("[1, 45]", [1, 0, 0]),
        "occ_none": ("[1, inf)", [1, 0, 0]),
        "occ_partial": ("[1, inf)", [0, 1, 0]),
        "occ_heavy": ("[1, inf)", [0, 0, 1]),
    }
    assert {
        subset.name: (str(subset.height_range), subset.visibility_range.contains(visibilities).astype(int).tolist())
        for subset in KAIST.subsets
    } == expected
    assert (KAIST.counted_labels, set(KAIST.ignored_labels)) == (("person",), {"people", "person?", "cyclist"})
    # xRng and yRng of the script; no resizing of boxes, no filter on heights of detections.
    assert (KAIST.border_xyxy, KAIST.truth_aspect_ratio) == ((5, 5, 635, 507), None)
    assert (KAIST.detection_aspect_ratio, KAIST.height_filter_ratio) == (None, None)


def test_built_in_protocols_have_their_names_and_reasonable_subset() -> None:
    assert {name: protocol.name for name, protocol in PROTOCOLS.items()} == {name: name for name in PROTOCOLS}
    assert set(PROTOCOLS) == {"citypersons", "citypersons_extended", "caltech", "acf", "kaist"}
    for protocol in PROTOCOLS.values():
        assert protocol.subsets[0].name == "reasonable"
    # Not the rounded ones of CityPersons: 10^-1.75 is 0.01778...
    assert ACF.fppi_points == CALTECH.fppi_points == tuple(10 ** (-2 + 0.25 * k) for k in range(9))
