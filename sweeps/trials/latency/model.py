"""Latency of a detector from its shape: measured, or predicted by a regression on measured shapes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from hkd.config import PYRAMID_LEVELS, DetectorConfig
from hkd.models.cost import part_costs

Floats = NDArray[np.float64]

LEAST_MEASURED = 6
"""Shapes from which others are predicted."""


@dataclass(frozen=True)
class PredictionError:
    """Of measured shapes, each predicted by a regression on the others; fractions of the measured times."""

    median: float
    largest: float


class ShapeKey(NamedTuple):
    """What the latency of a detector is predicted from; equal for detectors of the same exported network."""

    backbone: str
    operations: tuple[int, ...]
    """Of each part; equal for widths that round to the same channels."""
    pre_nms_proposals_per_level: int
    proposals_per_image: int

    @property
    def terms(self) -> Floats:
        """Terms (T,), none of which falls as a number of the shape grows.

        The operations of each part, and the pairs of boxes that suppression compares.
        """
        pairs = len(PYRAMID_LEVELS) * self.pre_nms_proposals_per_level**2 + self.proposals_per_image**2
        return np.array([1.0, *self.operations, pairs])


class LatencyModel:
    """Latency of detectors at one size of images.

    A shape that was measured has its measured time. That of another is a sum of terms of the shape, whose coefficients
    are not negative, so that a prediction never falls as channels grow. They minimise the squares of relative errors.

    Args:
        measured: Milliseconds of measured detectors; of a shape that was measured twice, the last ones count.
    """

    def __init__(self, measured: Sequence[tuple[DetectorConfig, float]], image_height: int, image_width: int) -> None:
        self._size = image_height, image_width
        self._measured = {shape_key(detector, *self._size): time for detector, time in measured}
        self._terms = np.array([key.terms for key in self._measured])
        self._times = np.array(list(self._measured.values()))
        self._coefficients = _fitted(self._terms, self._times)

    @property
    def num_shapes(self) -> int:
        """Different shapes that were measured."""
        return len(self._measured)

    @property
    def range(self) -> tuple[float, float]:
        """The shortest and the longest measured time, milliseconds."""
        return float(self._times.min()), float(self._times.max())

    def is_measured(self, detector: DetectorConfig) -> bool:
        """Whether a detector of this shape was measured."""
        return shape_key(detector, *self._size) in self._measured

    def milliseconds(self, detector: DetectorConfig) -> float:
        """The latency of a detector."""
        key = shape_key(detector, *self._size)
        found = self._measured.get(key)
        return float(key.terms @ self._coefficients) if found is None else found

    def error(self) -> PredictionError | None:
        """The error of predictions; None where too few shapes were measured."""
        if self.num_shapes < LEAST_MEASURED:
            return None
        predicted = []
        for index in range(self.num_shapes):
            others = np.arange(self.num_shapes) != index
            predicted.append(self._terms[index] @ _fitted(self._terms[others], self._times[others]))
        relative = np.abs(np.array(predicted) / self._times - 1.0)
        return PredictionError(float(np.median(relative)), float(relative.max()))


def shape_key(detector: DetectorConfig, image_height: int, image_width: int) -> ShapeKey:
    """The shape of a detector for images of a size."""
    operations = tuple(part.flops for part in part_costs(detector, image_height, image_width))
    return ShapeKey(detector.backbone, operations, detector.pre_nms_proposals_per_level, detector.proposals_per_image)


def _fitted(terms: Floats, times: Floats) -> Floats:
    """Coefficients (T,), at least 0, of terms (N, T) for times (N,)."""
    scale = (terms / times[:, None]).max(axis=0)
    coefficients, _ = nnls(terms / times[:, None] / scale, np.ones(len(times)))
    return np.asarray(coefficients / scale, dtype=np.float64)
