"""Miss rates of several trainings, pooled over their seeds, with bootstrap intervals over photographs."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hkd.coco.detections import DetectedBoxes
from hkd.coco.ground_truth import GroundTruth
from hkd.evaluation.bootstrap import (
    MissRateComparison,
    MissRateInterval,
    ResampledMissRates,
    compare,
    intervals,
    resample_miss_rates,
)
from hkd.evaluation.evaluator import evaluate_boxes
from hkd.evaluation.matching import match
from hkd.evaluation.protocols import Protocol


@dataclass(frozen=True, eq=False)
class RowResult:
    """One row on one set of photographs, in one subset of the protocol; fractions."""

    miss_rates: tuple[float, ...]
    """MR^-2 of each seed."""
    interval: MissRateInterval
    """Of the mean over the seeds, as other photographs of the kind would change it; the spread of the seeds is not
    part of it."""
    average_precision: float
    """COCO average precision, mean over the seeds."""
    differences: Mapping[str, MissRateComparison]
    """The mean over the seeds minus that of other rows, by their names."""
    differences_by_seed: Mapping[str, tuple[float, ...]]
    """Each seed's MR^-2 minus that of the same seed in other rows, by their names."""

    @property
    def mean(self) -> float:
        """Mean over the seeds."""
        return statistics.fmean(self.miss_rates)


def evaluate_rows(
    ground_truth: GroundTruth,
    detections: Mapping[str, Sequence[DetectedBoxes]],
    protocol: Protocol,
    *,
    subset: str,
    references: Sequence[str],
    resamples: int,
    seed: int = 0,
) -> dict[str, RowResult]:
    """Evaluate all rows on the same resamples of the photographs.

    Args:
        ground_truth: Of the photographs.
        detections: Of each row, one set of detections per seed; the seeds are the same in all rows.
        protocol: Defines the subsets.
        subset: Name of the reported one.
        references: Rows that the others are compared with; those without detections are skipped.
        resamples: Number of bootstrap resamples.
        seed: Of the resamples.
    """
    index = [each.name for each in protocol.subsets].index(subset)
    rates: dict[str, list[ResampledMissRates]] = {}
    precisions: dict[str, float] = {}
    for row, per_seed in detections.items():
        matches = [match(ground_truth, boxes, protocol) for boxes in per_seed]
        rates[row] = [resample_miss_rates(each, protocol, resamples=resamples, seed=seed) for each in matches]
        evaluated = [
            evaluate_boxes(ground_truth, boxes, protocol, each) for boxes, each in zip(per_seed, matches, strict=True)
        ]
        precisions[row] = statistics.fmean(math.nan if each.ap is None else each.ap for each in evaluated)
    pooled = {row: pool(per_seed) for row, per_seed in rates.items()}
    by_seed = {row: tuple(float(each.values[index]) for each in per_seed) for row, per_seed in rates.items()}
    others = {row: [other for other in references if other in pooled and other != row] for row in detections}
    return {
        row: RowResult(
            miss_rates=by_seed[row],
            interval=intervals(pooled[row])[index],
            average_precision=precisions[row],
            differences={other: compare(pooled[other], pooled[row])[index] for other in others[row]},
            differences_by_seed={
                other: tuple(after - before for before, after in zip(by_seed[other], by_seed[row], strict=True))
                for other in others[row]
            },
        )
        for row in detections
    }


def pool(rates: Sequence[ResampledMissRates]) -> ResampledMissRates:
    """The mean over trainings, on the photographs themselves and on each resample of them."""
    return replace(
        rates[0],
        values=np.mean([each.values for each in rates], axis=0),
        resampled=np.mean([each.resampled for each in rates], axis=0),
    )
