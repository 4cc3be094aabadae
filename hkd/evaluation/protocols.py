"""Evaluation protocols as data: which boxes count, how detections are matched, where the curve is read.

A protocol holds all parameters of :mod:`hkd.evaluation.matching` and :mod:`hkd.evaluation.miss_rate`; neither
depends on a protocol's name. The terms are those of Dollar et al., "Pedestrian Detection: An Evaluation of
the State of the Art", PAMI 2012, and Zhang et al., "CityPersons", CVPR 2017. Users' own protocols are read from files
by :mod:`hkd.evaluation.formats.protocol_files`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from types import MappingProxyType
from typing import Final

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Interval:
    """Numbers from ``low`` (included) to ``high`` (included, unless ``includes_high`` is False).

    An infinite ``high`` includes infinity itself, which some data sets use for an unknown visibility.

    Raises:
        ValueError: a bound is NaN, or ``low`` is above ``high``.
    """

    low: float
    high: float = math.inf
    includes_high: bool = True

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise ValueError(f"an interval needs low <= high, found low {self.low} and high {self.high}")

    def contains(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        """Whether each value lies inside: same shape as ``values``."""
        below_high = values <= self.high if self.includes_high else values < self.high
        return (values >= self.low) & below_high

    def __str__(self) -> str:
        if math.isinf(self.low):
            return "inf"
        closing = "]" if self.includes_high and math.isfinite(self.high) else ")"
        return f"[{self.low:g}, {self.high:g}{closing}"


@dataclass(frozen=True)
class Subset:
    """The ground truth that one miss rate is computed on; all other ground truth is ignored."""

    name: str
    """Suffix of the metric's name, ``mr2_<name>``."""
    height_range: Interval
    """Height of the full body, pixels of the original image."""
    visibility_range: Interval
    """Visible share of the full body's area."""


@dataclass(frozen=True)
class Protocol:
    """How detections are evaluated.

    Raises:
        ValueError: no subset, two subsets of one name, or a number outside its field's range.
    """

    name: str
    subsets: tuple[Subset, ...]
    fppi_points: tuple[float, ...]
    """False positives per image at which the miss rate is read, ascending, above 0."""
    iou_threshold: float
    """Least overlap of a match, in (0, 1]: intersection over union with ground truth that counts, intersection over
    the detection's own area with ignored ground truth."""
    height_filter_ratio: float | None
    """Detections outside [low / ratio, high * ratio) of a subset's heights are left out of it; None: all are kept."""
    max_detections_per_image: int | None
    """Number of best detections of an image that are evaluated; None: all."""
    miss_rate_floor: float
    """Miss rates below it are raised to it before the logarithm. At 0, one reading of 0 makes the mean 0."""

    counted_labels: tuple[str, ...] | None = None
    """Of labelled ground truth these classes can count, and classes that are in neither list are dropped, as in
    Dollar's code; None: every class that is not in ``ignored_labels`` can count. Ground truth without a label is a
    pedestrian. Boxes that the file ignores never count, whatever their class."""
    ignored_labels: tuple[str, ...] = ()
    """Ground truth of these classes is ignored."""
    border_xyxy: tuple[float, float, float, float] | None = None
    """Left, top, right and bottom, pixels: ground truth that is not completely inside is ignored. None: no border."""
    truth_aspect_ratio: float | None = None
    """Ground truth that counts is given the width height * ``truth_aspect_ratio``, about its centre, before overlaps
    are computed; ignored ground truth keeps its shape. None: no change."""
    detection_aspect_ratio: float | None = None
    """The same for detections, after scaling of their heights."""
    rounds_boxes: bool = False
    """Whether x, y, width and height of ground truth and of visible boxes are rounded to whole pixels before anything
    else. Heights are then those of the rounded boxes."""
    unoccluded_visibility: float | None = None
    """None: visibility is the stated share (``vis_ratio``). Else it is the share of the full box that the visible box
    covers, and this number where ground truth is not occluded or its visible box is of zeros. Ground truth that
    states no visible box keeps its stated share below 1, and otherwise counts as not occluded."""
    visibility_of_equal_boxes: float | None = None
    """Visibility where the visible box of occluded ground truth equals the full one; None: no exception. Only with
    ``unoccluded_visibility``."""

    def __post_init__(self) -> None:
        names = [subset.name for subset in self.subsets]
        points = self.fppi_points
        requirements = (
            (len(names) > 0, "at least one subset"),
            (len(set(names)) == len(names), f"distinct names of subsets (found {', '.join(names)})"),
            (len(points) > 0 and points[0] > 0, "fppi_points above 0"),
            (all(a < b for a, b in pairwise(points)), "ascending fppi_points"),
            (0 < self.iou_threshold <= 1, "an iou_threshold in (0, 1]"),
            (self.height_filter_ratio is None or self.height_filter_ratio >= 1, "a height_filter_ratio of at least 1"),
            (
                self.max_detections_per_image is None or self.max_detections_per_image >= 1,
                "max_detections_per_image of at least 1",
            ),
            (0 <= self.miss_rate_floor < 1, "a miss_rate_floor in [0, 1)"),
            (_is_border(self.border_xyxy), "a border_xyxy with left < right and top < bottom"),
            (_is_aspect_ratio(self.truth_aspect_ratio), "a truth_aspect_ratio from 0.01 to 100"),
            (_is_aspect_ratio(self.detection_aspect_ratio), "a detection_aspect_ratio from 0.01 to 100"),
            (self.unoccluded_visibility is None or self.unoccluded_visibility >= 0, "unoccluded_visibility from 0 on"),
            (
                self.visibility_of_equal_boxes is None or self.visibility_of_equal_boxes >= 0,
                "visibility_of_equal_boxes from 0 on",
            ),
            (
                self.visibility_of_equal_boxes is None or self.unoccluded_visibility is not None,
                "unoccluded_visibility beside visibility_of_equal_boxes",
            ),
            (
                not set(self.counted_labels or ()) & set(self.ignored_labels),
                "labels that are either in counted_labels or in ignored_labels",
            ),
        )
        if unmet := [requirement for is_met, requirement in requirements if not is_met]:
            raise ValueError(f"protocol {self.name!r} needs {'; '.join(unmet)}")

    def counting(
        self,
        heights: npt.NDArray[np.float64],
        visibilities: npt.NDArray[np.float64],
        ignore: npt.NDArray[np.bool_],
    ) -> npt.NDArray[np.bool_]:
        """Which of N ground-truth boxes count in each subset: (S, N). The others are ignored there.

        Labels, border and visibility are applied before (:mod:`hkd.evaluation.preparation`).
        """
        return np.stack(
            [
                subset.height_range.contains(heights) & subset.visibility_range.contains(visibilities) & ~ignore
                for subset in self.subsets
            ]
        )

    def admitted(self, heights: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        """Which of D detections are evaluated in each subset, by their heights in pixels: (S, D)."""
        ratio = self.height_filter_ratio
        if ratio is None:
            return np.ones((len(self.subsets), len(heights)), dtype=np.bool_)
        ranges = [subset.height_range for subset in self.subsets]
        return np.stack([(heights >= r.low / ratio) & (heights < r.high * ratio) for r in ranges])


def _is_border(border_xyxy: tuple[float, float, float, float] | None) -> bool:
    return border_xyxy is None or (border_xyxy[0] < border_xyxy[2] and border_xyxy[1] < border_xyxy[3])


def _is_aspect_ratio(ratio: float | None) -> bool:
    # Beyond, areas would lose all precision.
    return ratio is None or 0.01 <= ratio <= 100


CITYPERSONS: Final = Protocol(
    name="citypersons",
    subsets=(
        Subset("reasonable", height_range=Interval(50), visibility_range=Interval(0.65)),
        Subset("small", height_range=Interval(50, 75), visibility_range=Interval(0.65)),
        Subset("heavy", height_range=Interval(50), visibility_range=Interval(0.2, 0.65)),
        Subset("all", height_range=Interval(20), visibility_range=Interval(0.2)),
    ),
    # As the benchmark's script writes them: 10^(-2 + k/4), rounded to four decimals.
    fppi_points=(0.0100, 0.0178, 0.0316, 0.0562, 0.1000, 0.1778, 0.3162, 0.5623, 1.0000),
    iou_threshold=0.5,
    height_filter_ratio=1.25,
    max_detections_per_image=1000,
    miss_rate_floor=0.0,
)
"""The protocol of the CityPersons benchmark's script (cvgroup-njust/CityPersons, eval_script)."""

CITYPERSONS_EXTENDED: Final = replace(
    CITYPERSONS,
    name="citypersons_extended",
    subsets=(
        *CITYPERSONS.subsets,
        Subset("heavy_all", height_range=Interval(50), visibility_range=Interval(0, 0.65)),
        Subset("partial", height_range=Interval(50), visibility_range=Interval(0.65, 0.9)),
        Subset("bare", height_range=Interval(50), visibility_range=Interval(0.9, 1)),
    ),
)
"""The same with the subsets of other papers (Wang et al., "Repulsion Loss", CVPR 2018; Liu et al., "CSP", CVPR 2019):
heavy occlusion from 0 on, partial and bare. Bounds are included on both sides, as in the benchmark's script: a
visibility of exactly 0.65 or 0.9 counts in both neighbours."""

# 10^(-2 + k/4), as Dollar's code computes them.
_DECADE_QUARTERS: Final = tuple(10.0 ** (k / 4 - 2) for k in range(9))
_UNOCCLUDED: Final = Interval(math.inf)

CALTECH: Final = Protocol(
    name="caltech",
    subsets=(
        Subset("reasonable", height_range=Interval(50), visibility_range=Interval(0.65)),
        Subset("all", height_range=Interval(20), visibility_range=Interval(0.2)),
        Subset("scale_large", height_range=Interval(100), visibility_range=_UNOCCLUDED),
        Subset("scale_near", height_range=Interval(80), visibility_range=_UNOCCLUDED),
        Subset("scale_medium", height_range=Interval(30, 80, includes_high=False), visibility_range=_UNOCCLUDED),
        Subset("occ_none", height_range=Interval(50), visibility_range=_UNOCCLUDED),
        Subset("occ_partial", height_range=Interval(50), visibility_range=Interval(0.65, 1)),
        Subset("occ_heavy", height_range=Interval(50), visibility_range=Interval(0.2, 0.65)),
    ),
    fppi_points=_DECADE_QUARTERS,
    iou_threshold=0.5,
    height_filter_ratio=1.25,
    max_detections_per_image=None,
    miss_rate_floor=1e-10,
    counted_labels=("person",),
    ignored_labels=("person?", "people", "ignore"),
    border_xyxy=(5, 5, 635, 475),
    truth_aspect_ratio=0.41,
    detection_aspect_ratio=0.41,
    unoccluded_visibility=math.inf,
)
"""Eight experiments of Dollar's ``dbEval`` for Caltech-USA (Caltech Pedestrian Detection Benchmark, code 3.2.1). A
person without occlusion has an infinite visibility there: only such people count in the scales and in ``occ_none``."""

ACF: Final = Protocol(
    name="acf",
    subsets=(Subset("reasonable", height_range=Interval(50), visibility_range=Interval(0.65, 1)),),
    fppi_points=_DECADE_QUARTERS,
    iou_threshold=0.5,
    height_filter_ratio=None,
    max_detections_per_image=None,
    miss_rate_floor=1e-10,
    counted_labels=("person",),
    ignored_labels=("people",),
    border_xyxy=(5, 5, 635, 475),
    truth_aspect_ratio=0.41,
    rounds_boxes=True,
    unoccluded_visibility=1.0,
    visibility_of_equal_boxes=0.0,
)
"""Dollar's ``acfTest`` on Caltech-USA, as ``acfDemoCal`` of his toolbox sets it: the protocol of ACF's 28.91%."""

_NOT_OCCLUDED: Final = Interval(1)

KAIST: Final = replace(
    ACF,
    name="kaist",
    subsets=(
        Subset("reasonable", height_range=Interval(55), visibility_range=Interval(0.5)),
        Subset("all", height_range=Interval(20), visibility_range=Interval(0)),
        Subset("scale_near", height_range=Interval(115), visibility_range=_NOT_OCCLUDED),
        Subset("scale_medium", height_range=Interval(45, 115), visibility_range=_NOT_OCCLUDED),
        Subset("scale_far", height_range=Interval(1, 45), visibility_range=_NOT_OCCLUDED),
        Subset("occ_none", height_range=Interval(1), visibility_range=_NOT_OCCLUDED),
        Subset("occ_partial", height_range=Interval(1), visibility_range=Interval(0.5, 1, includes_high=False)),
        Subset("occ_heavy", height_range=Interval(1), visibility_range=Interval(0, 0.5, includes_high=False)),
    ),
    ignored_labels=("people", "person?", "cyclist"),
    border_xyxy=(5, 5, 635, 507),
    truth_aspect_ratio=None,
    unoccluded_visibility=None,
    visibility_of_equal_boxes=None,
)
"""Experiments of ``kaist_eval_full`` (Li, Song, Tong, Tang, MSDS-RCNN, BMVC 2018, after Hwang et al., CVPR 2015) on
all test images, and ``all`` of the benchmark's Python script. KAIST's levels of occlusion are read from ``vis_ratio``
as ``hkd data kaist`` writes it: 1 is none, from 0.5 on partial, below heavy."""

PROTOCOLS: Final[Mapping[str, Protocol]] = MappingProxyType(
    {protocol.name: protocol for protocol in (CITYPERSONS, CITYPERSONS_EXTENDED, CALTECH, ACF, KAIST)}
)
"""The built-in protocols by name."""
