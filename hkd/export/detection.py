"""What surrounds the layers, as ONNX nodes of fixed shapes: normalisation, proposals, RoIAlign and suppression.

The same arithmetic as in :mod:`hkd.models.components`, for ``N`` images, ``P`` proposals and ``K`` detections an image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from hkd.config import PYRAMID_STRIDES
from hkd.export.graph import GraphBuilder, floats, integers
from hkd.models.components.anchors import pyramid_grid_sizes
from hkd.models.components.boxes import MAX_LOG_SCALE, REGION_DELTA_WEIGHTS
from hkd.models.components.proposals import MINIMUM_SIDE, NMS_ITERATIONS
from hkd.models.components.regions import CANONICAL_LEVEL, LEVEL_EPSILON, POOLED_SIZE, SAMPLES_PER_BIN
from hkd.models.detector import MINIMUM_DETECTION_SIDE, Detector

_SAMPLES = POOLED_SIZE * SAMPLES_PER_BIN
_UNUSED = -1.0
"""Score of a slot that holds no box."""


@dataclass(frozen=True)
class Slots:
    """Boxes of each image by descending score; unused slots have boxes of zeros."""

    boxes: str
    """(N, S, 4) xyxy, pixels."""
    scores: str
    """(N, S); -1 where the slot is unused."""


@dataclass(frozen=True)
class InputShape:
    """Of the graph's input."""

    batch: int
    height: int
    width: int


def add_normalised(graph: GraphBuilder, detector: Detector, images: str, shape: InputShape) -> tuple[str, str]:
    """Normalised images (N, 3, H, W), of ``images`` of 8 bits, and the limits (N, 1, 4) of boxes.

    The picture's size is where the last row and the last column end that are not black: padding is zero.
    """
    graph.scope = "input/"
    values = graph.add("Cast", images, to=1)
    brightest = graph.add("Min", graph.add("ReduceMax", values, axes=[1]), floats(1))  # (N, 1, H, W), 0 or 1
    limits, masks = [], []
    for axis, other, size in ((2, 3, shape.height), (3, 2, shape.width)):
        position = np.arange(1, size + 1).reshape((1, 1, size, 1) if axis == 2 else (1, 1, 1, size))
        used = graph.add("Mul", graph.add("ReduceMax", brightest, axes=[other]), floats(position))
        limit = graph.add("Max", graph.add("ReduceMax", used, axes=[axis]), floats(1))  # (N, 1, 1, 1)
        limits.append(limit)
        beyond = graph.add("Sub", limit, floats(position - 1))
        masks.append(graph.add("Clip", beyond, floats(0), floats(1)))
    mean, std = (buffer.double().numpy() for buffer in (detector._mean, detector._std))
    scaled = graph.add("Sub", graph.add("Mul", values, floats(1 / (255 * std))), floats(mean / std))
    normalised = graph.add("Mul", scaled, graph.add("Mul", *masks))
    height, width = limits
    corner = graph.add("Concat", width, height, width, height, axis=3)
    return normalised, graph.add("Reshape", corner, integers([shape.batch, 1, 4]))


def add_proposals(graph: GraphBuilder, detector: Detector, heads: list[str], limits: str, shape: InputShape) -> Slots:
    """The ``P`` best proposals of each image after suppression within each level.

    ``heads``: see :func:`hkd.export.layers.add_proposal_head`.
    """
    graph.scope = "proposals/"
    batch, slots = shape.batch, detector.pre_nms_proposals_per_level
    anchors_per_cell = len(detector.anchor_aspect_ratios)
    all_anchors = detector.anchors(shape.height, shape.width, torch.device("cpu")).numpy()
    logits, deltas, references = [], [], []
    start = 0
    for head, (rows, columns) in zip(heads, pyramid_grid_sizes(shape.height, shape.width), strict=True):
        count = rows * columns * anchors_per_cell
        level_logits, level_deltas = graph.add_all(
            "Split", 2, head, integers([anchors_per_cell, 4 * anchors_per_cell]), axis=3
        )
        best_logits, best = graph.add_all(
            "TopK", 2, graph.add("Reshape", level_logits, integers([batch, count])), integers([min(slots, count)])
        )
        corners = all_anchors[start : start + count]
        sizes = corners[:, 2:] - corners[:, :2]
        anchors = np.concatenate([corners[:, :2] + 0.5 * sizes, sizes], axis=1)
        logits.append(best_logits)
        references.append(graph.add("Gather", floats(anchors), best))
        deltas.append(
            _of_slots(graph, graph.add("Reshape", level_deltas, integers([batch, count, 4])), best, shape, count)
        )
        if slots > count:
            # Levels are padded to one length; -inf gives a probability of 0, and the boxes have no sides.
            logits.append(graph.add("Expand", floats([[-np.inf]]), integers([batch, slots - count])))
            for values in (references, deltas):
                values.append(graph.add("Expand", floats([[[0.0]]]), integers([batch, slots - count, 4])))
        start += count
    joined = [graph.add("Concat", *parts, axis=1) for parts in (logits, deltas, references)]
    centres, sizes_ = graph.add_all("Split", 2, joined[2], integers([2, 2]), axis=2)
    boxes = _decoded(graph, joined[1], centres, sizes_, limits)
    valid = _with_sides(graph, boxes, MINIMUM_SIDE)
    probabilities = graph.add("Sigmoid", joined[0])
    levels = len(PYRAMID_STRIDES)
    kept = _suppressed(
        graph,
        graph.add("Reshape", boxes, integers([batch, levels, slots, 4])),
        graph.add("Reshape", valid, integers([batch, levels, slots, 1])),
        slots,
        detector.proposal_nms_iou,
        rank=4,
    )
    kept = graph.add("Reshape", kept, integers([batch, levels * slots]))
    scores = graph.add("Where", _is_one(graph, kept), probabilities, floats(_UNUSED))
    return _best(graph, boxes, scores, levels * slots, detector.proposals_per_image, shape)


def add_pooled(graph: GraphBuilder, detector: Detector, levels: list[str], boxes: str, shape: InputShape) -> str:
    """RoIAlign of regions (N, P, 4) from p2..p5: (N * P, 49 * C), bin by bin.

    As :func:`hkd.models.components.regions.region_taps`: 16 rows of a table of all cells of all levels for each bin.
    """
    graph.scope = "pooling/"
    batch, count, channels = shape.batch, detector.proposals_per_image, detector.pyramid_channels
    grids = pyramid_grid_sizes(shape.height, shape.width)[: len(levels)]
    table = graph.add(
        "Concat",
        *(
            graph.add("Reshape", graph.add("Transpose", level, perm=[0, 2, 3, 1]), integers([-1, channels]))
            for level in levels
        ),
        axis=0,
    )
    level = _region_levels(graph, detector, boxes, len(levels))  # (N, P)
    scales = [2.0 ** round(math.log2(rows / shape.height)) for rows, _ in grids]
    offsets = np.cumsum([0, *(batch * rows * columns for rows, columns in grids)])[:-1]
    start_x, start_y, end_x, end_y = graph.add_all("Split", 4, boxes, integers([1, 1, 1, 1]), axis=2)
    scale = graph.add("Gather", floats(scales)[:, None], level)  # (N, P, 1)
    row_taps, row_weights = _axis_taps(graph, start_y, end_y, scale, [rows for rows, _ in grids], level)
    column_taps, column_weights = _axis_taps(graph, start_x, end_x, scale, [columns for _, columns in grids], level)
    cells = integers([rows * columns for rows, columns in grids])[:, None]
    columns_of_level = graph.add("Gather", integers([columns for _, columns in grids])[:, None], level)
    first = graph.add("Gather", integers(offsets)[:, None], level)
    if batch > 1:
        image = integers(np.arange(batch))[:, None, None]
        first = graph.add("Add", first, graph.add("Mul", graph.add("Gather", cells, level), image))
    row_starts = graph.add("Add", graph.add("Mul", row_taps, columns_of_level), first)
    taps = 2 * SAMPLES_PER_BIN
    rows_shape = integers([batch * count, POOLED_SIZE, 1, taps, 1])
    columns_shape = integers([batch * count, 1, POOLED_SIZE, 1, taps])

    def combined(operator: str, of_rows: str, of_columns: str) -> str:
        """One value for each of the 4 x 4 taps of each bin."""
        return graph.add(
            operator, graph.add("Reshape", of_rows, rows_shape), graph.add("Reshape", of_columns, columns_shape)
        )

    bins = batch * count * POOLED_SIZE**2
    index = graph.add("Reshape", combined("Add", row_starts, column_taps), integers([bins, taps**2]))
    weights = graph.add("Reshape", combined("Mul", row_weights, column_weights), integers([bins, 1, taps**2]))
    pooled = graph.add("MatMul", weights, graph.add("Gather", table, index))
    return graph.add("Reshape", pooled, integers([batch * count, POOLED_SIZE**2 * channels]))


def add_detections(
    graph: GraphBuilder,
    proposals: Slots,
    probabilities: str,
    deltas: str,
    limits: str,
    shape: InputShape,
    *,
    count: int,
    score_threshold: float,
    nms_iou: float,
    max_detections: int,
) -> tuple[str, str, str]:
    """Boxes (N, K, 4), scores (N, K) and their number (N,) of ``count`` proposals an image; zeros in unused slots."""
    graph.scope = "detections/"
    batch = shape.batch
    start, end = graph.add_all("Split", 2, proposals.boxes, integers([2, 2]), axis=2)
    sizes = graph.add("Sub", end, start)
    centres = graph.add("Add", start, graph.add("Mul", sizes, floats(0.5)))
    centre_weight, size_weight = REGION_DELTA_WEIGHTS
    weights = floats([centre_weight, centre_weight, size_weight, size_weight])
    scaled = graph.add("Div", graph.add("Reshape", deltas, integers([batch, count, 4])), weights)
    boxes = _decoded(graph, scaled, centres, sizes, limits)
    scores = graph.add("Reshape", probabilities, integers([batch, count]))
    wanted = graph.add(
        "And",
        graph.add("Greater", scores, floats(score_threshold)),
        graph.add("GreaterOrEqual", proposals.scores, floats(0)),
    )
    has_sides = graph.add("Reshape", _with_sides(graph, boxes, MINIMUM_DETECTION_SIDE), integers([batch, count]))
    wanted = graph.add("And", wanted, _is_one(graph, has_sides))
    candidates = _best(graph, boxes, graph.add("Where", wanted, scores, floats(_UNUSED)), count, count, shape)
    is_candidate = graph.add("Cast", graph.add("GreaterOrEqual", candidates.scores, floats(0)), to=1)
    kept = _suppressed(
        graph,
        candidates.boxes,
        graph.add("Reshape", is_candidate, integers([batch, count, 1])),
        count,
        nms_iou,
        rank=3,
    )
    kept = _is_one(graph, graph.add("Reshape", kept, integers([batch, count])))
    ranked = graph.add("Where", kept, candidates.scores, floats(_UNUSED))
    found = _best(graph, candidates.boxes, ranked, count, max_detections, shape)
    is_found = graph.add("GreaterOrEqual", found.scores, floats(0))
    number = graph.add("ReduceSum", graph.add("Cast", is_found, to=7), integers([1]), keepdims=0)
    return found.boxes, graph.add("Max", found.scores, floats(0)), number


def _region_levels(graph: GraphBuilder, detector: Detector, boxes: str, num_levels: int) -> str:
    """Index of the level (N, P) of each region, from 0 for p2; the formula is that of ``region_levels``."""
    start, end = graph.add_all("Split", 2, boxes, integers([2, 2]), axis=2)
    width, height = graph.add_all("Split", 2, graph.add("Sub", end, start), integers([1, 1]), axis=2)
    areas = graph.add("Mul", width, height)  # (N, P, 1)
    # A level starts where 4 + log2(side / canonical) + epsilon reaches its number.
    exponents = np.arange(3, 2 + num_levels) - CANONICAL_LEVEL - LEVEL_EPSILON
    first_areas = (detector.canonical_region_size * 2.0**exponents) ** 2
    reached = graph.add("Cast", graph.add("GreaterOrEqual", areas, floats(first_areas)), to=7)
    return graph.add("ReduceSum", reached, integers([2]), keepdims=0)


def _axis_taps(
    graph: GraphBuilder, start: str, end: str, scale: str, cells_of_levels: list[int], level: str
) -> tuple[str, str]:
    """Cells and weights (N, P, 28) along one axis, as in :func:`hkd.models.components.regions.region_taps`."""
    cells = graph.add("Gather", floats(cells_of_levels)[:, None], level)  # (N, P, 1)
    last = graph.add("Gather", floats(cells_of_levels)[:, None] - floats(1), level)
    first = graph.add("Mul", start, scale)
    length = graph.add("Max", graph.add("Sub", graph.add("Mul", end, scale), first), floats(1))
    steps = (np.arange(_SAMPLES, dtype=np.float32) + 0.5) / _SAMPLES
    points = graph.add("Add", first, graph.add("Mul", length, floats(steps)))  # (N, P, 14)
    # Boxes are clipped to the image: no point is before the first cell.
    inside = graph.add("Cast", graph.add("LessOrEqual", points, cells), to=1)
    points = graph.add("Min", points, last)
    low = graph.add("Floor", points)
    fraction = graph.add("Sub", points, low)
    high = graph.add("Min", graph.add("Add", low, floats(1)), last)
    share = graph.add("Mul", inside, floats(1 / SAMPLES_PER_BIN))
    high_weight = graph.add("Mul", fraction, share)
    low_weight = graph.add("Sub", share, high_weight)

    def interleaved(first_of_pair: str, second_of_pair: str) -> str:
        axis = integers([3])
        return graph.add(
            "Concat", graph.add("Unsqueeze", first_of_pair, axis), graph.add("Unsqueeze", second_of_pair, axis), axis=3
        )

    taps = graph.add("Cast", interleaved(low, high), to=7)
    flat = integers([0, 0, 2 * _SAMPLES])
    return graph.add("Reshape", taps, flat), graph.add("Reshape", interleaved(low_weight, high_weight), flat)


def _decoded(graph: GraphBuilder, deltas: str, centres: str, sizes: str, limits: str) -> str:
    """Boxes (N, S, 4) xyxy, clipped to ``limits`` (N, 1, 4), of deltas from references with these centres and sizes."""
    shifts, scales = graph.add_all("Split", 2, deltas, integers([2, 2]), axis=2)
    moved = graph.add("Add", graph.add("Mul", shifts, sizes), centres)
    factors = graph.add("Exp", graph.add("Min", scales, floats(MAX_LOG_SCALE)))
    half = graph.add("Mul", graph.add("Mul", factors, floats(0.5)), sizes)
    boxes = graph.add("Concat", graph.add("Sub", moved, half), graph.add("Add", moved, half), axis=2)
    return graph.add("Min", graph.add("Max", boxes, floats(0)), limits)


def _with_sides(graph: GraphBuilder, boxes: str, minimum: float) -> str:
    """1.0 where both sides of boxes (N, S, 4) have ``minimum`` pixels, else 0.0: (N, S, 1)."""
    start, end = graph.add_all("Split", 2, boxes, integers([2, 2]), axis=2)
    shorter = graph.add("ReduceMin", graph.add("Sub", end, start), axes=[2])
    return graph.add("Cast", graph.add("GreaterOrEqual", shorter, floats(minimum)), to=1)


def _suppressed(graph: GraphBuilder, boxes: str, valid: str, count: int, iou_threshold: float, *, rank: int) -> str:
    """Greedy NMS of sets of boxes (..., S, 4), by descending score: 1.0 where a box is kept, else 0.0, (..., S, 1).

    ``rank`` is the number of axes of ``boxes``.

    As :func:`hkd.models.components.proposals.non_maximum_suppression` in a traced graph.
    """
    left, top, right, bottom = graph.add_all("Split", 4, boxes, integers([1, 1, 1, 1]), axis=-1)
    areas = graph.add("Mul", graph.add("Sub", right, left), graph.add("Sub", bottom, top))
    swap = [*range(rank - 2), rank - 1, rank - 2]

    def pairs(operator: str, values: str) -> str:
        """Of each box and every other one, (..., S, S)."""
        return graph.add(operator, values, graph.add("Transpose", values, perm=swap))

    widths = graph.add("Sub", pairs("Min", right), pairs("Max", left))
    heights = graph.add("Sub", pairs("Min", bottom), pairs("Max", top))
    zero = floats(0)
    intersections = graph.add("Mul", graph.add("Max", widths, zero), graph.add("Max", heights, zero))
    unions = graph.add("Sub", pairs("Add", areas), intersections)
    iou = graph.add("Div", intersections, graph.add("Max", unions, floats(1e-9)))
    overlaps = graph.add("Cast", graph.add("Greater", iou, floats(iou_threshold)), to=1)
    suppresses = graph.add("Mul", overlaps, floats(np.tril(np.ones((count, count)), -1)))
    kept = valid
    for _ in range(NMS_ITERATIONS):
        # Valid minus the number of kept boxes that suppress a box, 0 if there is one: both are whole numbers.
        kept = graph.add("Relu", graph.add("Sub", valid, graph.add("MatMul", suppresses, kept)))
    return kept


def _best(graph: GraphBuilder, boxes: str, scores: str, count: int, wanted: int, shape: InputShape) -> Slots:
    """The ``wanted`` best of ``count`` boxes an image."""
    best_scores, best = graph.add_all("TopK", 2, scores, integers([min(wanted, count)]), axis=1)
    best_boxes = _of_slots(graph, boxes, best, shape, count)
    if wanted > count:
        best_scores, best_boxes = (
            graph.add("Concat", values, graph.add("Expand", empty, integers(size)), axis=1)
            for values, empty, size in (
                (best_scores, floats([[_UNUSED]]), [shape.batch, wanted - count]),
                (best_boxes, floats([[[0.0]]]), [shape.batch, wanted - count, 4]),
            )
        )
    used = graph.add("Unsqueeze", graph.add("GreaterOrEqual", best_scores, floats(0)), integers([2]))
    return Slots(graph.add("Where", used, best_boxes, floats(0)), best_scores)


def _of_slots(graph: GraphBuilder, values: str, index: str, shape: InputShape, count: int) -> str:
    """``values`` (N, S, 4) at ``index`` (N, T), of ``S = count``: (N, T, 4)."""
    if shape.batch > 1:
        index = graph.add("Add", index, integers(np.arange(shape.batch) * count)[:, None])
    return graph.add("Gather", graph.add("Reshape", values, integers([shape.batch * count, 4])), index)


def _is_one(graph: GraphBuilder, values: str) -> str:
    return graph.add("Greater", values, floats(0.5))
