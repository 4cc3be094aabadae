"""From which score on a detector's detections can serve as labels, chosen on images with annotations.

The share of people among detections of a score is estimated by isotonic regression: the function of the score that
never decreases and fits the outcomes on the annotated images best (Zadrozny and Elkan, "Transforming classifier scores
into accurate multiclass probability estimates", KDD 2002). Unlike the precision of all detections above a score, it
does not let the many certain detections hide that those just above a low threshold are mostly wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.optimize import isotonic_regression

from hkd.coco.detections import DetectedBoxes
from hkd.coco.ground_truth import GroundTruth
from hkd.coco.notes import counted
from hkd.evaluation.errors import EvaluationInputError
from hkd.evaluation.matching import LEFT_OUT, TRUE_POSITIVE, match
from hkd.evaluation.protocols import Interval, Protocol, Subset

FloatArray = npt.NDArray[np.float64]

OBJECT_SHARE: Final = 0.7
"""Least share of people among detections of the lowest score that counts as a person."""
IGNORED_SHARE: Final = 0.1
"""Least share of people among detections of the lowest score that is an ignore region."""
FEWEST_PEOPLE: Final = 10
"""People that detections from the upper threshold on must find, for the estimate to mean something."""

ALL_PEOPLE: Final = Protocol(
    name="all people",
    subsets=(Subset("all", Interval(0), Interval(0)),),
    fppi_points=(1.0,),
    iou_threshold=0.5,
    height_filter_ratio=None,
    max_detections_per_image=None,
    miss_rate_floor=0.0,
)
"""Every box that is not ignored counts, whatever its size and visibility, as it does in training."""


SETTINGS: Final = ("data.unlabelled_object_score", "data.unlabelled_ignored_score")
"""By which a user sets the upper and the lower score of a training."""


class ScoreThresholdError(EvaluationInputError):
    """No threshold can be chosen."""


@dataclass(frozen=True)
class ScoreThresholds:
    """Detections from ``object_score`` on are people; others from ``ignored_score`` on are ignore regions."""

    object_score: float
    ignored_score: float
    """At most ``object_score``."""
    object_precision: float | None = None
    """Share of people among the detections from ``object_score`` on, on the annotated images; None where unknown."""
    object_recall: float | None = None
    """Share of the annotated people whom these detections find."""
    ignored_precision: float | None = None
    """Share of people among the detections that become ignore regions."""

    def __str__(self) -> str:
        parts = [f"people from score {self.object_score:.3g} on{_percent(self.object_precision)}"]
        if self.object_recall is not None:
            parts.append(f"who are {100 * self.object_recall:.0f} % of the annotated ones")
        if self.ignored_score < self.object_score:
            parts.append(f"ignored from {self.ignored_score:.3g} on{_percent(self.ignored_precision)}")
        return ", ".join(parts)


def choose_thresholds(
    truth: GroundTruth,
    detections: DetectedBoxes,
    *,
    object_score: float | None = None,
    ignored_score: float | None = None,
    settings: tuple[str, str] = SETTINGS,
) -> ScoreThresholds:
    """Choose the scores from which detections are labels; those that are given stay.

    The upper threshold is the lowest score at which :data:`OBJECT_SHARE` of the detections are people, the lower one
    that at which :data:`IGNORED_SHARE` are. Detections on ignored ground truth do not count.

    Args:
        truth: Of the annotated images.
        detections: On these images, of low scores too.
        settings: Names by which a user sets the upper and the lower score; for messages.

    Raises:
        ScoreThresholdError: no score has such a share of people, with at least :data:`FEWEST_PEOPLE` found from it on;
            or the thresholds are in the wrong order.
    """
    matches = match(truth, detections, ALL_PEOPLE)
    counted = matches.outcomes[0] != LEFT_OUT
    scores = detections.scores[matches.order][counted]
    is_person = matches.outcomes[0][counted] == TRUE_POSITIVE
    share = share_of_people(scores, is_person)
    upper = _lowest_object_score(scores, is_person, share, settings) if object_score is None else object_score
    if ignored_score is None:
        doubtful = scores[(share >= IGNORED_SHARE) & (scores < upper)]
        lower = float(doubtful.min()) if len(doubtful) else upper
    else:
        lower = ignored_score
    if lower > upper:
        problem = (
            f"{settings[1]} {lower:g} is above the upper score, {upper:g}, which was chosen on the validation images;"
            f" set {settings[0]}, too, or neither"
        )
        raise ScoreThresholdError([problem])
    is_object = scores >= upper
    is_ignored = (scores >= lower) & ~is_object
    num_people = int(matches.counted_per_image[0].sum())
    return ScoreThresholds(
        object_score=upper,
        ignored_score=lower,
        object_precision=_share(is_person[is_object]),
        object_recall=float(is_person[is_object].sum() / num_people) if num_people else None,
        ignored_precision=_share(is_person[is_ignored]),
    )


def share_of_people(scores: FloatArray, is_person: npt.NDArray[np.bool_]) -> FloatArray:
    """(D,) share of people at each detection's score, by isotonic regression; detections may be in any order."""
    if len(scores) == 0:
        return np.zeros(0)
    values, group = np.unique(scores, return_inverse=True)
    people = np.bincount(group, weights=is_person, minlength=len(values))
    counts = np.bincount(group, minlength=len(values))
    blocks = isotonic_regression(people / counts, weights=counts).blocks
    # From the counts: the regression's own means are computed from rounded ones, and may fall below an equal threshold.
    shares = np.add.reduceat(people, blocks[:-1]) / np.add.reduceat(counts, blocks[:-1])
    return np.asarray(np.repeat(shares, np.diff(blocks)), dtype=np.float64)[group]


def _lowest_object_score(
    scores: FloatArray, is_person: npt.NDArray[np.bool_], share: FloatArray, settings: tuple[str, str]
) -> float:
    enough = share >= OBJECT_SHARE
    num_found = int(is_person[enough].sum())
    if num_found >= FEWEST_PEOPLE:
        return float(scores[enough].min())
    best = f"at most {100 * share.max():.0f} %" if len(share) else "none, as there are no detections,"
    problem = (
        f"no score is found from which the teacher's detections can count as people: {100 * OBJECT_SHARE:.0f} % of"
        f" those of the lowest such score must be people, and {FEWEST_PEOPLE} people must be found in all. On the"
        f" validation images, with {_people(int(is_person.sum()))} found at any score, {best} are people, and"
        f" {_people(num_found)} found above that. Train the teacher longer, validate on more images, or set"
        f" {' and '.join(settings)}"
    )
    raise ScoreThresholdError([problem])


def _share(is_person: npt.NDArray[np.bool_]) -> float | None:
    return float(is_person.mean()) if len(is_person) else None


def _percent(share: float | None) -> str:
    return "" if share is None else f" ({100 * share:.0f} % people on the validation images)"


def _people(count: int) -> str:
    return counted(count, "person", "people")
