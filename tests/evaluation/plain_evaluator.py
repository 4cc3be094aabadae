"""The evaluation by its definition, box by box and image by image, in plain Python.

Follows the steps of the CityPersons script, including its habit of going through sorted ground truth with the best
overlap so far, and what Dollar's code does to boxes before; slow, and easy to check against them.
"""

from __future__ import annotations

import math
from decimal import ROUND_HALF_UP, Decimal

from hkd.coco.detections import DetectedBoxes
from hkd.coco.ground_truth import GroundTruth
from hkd.evaluation.protocols import Interval, Protocol, Subset

PlainTruth = tuple[list[float], bool]

TRUE, FALSE, LEFT_OUT = 1, 0, -1


def plain_overlap(detection: list[float], truth: list[float], is_ignored: bool) -> float:
    """Intersection over union; over the detection's own area where the ground truth is ignored."""
    width = min(detection[0] + detection[2], truth[0] + truth[2]) - max(detection[0], truth[0])
    height = min(detection[1] + detection[3], truth[1] + truth[3]) - max(detection[1], truth[1])
    if width <= 0 or height <= 0:
        return 0.0
    intersection = width * height
    own_area = detection[2] * detection[3]
    return intersection / (own_area if is_ignored else own_area + truth[2] * truth[3] - intersection)


def plain_match(
    detections: list[list[float]], truths: list[tuple[list[float], bool]], iou_threshold: float
) -> list[int]:
    """Outcomes of one image's detections, given best first, against its (box, ignored) ground truth."""
    counting_first = sorted(truths, key=lambda truth: truth[1])
    is_matched = [False] * len(truths)
    outcomes = []
    for detection in detections:
        best_overlap, best = iou_threshold, None
        for g, (box, is_ignored) in enumerate(counting_first):
            if is_matched[g]:
                continue
            if best is not None and is_ignored:
                break
            overlap = plain_overlap(detection, box, is_ignored)
            if overlap < best_overlap:
                continue
            best_overlap, best = overlap, g
        if best is None:
            outcomes.append(FALSE)
        elif counting_first[best][1]:
            outcomes.append(LEFT_OUT)
        else:
            is_matched[best] = True
            outcomes.append(TRUE)
    return outcomes


def plain_rounded(number: float) -> float:
    """To the nearest whole number, halves away from zero."""
    return float(Decimal(number).quantize(Decimal(1), rounding=ROUND_HALF_UP))


def plain_resized(box: list[float], aspect_ratio: float | None) -> list[float]:
    """The box about the same centre, its width ``aspect_ratio`` times its height."""
    if aspect_ratio is None:
        return box
    growth = box[3] * aspect_ratio - box[2]
    return [box[0] - growth / 2, box[1], box[2] + growth, box[3]]


def plain_visibility(truth: GroundTruth, g: int, box: list[float], visible: list[float], protocol: Protocol) -> float:
    """Visible share of a box, by the protocol's rule."""
    stated = float(truth.visibilities[g])
    if protocol.unoccluded_visibility is None:
        return stated
    if math.isnan(visible[0]):
        return stated if stated < 1 else protocol.unoccluded_visibility
    if not truth.occluded[g] or visible == [0, 0, 0, 0]:
        return protocol.unoccluded_visibility
    if protocol.visibility_of_equal_boxes is not None and visible == box:
        return protocol.visibility_of_equal_boxes
    return visible[2] * visible[3] / (box[2] * box[3])


def plain_is_inside(box: list[float], protocol: Protocol) -> bool:
    """Whether a box is wholly inside the border."""
    if protocol.border_xyxy is None:
        return True
    left, top, right, bottom = protocol.border_xyxy
    return left <= box[0] and top <= box[1] and box[0] + box[2] <= right and box[1] + box[3] <= bottom


def plain_truth(truth: GroundTruth, protocol: Protocol, subset: Subset, g: int) -> PlainTruth | None:
    """A ground-truth box (as it is where it counts, else as where it is ignored; whether ignored); None if dropped."""
    label = truth.label_names[truth.label_index[g]] if truth.label_index[g] >= 0 else None
    counted, ignored = protocol.counted_labels, protocol.ignored_labels
    if label is not None and counted is not None and label not in (*counted, *ignored):
        return None
    box, visible = truth.boxes_xywh[g].tolist(), truth.visible_boxes_xywh[g].tolist()
    height = float(truth.heights[g])
    if protocol.rounds_boxes:
        box = [plain_rounded(number) for number in box]
        visible = visible if math.isnan(visible[0]) else [plain_rounded(number) for number in visible]
        height = box[3]
    visibility = plain_visibility(truth, g, box, visible, protocol)
    counts = (
        not truth.ignore[g]
        and label not in ignored
        and plain_is_inside(box, protocol)
        and plain_contains(subset.height_range, height)
        and plain_contains(subset.visibility_range, visibility)
    )
    return (plain_resized(box, protocol.truth_aspect_ratio), False) if counts else (box, True)


def plain_contains(interval: Interval, value: float) -> bool:
    """Whether a number lies in an interval."""
    below = value < interval.high or (interval.includes_high and value == interval.high)
    return interval.low <= value and below


def plain_outcomes(
    truth: GroundTruth, detections: DetectedBoxes, protocol: Protocol, subset: Subset
) -> tuple[list[tuple[int, int]], int]:
    """(detection, outcome) of all that are evaluated, best score first, and the number of boxes that count."""
    evaluated: list[tuple[float, int, int]] = []
    num_counting = 0
    records: dict[int, list[int]] = {}
    for g in range(len(truth.ignore)):
        records.setdefault(int(truth.image_index[g]), []).append(g)
    found: dict[int, list[int]] = {}
    for d in range(len(detections.scores)):
        found.setdefault(int(detections.image_index[d]), []).append(d)
    for image in range(len(truth.image_ids)):
        prepared = [plain_truth(truth, protocol, subset, g) for g in records.get(image, [])]
        own_truths = [entry for entry in prepared if entry is not None]
        num_counting += sum(not is_ignored for _, is_ignored in own_truths)
        own = sorted(found.get(image, []), key=lambda d: -detections.scores[d])[: protocol.max_detections_per_image]
        if (ratio := protocol.height_filter_ratio) is not None:
            low, high = subset.height_range.low / ratio, subset.height_range.high * ratio
            own = [d for d in own if low <= detections.boxes_xywh[d, 3] < high]
        boxes = [plain_resized(detections.boxes_xywh[d].tolist(), protocol.detection_aspect_ratio) for d in own]
        for d, outcome in zip(own, plain_match(boxes, own_truths, protocol.iou_threshold), strict=True):
            evaluated.append((detections.scores[d], d, outcome))
    evaluated.sort(key=lambda entry: -entry[0])
    return [(d, outcome) for _, d, outcome in evaluated], num_counting


def plain_log_average_miss_rate(
    truth: GroundTruth,
    detections: DetectedBoxes,
    protocol: Protocol,
    subset: Subset,
    *,
    as_the_script: bool = False,
) -> float | None:
    """MR^-2 of a subset.

    ``as_the_script`` reads the last recall where the first false positive is beyond an FPPI point, as the
    CityPersons script does.
    """
    outcomes, num_counting = plain_outcomes(truth, detections, protocol, subset)
    if num_counting == 0:
        return None
    found = wrong = 0
    curve: list[tuple[float, float]] = []
    for _, outcome in outcomes:
        if outcome != LEFT_OUT:
            found, wrong = found + (outcome == TRUE), wrong + (outcome == FALSE)
            curve.append((wrong / len(truth.image_ids), 1.0 - found / num_counting))
    readings = []
    for point in protocol.fppi_points:
        reading = curve[-1][1] if as_the_script and curve else 1.0
        for fppi, miss_rate in curve:
            if fppi <= point:
                reading = miss_rate
        readings.append(max(reading, protocol.miss_rate_floor))
    if 0.0 in readings:
        return 0.0
    return math.exp(sum(math.log(reading) for reading in readings) / len(readings))
