"""The evaluation as its definition reads: box by box and image by image, in plain Python.

Follows the steps of the CityPersons script, including its habit of going through sorted ground truth with the best
overlap so far; slow, and easy to check against it.
"""

from __future__ import annotations

import math

from hkd.evaluation.inputs import DetectedBoxes, GroundTruth
from hkd.evaluation.protocols import Protocol, Subset

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
    """Verdicts on one image's detections, given best first, against its (box, ignored) ground truth."""
    counting_first = sorted(truths, key=lambda truth: truth[1])
    taken = [False] * len(truths)
    verdicts = []
    for detection in detections:
        best_overlap, best = iou_threshold, None
        for g, (box, is_ignored) in enumerate(counting_first):
            if taken[g]:
                continue
            if best is not None and is_ignored:
                break
            overlap = plain_overlap(detection, box, is_ignored)
            if overlap < best_overlap:
                continue
            best_overlap, best = overlap, g
        if best is None:
            verdicts.append(FALSE)
        elif counting_first[best][1]:
            verdicts.append(LEFT_OUT)
        else:
            taken[best] = True
            verdicts.append(TRUE)
    return verdicts


def plain_counts(truth: GroundTruth, subset: Subset, g: int) -> bool:
    """Whether a ground-truth box counts in a subset."""
    height, visibility = truth.heights[g], truth.visibilities[g]
    heights, visibilities = subset.height_range, subset.visibility_range
    in_height = heights.low <= height and (height < heights.high or (heights.includes_high and height == heights.high))
    return bool(not truth.ignore[g] and in_height and visibilities.low <= visibility <= visibilities.high)


def plain_verdicts(
    truth: GroundTruth, detections: DetectedBoxes, protocol: Protocol, subset: Subset
) -> tuple[list[tuple[int, int]], int]:
    """(detection, verdict) of all that are judged, best score first, and the number of boxes that count."""
    judged: list[tuple[float, int, int]] = []
    num_counting = 0
    for image in range(len(truth.image_ids)):
        own_truths = [
            (truth.boxes_xywh[g].tolist(), not plain_counts(truth, subset, g))
            for g in range(len(truth.ignore))
            if truth.image_index[g] == image
        ]
        num_counting += sum(not is_ignored for _, is_ignored in own_truths)
        own = [d for d in range(len(detections.scores)) if detections.image_index[d] == image]
        own.sort(key=lambda d: -detections.scores[d])
        own = own[: protocol.max_detections_per_image]
        if (ratio := protocol.height_filter_ratio) is not None:
            low, high = subset.height_range.low / ratio, subset.height_range.high * ratio
            own = [d for d in own if low <= detections.boxes_xywh[d, 3] < high]
        boxes = [detections.boxes_xywh[d].tolist() for d in own]
        for d, verdict in zip(own, plain_match(boxes, own_truths, protocol.iou_threshold), strict=True):
            judged.append((detections.scores[d], d, verdict))
    judged.sort(key=lambda entry: -entry[0])
    return [(d, verdict) for _, d, verdict in judged], num_counting


def plain_log_average_miss_rate(
    truth: GroundTruth,
    detections: DetectedBoxes,
    protocol: Protocol,
    subset: Subset,
    *,
    as_the_script: bool = False,
) -> float | None:
    """MR^-2 of a subset.

    ``as_the_script`` reads the last recall where the first false positive lies beyond an FPPI point, as the
    CityPersons script does.
    """
    verdicts, num_counting = plain_verdicts(truth, detections, protocol, subset)
    if num_counting == 0:
        return None
    found = wrong = 0
    curve: list[tuple[float, float]] = []
    for _, verdict in verdicts:
        if verdict != LEFT_OUT:
            found, wrong = found + (verdict == TRUE), wrong + (verdict == FALSE)
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
