"""Miss rate against false positives per image, and its log-average MR^-2.

MR^-2 is the geometric mean of the miss rate at nine FPPI points evenly spaced in log space over [10^-2, 10^0]
(Dollar et al., PAMI 2012, section 4.3). Lower is better; 1 means that no person is detected.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hkd.evaluation.matching import FALSE_POSITIVE, TRUE_POSITIVE

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class MissRateCurve:
    """Miss rate against false positives per image as the score threshold decreases, one point for each evaluated
    detection.

    Without detections the curve has no points, and the miss rate is 1.
    """

    fppi: FloatArray
    """(P,) false positives per image so far, ascending."""
    miss_rate: FloatArray
    """(P,) share of the ground truth that no detection has found so far, in [0, 1], descending."""

    def at(self, fppi_points: Sequence[float]) -> FloatArray:
        """The lowest miss rate that is reached at no more than each number of false positives per image: (len,).

        Where the curve starts beyond a point, which happens when the first false positive comes before any person is
        found and one false positive already is more per image, nothing has been found there: the miss rate is 1, as
        in Dollar's code. (The CityPersons script reads its last recall there, by an index of -1; on its 500 images
        one false positive is 0.002, before the first point, and the two agree.)
        """
        last = np.searchsorted(self.fppi, fppi_points, side="right") - 1
        # The 1 at the end is what an index of -1 reads.
        return np.concatenate([self.miss_rate, [1.0]])[last]

    def downsampled(self, fppi_points: Sequence[float], max_points: int = 200) -> MissRateCurve:
        """The curve with at most about ``max_points`` points, evenly spaced in log FPPI, for drawing and storing.

        Reading it at ``fppi_points`` gives exactly what the full curve gives.
        """
        if len(self.fppi) <= max_points:
            return self
        positive = self.fppi[self.fppi > 0]
        grid = np.geomspace(positive[0], positive[-1], max_points) if positive.size else np.empty(0)
        # The exact ends, without geomspace's rounding.
        wanted = np.concatenate([[0.0], positive[:1], grid[1:-1], positive[-1:], fppi_points])
        kept = np.unique(np.searchsorted(self.fppi, wanted, side="right") - 1)
        kept = np.unique(np.concatenate([[0], kept[kept >= 0]]))
        return MissRateCurve(self.fppi[kept], self.miss_rate[kept])


def miss_rate_curve(outcomes: npt.NDArray[np.int8], num_ground_truth: int, num_images: int) -> MissRateCurve:
    """The curve of one subset.

    Args:
        outcomes: (D,) of :mod:`hkd.evaluation.matching`, best score first.
        num_ground_truth: Number of boxes that count, above 0.
        num_images: Number of images, with and without people.
    """
    assert num_ground_truth > 0, "the miss rate of an empty subset has no value"
    evaluated = outcomes[(outcomes == TRUE_POSITIVE) | (outcomes == FALSE_POSITIVE)]
    found = np.cumsum(evaluated == TRUE_POSITIVE)
    wrong = np.cumsum(evaluated == FALSE_POSITIVE)
    return MissRateCurve(fppi=wrong / num_images, miss_rate=1.0 - found / num_ground_truth)


def log_average_miss_rate(curve: MissRateCurve, fppi_points: Sequence[float], floor: float = 0.0) -> float:
    """Geometric mean of the miss rate at the FPPI points, in [0, 1].

    Args:
        curve: The curve of one subset.
        fppi_points: False positives per image at which it is read.
        floor: Miss rates below it are raised to it. At 0, one reading of 0 makes the mean 0.
    """
    readings = np.maximum(curve.at(fppi_points), floor)
    if readings.min() == 0.0:
        return 0.0
    return float(np.exp(np.log(readings).mean()))
