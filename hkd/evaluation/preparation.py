"""Ground truth and detections prepared for matching by a protocol: labels, border, visibility, shapes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hkd.coco.ground_truth import GroundTruth
from hkd.evaluation.protocols import Protocol

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class PreparedTruth:
    """The M ground-truth boxes that a protocol does not drop, in the same order as before."""

    image_index: npt.NDArray[np.int64]
    """(M,) ascending."""
    boxes_xywh: FloatArray
    """(M, 4) their shape where they are ignored."""
    counted_boxes_xywh: FloatArray
    """(M, 4) their shape where they count; the same array where the protocol does not change it."""
    counting: BoolArray
    """(S, M) whether each counts in each subset; else it is ignored there."""


def prepare_ground_truth(truth: GroundTruth, protocol: Protocol) -> PreparedTruth:
    """Apply a protocol's rules for ground truth.

    In this order: classes that the protocol does not list are dropped, boxes rounded, heights and visibilities
    computed, boxes of an ignored class or not wholly inside the border ignored, and the others count by the ranges of
    each subset.
    """
    kept = ~_has_label(truth, unknown_labels(truth, protocol))
    boxes = _rounded(truth.boxes_xywh) if protocol.rounds_boxes else truth.boxes_xywh
    heights = boxes[:, 3] if protocol.rounds_boxes else truth.heights
    ignore = truth.ignore | _has_label(truth, protocol.ignored_labels) | ~_is_inside(boxes, protocol.border_xyxy)
    counting = protocol.counting(heights, _visibilities(truth, boxes, protocol), ignore)
    kept_boxes = boxes[kept]
    return PreparedTruth(
        image_index=truth.image_index[kept],
        boxes_xywh=kept_boxes,
        counted_boxes_xywh=with_aspect_ratio(kept_boxes, protocol.truth_aspect_ratio),
        counting=counting[:, kept],
    )


def with_aspect_ratio(boxes_xywh: FloatArray, aspect_ratio: float | None) -> FloatArray:
    """(N, 4) boxes with width = height * ``aspect_ratio`` about the same centre; unchanged where it is None."""
    if aspect_ratio is None:
        return boxes_xywh
    x, y, width, height = boxes_xywh.T
    # Term by term as bbApply's "resize" of Dollar's toolbox, for bit-identical reference numbers.
    growth = height * aspect_ratio - width
    return np.stack([x - growth / 2, y, width + growth, height], axis=1)


def with_scaled_heights(boxes_xywh: FloatArray, height_scale: float) -> FloatArray:
    """(N, 4) boxes with heights times ``height_scale`` about the same centre, widths unchanged."""
    x, y, width, height = boxes_xywh.T
    growth = (height_scale - 1) * height
    return np.stack([x, y - growth / 2, width, height + growth], axis=1)


def unknown_labels(truth: GroundTruth, protocol: Protocol) -> tuple[str, ...]:
    """The classes of the ground truth that a protocol neither counts nor ignores, but drops."""
    if protocol.counted_labels is None:
        return ()
    known = {*protocol.counted_labels, *protocol.ignored_labels}
    return tuple(name for name in truth.label_names if name not in known)


def preparation_notes(truth: GroundTruth, protocol: Protocol) -> tuple[str, ...]:
    """Sentences about effects of a protocol on the ground truth that a user might not expect."""
    return _dropped_note(truth, protocol) + _border_note(truth, protocol) + _visibility_note(truth, protocol)


def _dropped_note(truth: GroundTruth, protocol: Protocol) -> tuple[str, ...]:
    counts = [f"{int(_has_label(truth, (name,)).sum()):,} {name}" for name in unknown_labels(truth, protocol)]
    if not counts:
        return ()
    return (f"Neither counted nor ignored, as {protocol.name} does not list their class: {', '.join(counts)}.",)


def _border_note(truth: GroundTruth, protocol: Protocol) -> tuple[str, ...]:
    if protocol.border_xyxy is None:
        return ()
    boxes = _rounded(truth.boxes_xywh) if protocol.rounds_boxes else truth.boxes_xywh
    is_left_out = _has_label(truth, unknown_labels(truth, protocol) + protocol.ignored_labels) | truth.ignore
    num_ignored = int((~is_left_out & ~_is_inside(boxes, protocol.border_xyxy)).sum())
    note = (
        f"Ignored, as they are not wholly inside the border {protocol.border_xyxy} of {protocol.name}: {num_ignored:,} "
        f"of {int((~is_left_out).sum()):,} boxes."
    )
    if truth.largest_image_wh is not None and not _fits(protocol.border_xyxy, truth.largest_image_wh):
        width, height = truth.largest_image_wh
        note += f" It is not meant for images of {width:g} x {height:g} pixels: choose another protocol."
    elif num_ignored == 0:
        return ()
    return (note,)


def _fits(border_xyxy: tuple[float, float, float, float], image_wh: tuple[float, float]) -> bool:
    """Whether a border is inside an image and contains more than half of it."""
    left, top, right, bottom = border_xyxy
    width, height = image_wh
    return right <= width and bottom <= height and (right - left) * (bottom - top) > width * height / 2


def _visibility_note(truth: GroundTruth, protocol: Protocol) -> tuple[str, ...]:
    ranges = [subset.visibility_range for subset in protocol.subsets]
    asks_for_it = any(each.low > 0 or math.isfinite(each.high) for each in ranges)
    states_it = (truth.visibilities < 1) | (truth.visible_boxes_xywh[:, 2:] > 0).all(axis=1)
    if not asks_for_it or len(states_it) == 0 or states_it.any():
        return ()
    note = (
        f"No ground-truth box states a visible part: {protocol.name} treats all as completely visible, and its subsets "
        "by visibility do not measure occlusion."
    )
    return (note,)


def _has_label(truth: GroundTruth, labels: tuple[str, ...]) -> BoolArray:
    positions = [i for i, name in enumerate(truth.label_names) if name in labels]
    return np.isin(truth.label_index, positions)


def _rounded(boxes_xywh: FloatArray) -> FloatArray:
    # Halves go away from zero, as in Matlab; numpy's own rounding goes to even numbers.
    return np.copysign(np.floor(np.abs(boxes_xywh) + 0.5), boxes_xywh)


def _is_inside(boxes_xywh: FloatArray, border_xyxy: tuple[float, float, float, float] | None) -> BoolArray:
    if border_xyxy is None:
        return np.ones(len(boxes_xywh), dtype=np.bool_)
    left, top, right, bottom = border_xyxy
    x, y, width, height = boxes_xywh.T
    inside: BoolArray = (x >= left) & (y >= top) & (x + width <= right) & (y + height <= bottom)
    return inside


def _visibilities(truth: GroundTruth, boxes_xywh: FloatArray, protocol: Protocol) -> FloatArray:
    """(N,) visible share of each box, by the protocol's rule."""
    if protocol.unoccluded_visibility is None:
        return truth.visibilities
    visible = _rounded(truth.visible_boxes_xywh) if protocol.rounds_boxes else truth.visible_boxes_xywh
    area = boxes_xywh[:, 2] * boxes_xywh[:, 3]
    # Rounding may leave a box without an area.
    share = visible[:, 2] * visible[:, 3] / np.where(area > 0, area, 1.0)
    if protocol.visibility_of_equal_boxes is not None:
        share = np.where((visible == boxes_xywh).all(axis=1), protocol.visibility_of_equal_boxes, share)
    has_no_visible_box = np.isnan(visible[:, 0])
    is_unoccluded = ~truth.occluded | (visible == 0).all(axis=1) | has_no_visible_box
    share = np.where(is_unoccluded, protocol.unoccluded_visibility, share)
    return np.where(has_no_visible_box & (truth.visibilities < 1), truth.visibilities, share)
