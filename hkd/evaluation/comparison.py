"""Several detectors on one ground truth: metrics with intervals, and differences from the first detector."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hkd.coco.categories import CategoryNames
from hkd.coco.detections import DetectedBoxes
from hkd.coco.ground_truth import GroundTruth, read_ground_truth
from hkd.coco.parsing.errors import collected_problems
from hkd.evaluation.bootstrap import (
    CONFIDENCE,
    MissRateComparison,
    MissRateInterval,
    ResampledMissRates,
    compare,
    intervals,
    resample_miss_rates,
)
from hkd.evaluation.errors import EvaluationInputError
from hkd.evaluation.evaluator import EvaluationResult, evaluate_boxes
from hkd.evaluation.formats.detection_files import read_detections
from hkd.evaluation.formats.protocol_files import load_protocol
from hkd.evaluation.matching import match
from hkd.evaluation.preparation import prepare_ground_truth
from hkd.evaluation.protocols import Protocol


@dataclass(frozen=True)
class DetectorFile:
    """The file of one detector's detections."""

    name: str
    path: Path
    """Any format of :func:`hkd.evaluation.formats.detection_files.read_detections`."""
    height_scale: float = 1.0
    """Factor on the heights of the detections."""


@dataclass(frozen=True, eq=False)
class EvaluationInputs:
    """The checked inputs of an evaluation."""

    protocol: Protocol
    ground_truth_path: Path
    ground_truth: GroundTruth
    detectors: tuple[tuple[DetectorFile, DetectedBoxes], ...]


@dataclass(frozen=True, eq=False)
class DetectorReport:
    """One detector's numbers."""

    detector: DetectorFile
    result: EvaluationResult
    intervals: tuple[MissRateInterval, ...]
    """One per subset, in the protocol's order; empty without resamples."""


@dataclass(frozen=True, eq=False)
class PairReport:
    """One detector against another, on the same resamples."""

    first: str
    second: str
    comparisons: tuple[MissRateComparison, ...]
    """One per subset, in the protocol's order."""


@dataclass(frozen=True, eq=False)
class EvaluationReport:
    """Metrics of all detectors on one ground truth by one protocol."""

    protocol: str
    ground_truth_path: Path
    detectors: tuple[DetectorReport, ...]
    """In the order given, at least one."""
    pairs: tuple[PairReport, ...]
    """Each further detector against the first; without resamples only the differences."""
    resamples: int
    """Number of resamples of the images."""
    seed: int
    confidence: float

    def to_json(self) -> str:
        """Everything as one JSON object; :meth:`EvaluationResult.from_json` reads a detector's ``result``."""
        return json.dumps(
            {
                "protocol": self.protocol,
                "ground_truth": str(self.ground_truth_path),
                "resamples": self.resamples,
                "seed": self.seed,
                "confidence": self.confidence,
                "detectors": [_detector_to_json(report) for report in self.detectors],
                "comparisons": [
                    {
                        "first": pair.first,
                        "second": pair.second,
                        "subsets": [asdict(comparison) for comparison in pair.comparisons],
                    }
                    for pair in self.pairs
                ],
            },
            indent=1,
            allow_nan=False,
        )


def read_inputs(
    ground_truth: Path,
    detectors: Sequence[DetectorFile],
    protocol_name: str,
    *,
    subset: str | None = None,
    named: CategoryNames | None = None,
) -> EvaluationInputs:
    """Read and check everything before anything is computed.

    Args:
        ground_truth: COCO-style JSON.
        detectors: At least one; names must differ.
        protocol_name: A built-in protocol, or the path of a YAML file.
        subset: A subset that the protocol must have; None: not checked.
        named: The categories of people and of ignore regions that the user names.

    Raises:
        EvaluationInputError: naming all problems of all files and of the protocol.
    """
    assert detectors
    assert len({detector.name for detector in detectors}) == len(detectors)
    with collected_problems(EvaluationInputError) as collect:
        protocol = collect(lambda: _protocol_with(protocol_name, subset))
        truth = collect(lambda: read_ground_truth(ground_truth, named))
        found = []
        for detector in detectors:
            # Called immediately, while the loop variable still has this value.
            boxes = collect(lambda: read_detections(detector.path, truth, height_scale=detector.height_scale))  # noqa: B023 (called here)
            if boxes is not None:
                found.append((detector, boxes))
    assert protocol is not None
    assert truth is not None
    return EvaluationInputs(protocol, ground_truth, truth, tuple(found))


def require_curve(inputs: EvaluationInputs, subset: str | None) -> None:
    """Check that a subset (default: the protocol's first) has a curve, before anything is computed.

    Raises:
        EvaluationInputError: no ground truth counts in it.
    """
    names = [each.name for each in inputs.protocol.subsets]
    index = 0 if subset is None else names.index(subset)
    if not prepare_ground_truth(inputs.ground_truth, inputs.protocol).counting[index].any():
        problem = f"no ground truth counts in {names[index]}: there is no curve to draw; name another --subset"
        raise EvaluationInputError([problem])


def evaluate_detectors(
    inputs: EvaluationInputs,
    *,
    resamples: int,
    seed: int,
    confidence: float = CONFIDENCE,
    on_step: Callable[[str], None] = lambda _: None,
) -> EvaluationReport:
    """Evaluate every detector, and compare each with the first.

    Args:
        inputs: Of :func:`read_inputs`.
        resamples: Number of bootstrap resamples of the images; 0 computes no intervals, and only the differences of
            comparisons.
        seed: Of the resamples, which are the same for all detectors.
        confidence: Of the intervals, in (0, 1).
        on_step: Called with a description of the next step.
    """
    reports: list[DetectorReport] = []
    resampled: list[ResampledMissRates] = []
    for detector, boxes in inputs.detectors:
        on_step(f"{detector.name}: matching {len(boxes.scores):,} detections")
        matches = match(inputs.ground_truth, boxes, inputs.protocol)
        result = evaluate_boxes(inputs.ground_truth, boxes, inputs.protocol, matches)
        own: tuple[MissRateInterval, ...] = ()
        if resamples > 0:
            on_step(f"{detector.name}: {resamples:,} resamples")
            resampled.append(resample_miss_rates(matches, inputs.protocol, resamples=resamples, seed=seed))
            own = intervals(resampled[-1], confidence)
        elif len(inputs.detectors) > 1:
            # The differences alone.
            resampled.append(resample_miss_rates(matches, inputs.protocol, resamples=0, seed=seed))
        reports.append(DetectorReport(detector, result, own))
    return EvaluationReport(
        protocol=inputs.protocol.name,
        ground_truth_path=inputs.ground_truth_path,
        detectors=tuple(reports),
        pairs=tuple(
            PairReport(reports[0].detector.name, report.detector.name, compare(resampled[0], rates, confidence))
            for report, rates in zip(reports[1:], resampled[1:], strict=True)
        ),
        resamples=resamples,
        seed=seed,
        confidence=confidence,
    )


def _protocol_with(name: str, subset: str | None) -> Protocol:
    protocol = load_protocol(name)
    names = [each.name for each in protocol.subsets]
    if subset is not None and subset not in names:
        raise EvaluationInputError(
            [f"protocol {protocol.name!r} has no subset {subset!r}; name one of: {', '.join(names)}"]
        )
    return protocol


def _detector_to_json(report: DetectorReport) -> dict[str, Any]:
    return {
        "name": report.detector.name,
        "detections": str(report.detector.path),
        "height_scale": report.detector.height_scale,
        "result": json.loads(report.result.to_json()),
        "intervals": [asdict(interval) for interval in report.intervals],
    }
