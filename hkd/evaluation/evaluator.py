"""One evaluation: from COCO-style JSON, or arrays, to a result that can be logged, stored and printed."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from hkd import metric_names
from hkd.coco.detections import DetectedBoxes, parse_detections
from hkd.coco.ground_truth import GroundTruth, parse_ground_truth, read_ground_truth
from hkd.coco.parsing.errors import collected_problems
from hkd.evaluation.average_precision import average_precision
from hkd.evaluation.errors import EvaluationInputError
from hkd.evaluation.formats.detection_files import read_detections
from hkd.evaluation.formats.protocol_files import load_protocol
from hkd.evaluation.matching import Matches, match
from hkd.evaluation.miss_rate import FloatArray, MissRateCurve, log_average_miss_rate, miss_rate_curve
from hkd.evaluation.preparation import preparation_notes
from hkd.evaluation.protocols import Interval, Protocol

__all__ = [
    "EvaluationInputError",
    "EvaluationResult",
    "SubsetResult",
    "evaluate",
    "evaluate_boxes",
    "evaluate_files",
    "evaluate_subsets",
]


@dataclass(frozen=True, eq=False)
class SubsetResult:
    """Miss rate of one subset."""

    name: str
    height_range: Interval
    """Heights of the boxes that count, pixels."""
    visibility_range: Interval
    num_ground_truth: int
    """Number of boxes that count."""
    log_average_miss_rate: float | None
    """MR^-2, a fraction in [0, 1]; None ("no value") where no box counts."""
    curve: MissRateCurve
    """No points if there is no value."""

    @property
    def fppi(self) -> FloatArray:
        """(P,) false positives per image, ascending."""
        return self.curve.fppi

    @property
    def miss_rate(self) -> FloatArray:
        """(P,) the miss rate there, a fraction."""
        return self.curve.miss_rate


@dataclass(frozen=True, eq=False)
class EvaluationResult:
    """Metrics of one set of detections by one protocol."""

    protocol: str
    fppi_points: tuple[float, ...]
    subsets: tuple[SubsetResult, ...]
    ap: float | None
    """COCO average precision, a fraction; None where all ground truth is ignored or there is none."""
    ap50: float | None
    num_images: int
    num_detections: int
    num_ground_truth: int
    """Boxes that are not ignored, of any height and visibility: those of the average precision."""
    notes: tuple[str, ...] = ()
    """Inputs that were left out or not read as written, one sentence each."""

    def as_metrics(self) -> dict[str, float]:
        """``mr2_<subset>``, ``ap`` and ``ap50`` as fractions. Metrics without a value are left out."""
        values = {f"{metric_names.MR2_PREFIX}{subset.name}": subset.log_average_miss_rate for subset in self.subsets}
        values |= {metric_names.AP: self.ap, metric_names.AP50: self.ap50}
        return {name: value for name, value in values.items() if value is not None}

    def points_without_a_miss(self, subset: SubsetResult) -> int:
        """At how many FPPI points no one is missed.

        One of them makes the geometric mean 0 (with a floor: tiny), whatever is missed at the others. It happens on
        small sets, whose curves have few steps; MR^-2 then does not rank detectors.
        """
        if subset.log_average_miss_rate is None:
            return 0
        return int((subset.curve.at(self.fppi_points) <= 0).sum())

    def curves(self) -> dict[str, dict[str, list[float]]]:
        """``fppi`` and ``miss_rate`` of each subset that has a value, downsampled, ready for JSON.

        Read at the protocol's FPPI points they give exactly what the full curves give.
        """
        curves = {}
        for subset in self.subsets:
            if subset.log_average_miss_rate is not None:
                curve = subset.curve.downsampled(self.fppi_points)
                curves[subset.name] = {"fppi": curve.fppi.tolist(), "miss_rate": curve.miss_rate.tolist()}
        return curves

    def to_json(self) -> str:
        """Everything as one JSON object, the curves downsampled; :meth:`from_json` reads it."""
        curves = self.curves()
        return json.dumps(
            {
                "protocol": self.protocol,
                "fppi_points": self.fppi_points,
                "num_images": self.num_images,
                "num_detections": self.num_detections,
                "num_ground_truth": self.num_ground_truth,
                "ap": self.ap,
                "ap50": self.ap50,
                "notes": self.notes,
                "subsets": [
                    {
                        "name": subset.name,
                        "height_range": _interval_to_json(subset.height_range),
                        "visibility_range": _interval_to_json(subset.visibility_range),
                        "num_ground_truth": subset.num_ground_truth,
                        "log_average_miss_rate": subset.log_average_miss_rate,
                        "points_without_a_miss": self.points_without_a_miss(subset),
                        "curve": curves.get(subset.name),
                    }
                    for subset in self.subsets
                ],
            },
            indent=1,
            allow_nan=False,
        )

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what :meth:`to_json` wrote; the curves are the downsampled ones.

        Raises:
            ValueError: the text is something else.
        """
        try:
            raw = json.loads(text)
            subsets = tuple(_subset_from_json(subset) for subset in raw.pop("subsets"))
            return cls(
                subsets=subsets, fppi_points=tuple(raw.pop("fppi_points")), notes=tuple(raw.pop("notes", ())), **raw
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"not the JSON of an evaluation result ({type(error).__name__}: {error}); "
                'give what its to_json wrote, such as a "result" in a file of `hkd evaluate --json`'
            ) from error


def evaluate(ground_truth: dict[str, Any], detections: list[dict[str, Any]], protocol: Protocol) -> EvaluationResult:
    """Evaluate detections that are in memory.

    Args:
        ground_truth: COCO dictionary (see :func:`hkd.coco.ground_truth.parse_ground_truth`); not changed.
        detections: COCO results list; not changed. May be empty.
        protocol: One of :data:`hkd.evaluation.protocols.PROTOCOLS`, or one's own.

    Raises:
        EvaluationInputError: naming all problems of both.
    """
    with collected_problems(EvaluationInputError) as collect:
        truth = collect(lambda: parse_ground_truth(ground_truth, "ground truth"))
        boxes = collect(lambda: parse_detections(detections, "detections", truth))
    # Otherwise their problems were raised.
    assert truth is not None
    assert boxes is not None
    return evaluate_boxes(truth, boxes, protocol)


def evaluate_files(
    ground_truth_path: Path | str, detections_path: Path | str, protocol_name: str, *, height_scale: float = 1.0
) -> EvaluationResult:
    """Evaluate detections (a file or folder, see :func:`read_detections`) against COCO-style ground truth.

    Args:
        ground_truth_path: COCO-style JSON.
        detections_path: Any of the formats of :func:`hkd.evaluation.formats.detection_files.read_detections`.
        protocol_name: A built-in protocol, or the path of a YAML file (see :func:`load_protocol`).
        height_scale: Factor on the heights of the detections.

    Raises:
        EvaluationInputError: naming all problems of both and of the protocol.
    """
    with collected_problems(EvaluationInputError) as collect:
        protocol = collect(lambda: load_protocol(protocol_name))
        truth = collect(lambda: read_ground_truth(ground_truth_path))
        boxes = collect(lambda: read_detections(detections_path, truth, height_scale=height_scale))
    # Otherwise their problems were raised.
    assert protocol is not None
    assert truth is not None
    assert boxes is not None
    return evaluate_boxes(truth, boxes, protocol)


def evaluate_boxes(
    truth: GroundTruth, boxes: DetectedBoxes, protocol: Protocol, matches: Matches | None = None
) -> EvaluationResult:
    """Miss rates of every subset of a protocol, and COCO average precision.

    ``matches`` are those of :func:`hkd.evaluation.matching.match`, computed here unless given.
    """
    if matches is None:
        matches = match(truth, boxes, protocol)
    precision = average_precision(truth, boxes)
    return EvaluationResult(
        protocol=protocol.name,
        fppi_points=protocol.fppi_points,
        subsets=evaluate_subsets(matches, protocol),
        ap=None if precision is None else precision.ap,
        ap50=None if precision is None else precision.ap50,
        num_images=len(truth.image_ids),
        num_detections=len(boxes.scores),
        num_ground_truth=int((~truth.ignore).sum()),
        notes=(*map(str, truth.notes), *preparation_notes(truth, protocol), *map(str, boxes.notes)),
    )


def evaluate_subsets(matches: Matches, protocol: Protocol) -> tuple[SubsetResult, ...]:
    """Curve and MR^-2 of each subset of the protocol."""
    return tuple(_evaluate_subset(matches, protocol, i) for i in range(len(protocol.subsets)))


def _evaluate_subset(matches: Matches, protocol: Protocol, index: int) -> SubsetResult:
    subset = protocol.subsets[index]
    counted = matches.counted_per_image[index]
    num_ground_truth = int(counted.sum())
    curve, value = MissRateCurve(fppi=np.empty(0), miss_rate=np.empty(0)), None
    if num_ground_truth > 0:
        curve = miss_rate_curve(matches.outcomes[index], num_ground_truth, num_images=len(counted))
        value = log_average_miss_rate(curve, protocol.fppi_points, protocol.miss_rate_floor)
    return SubsetResult(
        name=subset.name,
        height_range=subset.height_range,
        visibility_range=subset.visibility_range,
        num_ground_truth=num_ground_truth,
        log_average_miss_rate=value,
        curve=curve,
    )


def _interval_to_json(interval: Interval) -> dict[str, float | bool | None]:
    # JSON has no infinity: null represents it, as upper bound or as both bounds.
    low, high = (bound if math.isfinite(bound) else None for bound in (interval.low, interval.high))
    return {"low": low, "high": high, "includes_high": interval.includes_high}


def _interval_from_json(raw: dict[str, Any]) -> Interval:
    low, high = (math.inf if raw[end] is None else raw[end] for end in ("low", "high"))
    return Interval(low, high, raw["includes_high"])


def _subset_from_json(raw: dict[str, Any]) -> SubsetResult:
    curve = raw["curve"] or {"fppi": [], "miss_rate": []}
    return SubsetResult(
        name=raw["name"],
        height_range=_interval_from_json(raw["height_range"]),
        visibility_range=_interval_from_json(raw["visibility_range"]),
        num_ground_truth=raw["num_ground_truth"],
        log_average_miss_rate=raw["log_average_miss_rate"],
        curve=MissRateCurve(np.array(curve["fppi"], np.float64), np.array(curve["miss_rate"], np.float64)),
    )
