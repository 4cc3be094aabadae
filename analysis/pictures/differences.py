"""On which validation images two detectors differ most.

Each detector is used at the score at which it has 0.1 false positives per image. The difference of two detectors on an
image is the number of people that only one of them finds, plus the false positives of both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from hkd.evaluation.formats.stored_detections import StoredDetections
from hkd.evaluation.matching import FALSE_POSITIVE, TRUE_POSITIVE
from hkd.evaluation.preparation import PreparedTruth, with_aspect_ratio
from hkd.evaluation.protocols import Protocol

FALSE_POSITIVES_PER_IMAGE: Final = 0.1
DIFFERENCE_RULE: Final = (
    "the people whom only one of the two finds, plus the false positives of both, each at its score of "
    f"{FALSE_POSITIVES_PER_IMAGE} false positives per image"
)
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Shown:
    """The K best detections of one detector, and whom they find."""

    outcomes: IntArray
    """(K,) of :mod:`hkd.evaluation.matching`."""
    image_index: IntArray
    """(K,) position of each one's image."""
    finds: BoolArray
    """(M,) which people it finds, in the order of the ground truth."""


def shown_detections(stored: StoredDetections, subset: str, truth: PreparedTruth, protocol: Protocol) -> Shown:
    """The detections that a detector has at 0.1 false positives per image.

    Args:
        stored: Of the detector.
        subset: Whose people count.
        truth: People of the same images.
        protocol: By which both were matched; the subset is one of its own.
    """
    outcomes = stored.outcomes[stored.subsets.index(subset)]
    beyond = np.flatnonzero(np.cumsum(outcomes == FALSE_POSITIVE) > FALSE_POSITIVES_PER_IMAGE * len(stored.image_ids))
    kept = int(beyond[0]) if beyond.size else len(outcomes)
    counting = truth.counting[[each.name for each in protocol.subsets].index(subset)]
    finds = _found_people(stored, outcomes[:kept], truth, counting, protocol.detection_aspect_ratio)
    return Shown(
        outcomes=outcomes[:kept].astype(np.int64),
        image_index=stored.image_index[:kept],
        finds=finds,
    )


def differences(
    student: Shown, teacher: Shown | None, truth: PreparedTruth, counting: BoolArray, num_images: int
) -> IntArray:
    """(I,) the difference of two detectors on each image; without a teacher, to the ground truth.

    Args:
        student: Of one of them.
        teacher: Of the other one.
        truth: M people.
        counting: (M,) which of them count.
        num_images: I.
    """
    other = counting if teacher is None else teacher.finds
    found = np.bincount(truth.image_index[student.finds != other], minlength=num_images)
    for each in (student, teacher):
        if each is not None:
            found = found + np.bincount(each.image_index[each.outcomes == FALSE_POSITIVE], minlength=num_images)
    return found.astype(np.int64)


def _found_people(
    stored: StoredDetections,
    outcomes: npt.NDArray[np.int8],
    truth: PreparedTruth,
    counting: BoolArray,
    aspect_ratio: float | None,
) -> BoolArray:
    """(M,) whom the true positives match: of the people who count and are free, the one that overlaps most."""
    boxes = with_aspect_ratio(stored.boxes_xywh[: len(outcomes)], aspect_ratio)
    first = np.searchsorted(truth.image_index, np.arange(len(stored.image_ids) + 1))
    finds = np.zeros(len(counting), dtype=np.bool_)
    for row in np.flatnonzero(outcomes == TRUE_POSITIVE).tolist():
        image = int(stored.image_index[row])
        people = np.arange(first[image], first[image + 1])
        people = people[counting[people] & ~finds[people]]
        if people.size:
            finds[people[_last_of_the_most(_overlaps(boxes[row], truth.counted_boxes_xywh[people]))]] = True
    return finds


def _overlaps(box: npt.NDArray[np.float64], others: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(N,) intersection over union of a box (4,) and others (N, 4), all xywh."""
    low = np.maximum(box[:2], others[:, :2])
    high = np.minimum(box[:2] + box[2:], others[:, :2] + others[:, 2:])
    common: npt.NDArray[np.float64] = np.clip(high - low, 0, None).prod(axis=1)
    union: npt.NDArray[np.float64] = box[2:].prod() + others[:, 2:].prod(axis=1) - common
    overlaps = np.zeros(len(others))
    np.divide(common, union, out=overlaps, where=union > 0)
    return overlaps


def _last_of_the_most(values: npt.NDArray[np.float64]) -> int:
    """As matching does: between equal overlaps the later record."""
    return len(values) - 1 - int(np.argmax(values[::-1]))
