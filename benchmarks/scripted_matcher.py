"""MR^-2 of CityPersons computed step by step as in the data set's evaluation script, to compare times with it.

For each subset, the script (cvgroup-njust/CityPersons, ``eval_script``) copies all annotations, groups them by image,
fills a matrix of overlaps of each image pair by pair with numpy scalars, and iterates over it to match. This is an
independent implementation of the same steps with the same containers, without parsing. The plain matcher of the tests
is faster: it copies nothing, uses Python floats, and computes an overlap only if it is needed.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import numpy.typing as npt

from hkd.coco.detections import DetectedBoxes
from hkd.coco.ground_truth import GroundTruth
from hkd.evaluation.protocols import Protocol, Subset

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
Records = list[dict[str, Any]]


def script_records(truth: GroundTruth, boxes: DetectedBoxes) -> tuple[Records, Records]:
    """Annotations and detections as the script holds them after parsing its files."""
    shares, heights = truth.visibilities.tolist(), truth.heights.tolist()
    ignore, visible = truth.ignore.tolist(), truth.visible_boxes_xywh.tolist()
    people = [
        {"id": g + 1, "image_id": image, "category_id": 1, "iscrowd": 0, "ignore": int(ignore[g]), "bbox": box}
        | {"vis_bbox": visible[g], "height": heights[g], "vis_ratio": shares[g]}
        for g, (image, box) in enumerate(zip(truth.image_index.tolist(), truth.boxes_xywh.tolist(), strict=True))
    ]
    rows = zip(boxes.image_index.tolist(), boxes.boxes_xywh.tolist(), boxes.scores.tolist(), strict=True)
    found = [
        {"id": d + 1, "image_id": image, "category_id": 1, "bbox": box, "height": box[3], "score": score}
        for d, (image, box, score) in enumerate(rows)
    ]
    return people, found


def scripted_log_average_miss_rate(
    people: Records, found: Records, num_images: int, protocol: Protocol, subset: Subset
) -> float | None:
    """MR^-2, a fraction, of one subset; None if it has no ground truth. The protocol must not change boxes."""
    assert protocol.height_filter_ratio is not None
    people = copy.deepcopy(people)
    heights, shares = subset.height_range, subset.visibility_range
    for person in people:
        is_out_of_height = person["height"] < heights.low or person["height"] > heights.high
        if is_out_of_height or person["vis_ratio"] < shares.low or person["vis_ratio"] > shares.high:
            person["ignore"] = 1
    low, high = heights.low / protocol.height_filter_ratio, heights.high * protocol.height_filter_ratio
    people_of, found_of = _by_image(people), _by_image(found)
    scores, is_match, is_on_ignored = [np.empty(0)], [np.empty(0, dtype=np.bool_)], [np.empty(0, dtype=np.bool_)]
    for image in range(num_images):
        own_people, own_found = people_of.get(image, []), found_of.get(image, [])
        own_people = [own_people[i] for i in np.argsort([person["ignore"] for person in own_people], kind="mergesort")]
        best_first = np.argsort([-each["score"] for each in own_found], kind="mergesort")
        own_found = [own_found[i] for i in best_first[: protocol.max_detections_per_image]]
        own_found = [each for each in own_found if low <= each["height"] < high]
        is_ignored = np.array([person["ignore"] == 1 for person in own_people], dtype=np.bool_)
        overlaps = _overlaps(_boxes(own_found), _boxes(own_people), is_ignored)
        matched, on_ignored = _matched(overlaps, is_ignored, protocol.iou_threshold)
        scores.append(np.array([each["score"] for each in own_found]))
        is_match.append(matched)
        is_on_ignored.append(on_ignored)

    num_counting = sum(person["ignore"] == 0 for person in people)
    if num_counting == 0:
        return None
    order = np.argsort(-np.concatenate(scores), kind="mergesort")
    order = order[~np.concatenate(is_on_ignored)[order]]
    return _mean_miss_rate(np.concatenate(is_match)[order], num_counting, num_images, protocol)


def _by_image(records: Records) -> dict[int, Records]:
    grouped: dict[int, Records] = {}
    for record in records:
        grouped.setdefault(record["image_id"], []).append(record)
    return grouped


def _boxes(records: Records) -> FloatArray:
    return np.array([record["bbox"] for record in records], dtype=np.float64).reshape(-1, 4)


def _overlaps(found_xywh: FloatArray, people_xywh: FloatArray, is_ignored: BoolArray) -> FloatArray:
    """(D, G) IoU, or intersection over the detection's area for ignored ground truth."""
    overlaps = np.zeros((len(found_xywh), len(people_xywh)))
    for g, person in enumerate(people_xywh):
        person_right, person_bottom = person[0] + person[2], person[1] + person[3]
        person_area = person[2] * person[3]
        for d, detection in enumerate(found_xywh):
            right, bottom = detection[0] + detection[2], detection[1] + detection[3]
            area = detection[2] * detection[3]
            width = min(right, person_right) - max(detection[0], person[0])
            height = min(bottom, person_bottom) - max(detection[1], person[1])
            if width > 0 and height > 0:
                shared = width * height
                overlaps[d, g] = shared / (area if is_ignored[g] else area + person_area - shared)
    return overlaps


def _matched(overlaps: FloatArray, is_ignored: BoolArray, iou_threshold: float) -> tuple[BoolArray, BoolArray]:
    """(D,) bool each: the detection matches ground truth that is not ignored; it matches ignored ground truth."""
    num_found, num_people = overlaps.shape
    is_used = np.zeros(num_people, dtype=np.bool_)
    is_match, is_on_ignored = np.zeros(num_found, dtype=np.bool_), np.zeros(num_found, dtype=np.bool_)
    for d in range(num_found):
        best, best_overlap = -1, iou_threshold
        for g in range(num_people):
            if is_used[g]:
                continue
            if best >= 0 and is_ignored[g]:
                break
            if overlaps[d, g] >= best_overlap:
                best, best_overlap = g, overlaps[d, g]
        if best >= 0:
            is_on_ignored[d] = is_ignored[best]
            is_match[d] = is_used[best] = not is_ignored[best]
    return is_match, is_on_ignored


def _mean_miss_rate(is_true: BoolArray, num_counting: int, num_images: int, protocol: Protocol) -> float:
    """Geometric mean of the miss rates at the FPPI points; the miss rate before the first detection is 1."""
    miss_rates = 1.0 - np.cumsum(is_true) / num_counting
    fppi = np.cumsum(~is_true) / num_images
    read_at = np.searchsorted(fppi, protocol.fppi_points, side="right") - 1
    readings = [float(miss_rates[i]) if i >= 0 else 1.0 for i in read_at]
    floored = np.maximum(readings, protocol.miss_rate_floor)
    return 0.0 if (floored == 0).any() else float(np.exp(np.log(floored).mean()))
