"""Matching of detections with ground truth, for all subsets of a protocol and all images at once.

The rule is that of the CityPersons script, of COCO's and of Dollar's evalRes, which agree. In each image detections are
matched one after the other, best score first:

* a detection matches, of the ground truth that counts, is not matched yet and overlaps it enough (intersection over
  union), the one that it overlaps most; between equal overlaps the later record. It is a true positive;
* failing that, if it overlaps any ignored ground truth enough (intersection over the detection's own area), it is left
  out; several detections may match the same ignored ground truth;
* failing that, it is a false positive.

Between equal scores the earlier image (by ascending id) comes first, and in an image the earlier record.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from hkd.coco.detections import DetectedBoxes
from hkd.coco.ground_truth import GroundTruth
from hkd.coco.parsing.errors import AnnotationError
from hkd.evaluation.preparation import PreparedTruth, prepare_ground_truth, with_aspect_ratio
from hkd.evaluation.protocols import Protocol

FALSE_POSITIVE: Final = 0
TRUE_POSITIVE: Final = 1
LEFT_OUT: Final = -1
"""Neither true nor false positive: on ignored ground truth, or of a height that the subset leaves out."""

PAIRS_AT_A_TIME: Final = 1 << 17
"""Pairs of boxes compared in one go: bounds memory and stays within the processor's cache."""

# What follows grows with the product of boxes and detections of one image, which files of a few megabytes can make
# too large for any machine. Crowds of pedestrians stay below a tenth of these numbers.
PAIRS_COMPARED: Final = (1 << 29, 1000)
"""Largest number of pairs of boxes in one image: so many, and so many more for each detection."""
PAIRS_OVERLAPPING: Final = (1 << 20, 30)
"""Largest number of pairs that overlap enough, likewise."""

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Matches:
    """Outcomes of D detections, best score first, in S subsets over I images."""

    outcomes: npt.NDArray[np.int8]
    """(S, D): TRUE_POSITIVE, FALSE_POSITIVE or LEFT_OUT."""
    order: IntArray
    """(D,) position of each detection in the input; those beyond an image's maximum are excluded."""
    image_index: IntArray
    """(D,) position of each detection's image among the I images."""
    counted_per_image: IntArray
    """(S, I) number of ground-truth boxes that count."""


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Pairs of a detection and a ground-truth box of one image that overlap enough, in the order of detections."""

    detection: IntArray
    """(P,) ascending."""
    ground_truth: IntArray
    """(P,)."""
    overlap: FloatArray
    """(P,)."""


def match(ground_truth: GroundTruth, detections: DetectedBoxes, protocol: Protocol) -> Matches:
    """Match detections with ground truth in every subset of a protocol.

    Raises:
        AnnotationError: boxes repeat so often that the pairs to compare are too many.
    """
    num_images = len(ground_truth.image_ids)
    truth = prepare_ground_truth(ground_truth, protocol)
    order = _rank(detections, protocol.max_detections_per_image)
    boxes = with_aspect_ratio(detections.boxes_xywh[order], protocol.detection_aspect_ratio)
    image_index = detections.image_index[order]
    admitted = protocol.admitted(boxes[:, 3])
    first_box = np.searchsorted(truth.image_index, np.arange(num_images + 1))
    on_counted, on_ignored = _overlapping_pairs(truth, first_box, boxes, image_index, protocol.iou_threshold)

    outcomes = np.where(admitted, FALSE_POSITIVE, LEFT_OUT).astype(np.int8)
    subset, pair = np.nonzero(~truth.counting[:, on_ignored.ground_truth])
    outcomes[subset, on_ignored.detection[pair]] = LEFT_OUT
    # Last, because a match with ground truth that counts takes precedence over ignored ground truth.
    outcomes[_true_positives(on_counted, truth.counting, admitted)] = TRUE_POSITIVE

    counted = [np.bincount(truth.image_index[counts], minlength=num_images) for counts in truth.counting]
    return Matches(outcomes, order, image_index, np.stack(counted))


def _rank(detections: DetectedBoxes, max_per_image: int | None) -> IntArray:
    """Positions of the detections to be evaluated, best score first: (D,).

    Detections are first brought into the order of images, so that stable sorting breaks ties by image.
    """
    by_image = np.lexsort((-detections.scores, detections.image_index))
    if max_per_image is not None:
        images = detections.image_index[by_image]
        rank_in_image = np.arange(len(images)) - np.searchsorted(images, images)
        by_image = by_image[rank_in_image < max_per_image]
    ranked: IntArray = by_image[np.argsort(-detections.scores[by_image], kind="stable")]
    return ranked


def _overlapping_pairs(
    truth: PreparedTruth, first_box: IntArray, boxes_xywh: FloatArray, image_index: IntArray, threshold: float
) -> tuple[_Pairs, _Pairs]:
    """All pairs in one image by intersection over union, and all by intersection over the detection's own area.

    The former are with ground truth in its shape where it counts, the latter in that where it is ignored.

    Args:
        truth: M boxes of ground truth, image by image.
        first_box: (I + 1,) start of each image's ground truth, and the end of the last.
        boxes_xywh: (D, 4) detections.
        image_index: (D,) their images.
        threshold: Least overlap.
    """
    boxes_in_image = np.diff(first_box)[image_index]
    pairs_before = np.cumsum(boxes_in_image) - boxes_in_image
    _require_few("", int(boxes_in_image.sum()), PAIRS_COMPARED, len(boxes_xywh))
    cuts = np.flatnonzero(np.diff(pairs_before // PAIRS_AT_A_TIME)) + 1
    boxes_area = boxes_xywh[:, 2] * boxes_xywh[:, 3]
    counted_area = truth.counted_boxes_xywh[:, 2] * truth.counted_boxes_xywh[:, 3]
    boxes_corners, counted_corners = _corners(boxes_xywh), _corners(truth.counted_boxes_xywh)
    ignored_corners = _corners(truth.boxes_xywh)
    has_one_shape = truth.counted_boxes_xywh is truth.boxes_xywh

    on_counted: list[tuple[IntArray, IntArray, FloatArray]] = []
    on_ignored: list[tuple[IntArray, IntArray, FloatArray]] = []
    num_overlapping = 0
    for block in np.split(np.arange(len(boxes_xywh)), cuts):
        repeats = boxes_in_image[block]
        d = np.repeat(block, repeats)
        # Runs 0, 1, 2 ... for each detection, from its image's first ground truth on.
        g = np.arange(len(d)) + np.repeat(first_box[image_index[block]] - (np.cumsum(repeats) - repeats), repeats)
        meeting = _intersections(counted_corners, g, boxes_corners, d)
        counted_d, counted_g, intersection = meeting
        overlap = intersection / (boxes_area[counted_d] + counted_area[counted_g] - intersection)
        on_counted.append(_reaching(counted_d, counted_g, overlap, threshold))
        if not has_one_shape:
            meeting = _intersections(ignored_corners, g, boxes_corners, d)
        ignored_d, ignored_g, intersection = meeting
        on_ignored.append(_reaching(ignored_d, ignored_g, intersection / boxes_area[ignored_d], threshold))
        num_overlapping += len(on_counted[-1][0]) + len(on_ignored[-1][0])
        _require_few("overlapping ", num_overlapping, PAIRS_OVERLAPPING, len(boxes_xywh))
    return _joined(on_counted), _joined(on_ignored)


def _require_few(kind: str, number: int, limit: tuple[int, int], num_detections: int) -> None:
    most = limit[0] + limit[1] * num_detections
    if number > most:
        problem = (
            f"detections and ground truth have more than {most:,} {kind}pairs of boxes in the same images, which "
            "cannot be matched; perhaps records are repeated: remove repeated boxes, and detections of low scores"
        )
        raise AnnotationError([problem])


def _corners(boxes_xywh: FloatArray) -> FloatArray:
    """(4, N) left, top, right and bottom: one row each, which is fast to index."""
    return np.concatenate([boxes_xywh[:, :2], boxes_xywh[:, :2] + boxes_xywh[:, 2:]], axis=1).T.copy()


def _intersections(
    truth: FloatArray, g: IntArray, boxes: FloatArray, d: IntArray
) -> tuple[IntArray, IntArray, FloatArray]:
    """Of pairs (d, g) of boxes given by :func:`_corners`, those that intersect, with their intersection areas."""
    intersection = np.ones(len(d))
    # Axis by axis: most pairs are disjoint along the first.
    for axis in (0, 1):
        right = np.minimum(boxes[axis + 2][d], truth[axis + 2][g])
        intersection = intersection * (right - np.maximum(boxes[axis][d], truth[axis][g]))
        meets = intersection > 0
        d, g, intersection = d[meets], g[meets], intersection[meets]
    return d, g, intersection


def _reaching(d: IntArray, g: IntArray, overlap: FloatArray, threshold: float) -> tuple[IntArray, IntArray, FloatArray]:
    reaches = overlap >= threshold
    return d[reaches], g[reaches], overlap[reaches]


def _joined(blocks: list[tuple[IntArray, IntArray, FloatArray]]) -> _Pairs:
    return _Pairs(*(np.concatenate(column) for column in zip(*blocks, strict=True)))


def _true_positives(pairs: _Pairs, counting: BoolArray, admitted: BoolArray) -> BoolArray:
    """Which detections match ground truth that counts, in each subset: (S, D)."""
    num_subsets, num_truth = counting.shape
    num_detections = admitted.shape[1]
    # The order in which each detection prefers ground truth; negated, the later of two equals comes first.
    preference = np.lexsort((-pairs.ground_truth, -pairs.overlap, pairs.detection))
    detection, truth = pairs.detection[preference], pairs.ground_truth[preference]
    subset, pair = np.nonzero(counting[:, truth] & admitted[:, detection])
    chooser, candidate = np.unique(subset * num_detections + detection[pair], return_inverse=True)
    holds = _choose_in_turn(candidate, subset * num_truth + truth[pair], num_subsets * num_truth)

    is_matched = np.zeros(num_subsets * num_detections, dtype=np.bool_)
    is_matched[chooser[holds]] = True
    return is_matched.reshape(num_subsets, num_detections)


def _choose_in_turn(chooser: IntArray, wanted: IntArray, num_wanted: int) -> IntArray:
    """The choosers that get an item if each in turn, 0 first, takes the first free item of its list.

    Computed by deferred acceptance (Gale and Shapley, 1962). All choosers propose to their first choice at once; each
    item keeps the lowest chooser, and the others, including one that is displaced, propose to their next choice, until
    there are no proposals. The result is a stable assignment. Because all items rank the choosers equally, there is
    only one: that of choosing in turn.

    Args:
        chooser: (P,) ascending, 0 .. C - 1, each at least once.
        wanted: (P,) the items on their lists, in 0 .. num_wanted - 1, each list in order of preference.
        num_wanted: Number of items.
    """
    num_choosers = int(chooser[-1]) + 1 if len(chooser) else 0
    bounds = np.searchsorted(chooser, np.arange(num_choosers + 1))
    place, end = bounds[:-1].copy(), bounds[1:]
    nobody = num_choosers
    holder = np.full(num_wanted, nobody)
    proposing = np.arange(num_choosers)
    while proposing.size:
        item = wanted[place[proposing]]
        before = holder[item]
        np.minimum.at(holder, item, proposing)
        after = holder[item]
        displaced = before[(after == proposing) & (before != nobody)]
        refused = np.concatenate([proposing[after != proposing], displaced])
        place[refused] += 1
        proposing = refused[place[refused] < end[refused]]
    holders: IntArray = holder[holder != nobody]
    return holders
