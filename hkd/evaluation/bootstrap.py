"""Uncertainty of MR^-2 over images of the same kind: the bootstrap over images.

A resample draws as many images as there are, with replacement, and keeps each image's people and detections together,
because boxes of one image are not independent (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, sections
8.3 and 13.3). Intervals are percentile intervals. Two detectors are compared on the same resamples, so that the
difficulty of an image cancels out.

An image that is drawn k times counts as k images, which take its place in the order of detections. A resample in which
no ground truth counts has no MR^-2: it is excluded from the interval, and counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from hkd.evaluation.errors import EvaluationInputError
from hkd.evaluation.matching import FALSE_POSITIVE, TRUE_POSITIVE, Matches
from hkd.evaluation.protocols import Protocol

RESAMPLES: Final = 1000
CONFIDENCE: Final = 0.95

ELEMENTS_AT_A_TIME: Final = 1 << 22
"""Resamples times images (or detections) per block: bounds memory."""

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ResampledMissRates:
    """MR^-2 of one set of detections in S subsets: on the images themselves, and on R resamples of them."""

    subsets: tuple[str, ...]
    """Their names."""
    values: FloatArray
    """(S,) on the images themselves, fractions; NaN where no ground truth counts."""
    resampled: FloatArray
    """(S, R) on each resample, fractions; NaN where none of a resample's ground truth counts."""
    counted_per_image: IntArray
    """(S, I) number of boxes that count; only sets of detections with equal numbers can be compared."""
    seed: int
    """Seed of the resamples, which depend on it and the number of images only."""


@dataclass(frozen=True)
class MissRateInterval:
    """A confidence interval of the MR^-2 of one subset."""

    subset: str
    low: float | None
    """Lower end, a fraction; None where the subset, or every resample of it, has no value."""
    high: float | None
    confidence: float
    resamples_without_value: int
    """Resamples in which no ground truth counts; the interval is over the others."""


@dataclass(frozen=True)
class MissRateComparison:
    """A second set of detections against a first, in one subset, on the same resamples."""

    subset: str
    difference: float | None
    """MR^-2 of the second minus that of the first, a fraction; below 0 the second is better. None: no value."""
    low: float | None
    """Lower end of the difference's interval; None as in :class:`MissRateInterval`."""
    high: float | None
    probability_second_better: float | None
    """Share of the resamples in which the second has the lower MR^-2; equal ones count half. It measures how
    stable the order is over images like these, and is not a Bayesian probability. None: no resample has a value."""
    confidence: float
    resamples_without_value: int


def resample_miss_rates(
    matches: Matches, protocol: Protocol, *, resamples: int = RESAMPLES, seed: int = 0
) -> ResampledMissRates:
    """MR^-2 in every subset of a protocol on random resamples of the images.

    Args:
        matches: Result of :func:`hkd.evaluation.matching.match` by the same protocol.
        protocol: Defines the FPPI points and the floor of the miss rate.
        resamples: Number of resamples; 0 computes only the values on the images themselves.
        seed: The same seed gives the same resamples for any detections on as many images.
    """
    names = tuple(subset.name for subset in protocol.subsets)
    return resample_outcomes(
        matches, names, protocol.fppi_points, protocol.miss_rate_floor, resamples=resamples, seed=seed
    )


def resample_outcomes(
    matches: Matches,
    subsets: tuple[str, ...],
    fppi_points: Sequence[float],
    miss_rate_floor: float,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> ResampledMissRates:
    """As :func:`resample_miss_rates`, of outcomes that were stored with what the protocol reads.

    Args:
        matches: Of the subsets.
        subsets: Their names.
        fppi_points: False positives per image at which the curve is read, ascending.
        miss_rate_floor: Miss rates below it are raised to it.
        resamples: As above.
        seed: As above.
    """
    assert resamples >= 0
    counted = matches.counted_per_image
    num_images = counted.shape[1]
    readers = [_SubsetReader(matches, fppi_points, miss_rate_floor, index) for index in range(len(subsets))]
    once = np.ones((1, num_images), dtype=np.int64)
    blocks = [
        np.stack([reader.miss_rates(weights) for reader in readers])
        for weights in _image_weights(num_images, resamples, seed)
    ]
    return ResampledMissRates(
        subsets=subsets,
        values=np.concatenate([reader.miss_rates(once) for reader in readers]),
        resampled=np.concatenate([np.empty((len(readers), 0)), *blocks], axis=1),
        counted_per_image=counted,
        seed=seed,
    )


def intervals(miss_rates: ResampledMissRates, confidence: float = CONFIDENCE) -> tuple[MissRateInterval, ...]:
    """The percentile interval of MR^-2 in each subset.

    On a single image all resamples are equal, so that the interval has width 0 and no meaning.

    Args:
        miss_rates: Of :func:`resample_miss_rates`.
        confidence: Share of the resamples inside the interval, in (0, 1).
    """
    assert 0 < confidence < 1
    found = []
    for name, resampled in zip(miss_rates.subsets, miss_rates.resampled, strict=True):
        low, high = _percentile_interval(resampled, confidence)
        found.append(MissRateInterval(name, low, high, confidence, int(np.isnan(resampled).sum())))
    return tuple(found)


def compare(
    first: ResampledMissRates, second: ResampledMissRates, confidence: float = CONFIDENCE
) -> tuple[MissRateComparison, ...]:
    """MR^-2 of the second minus that of the first, with its interval, in each subset.

    Args:
        first: Of :func:`resample_miss_rates`.
        second: Of the same protocol, ground truth, seed and number of resamples.
        confidence: Share of the resampled differences inside the interval, in (0, 1).

    Raises:
        EvaluationInputError: the two were not computed on the same resamples of the same ground truth.
    """
    assert 0 < confidence < 1
    same_resamples = first.seed == second.seed and first.resampled.shape == second.resampled.shape
    if not (same_resamples and np.array_equal(first.counted_per_image, second.counted_per_image)):
        problem = (
            "two miss rates can be compared only on the same resamples: resample both with the same ground truth, "
            "protocol, seed and number of resamples"
        )
        raise EvaluationInputError([problem])
    found = []
    for name, value, differences in zip(
        first.subsets, second.values - first.values, second.resampled - first.resampled, strict=True
    ):
        low, high = _percentile_interval(differences, confidence)
        valid = differences[~np.isnan(differences)]
        better = float(np.mean((valid < 0) + 0.5 * (valid == 0))) if valid.size else None
        found.append(
            MissRateComparison(
                subset=name,
                difference=None if np.isnan(value) else float(value),
                low=low,
                high=high,
                probability_second_better=better,
                confidence=confidence,
                resamples_without_value=len(differences) - len(valid),
            )
        )
    return tuple(found)


def _percentile_interval(resampled: FloatArray, confidence: float) -> tuple[float | None, float | None]:
    valid = resampled[~np.isnan(resampled)]
    if valid.size == 0:
        return None, None
    low, high = np.quantile(valid, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _image_weights(num_images: int, resamples: int, seed: int) -> Iterator[IntArray]:
    """How often each image is drawn: blocks of (r, I), together (R, I)."""
    random = np.random.default_rng(seed)
    rows = max(1, ELEMENTS_AT_A_TIME // num_images)
    for start in range(0, resamples, rows):
        # Drawn one resample after the other, so that the size of a block changes nothing.
        draws = [random.integers(num_images, size=num_images) for _ in range(min(rows, resamples - start))]
        yield np.stack([np.bincount(draw, minlength=num_images) for draw in draws])


class _SubsetReader:
    """Computes MR^-2 of one subset on weighted images."""

    def __init__(self, matches: Matches, fppi_points: Sequence[float], floor: float, index: int) -> None:
        outcomes = matches.outcomes[index]
        is_wrong, is_right = outcomes == FALSE_POSITIVE, outcomes == TRUE_POSITIVE
        self.counted: IntArray = matches.counted_per_image[index]
        self.floor = floor
        self.wrong_images = matches.image_index[is_wrong]
        """(F,) images of the false positives, best score first."""
        self.right_images = matches.image_index[is_right]
        """(T,) images of the true positives, best score first."""
        before = np.cumsum(is_right)[is_wrong]
        self.right_before: IntArray = np.concatenate([before, [len(self.right_images)]])
        """(F + 1,) true positives ahead of each false positive, and in all."""
        self.allowed = _most_within(np.array(fppi_points), len(self.counted))
        """(points,) how many false positives each FPPI point allows."""

    def miss_rates(self, weights: IntArray) -> FloatArray:
        """MR^-2 in each resample: (r,), NaN where no ground truth counts.

        Args:
            weights: (r, I) how often each image counts.
        """
        rows = max(1, ELEMENTS_AT_A_TIME // (self._first_guess() + len(self.right_images) + 1))
        return np.concatenate([self._miss_rates(weights[i : i + rows]) for i in range(0, len(weights), rows)])

    def _miss_rates(self, weights: IntArray) -> FloatArray:
        first_beyond = self._first_beyond(weights)
        right = self.right_images[: self.right_before[first_beyond.max()]]
        found_so_far = np.zeros((len(weights), len(right) + 1), dtype=np.int64)
        np.cumsum(weights[:, right], axis=1, out=found_so_far[:, 1:])
        found = np.take_along_axis(found_so_far, self.right_before[first_beyond], axis=1)
        people = weights @ self.counted
        # NaN for no value, and a geometric mean of 0 at a miss rate of 0, are expected: no warning.
        with np.errstate(divide="ignore", invalid="ignore"):
            readings = 1.0 - found / people[:, None]
            rates: FloatArray = np.exp(np.log(np.maximum(readings, self.floor)).mean(axis=1))
        return rates

    def _first_beyond(self, weights: IntArray) -> IntArray:
        """Index of the first false positive beyond each FPPI point, F if there is none: (r, points)."""
        length = self._first_guess()
        while True:
            wrong_so_far = np.cumsum(weights[:, self.wrong_images[:length]], axis=1)
            if length >= len(self.wrong_images) or wrong_so_far[:, -1].min() > self.allowed[-1]:
                break
            length *= 2
        # One search for all rows: an offset makes each row greater than the one before.
        step = max(int(wrong_so_far.max(initial=0)), int(self.allowed[-1])) + 1
        lift = step * np.arange(len(weights))[:, None]
        places = np.searchsorted((wrong_so_far + lift).ravel(), self.allowed + lift, side="right")
        beyond: IntArray = places - wrong_so_far.shape[1] * np.arange(len(weights))[:, None]
        return beyond

    def _first_guess(self) -> int:
        """A number of false positives that usually suffices: those within the last FPPI point and a margin."""
        return min(len(self.wrong_images), int(1.15 * self.allowed[-1]) + 64)


def _most_within(fppi_points: FloatArray, num_images: int) -> IntArray:
    """Largest number of false positives on ``num_images`` images within each FPPI point: (points,)."""
    # By the same division as the curve's: a product with the number of images may round to the other side. Points
    # beyond any number of detections stay within what integers hold.
    near = np.floor(np.minimum(fppi_points * num_images, 2.0**40))[:, None] + np.arange(-1, 2)
    most: FloatArray = np.where(near / num_images <= fppi_points[:, None], near, -1).max(axis=1)
    return most.astype(np.int64)
