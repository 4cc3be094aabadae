"""Latency from measured shapes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hkd.config import DetectorConfig
from hkd.models.cost import part_costs
from sweeps.trials.latency.model import LatencyModel, shape_key

SIZE = (64, 96)
SHAPES = [
    DetectorConfig(width_multiplier=width, pyramid_channels=pyramid, head_channels=head)
    for width, pyramid, head in [
        (0.125, 16, 32), (0.25, 32, 16), (0.5, 16, 64), (0.25, 64, 128), (0.75, 48, 32), (0.5, 64, 16), (1.0, 32, 128),
    ]
]  # fmt: skip


def invented_ms(detector: DetectorConfig) -> float:
    """0.5 ms, and 10, 20 and 5 ms for each GFLOP of backbone, RPN and box head."""
    backbone, proposals, regions = (part.flops / 1e9 for part in part_costs(detector, *SIZE))
    return 0.5 + 10 * backbone + 20 * proposals + 5 * regions


def model_of(*shapes: DetectorConfig) -> LatencyModel:
    return LatencyModel([(shape, invented_ms(shape)) for shape in shapes], *SIZE)


def test_sum_of_terms_is_predicted_exactly() -> None:
    model, other = model_of(*SHAPES), DetectorConfig(width_multiplier=0.375, pyramid_channels=40, head_channels=96)
    assert not model.is_measured(other)
    assert model.milliseconds(other) == pytest.approx(invented_ms(other), rel=1e-6)
    error = model.error()
    assert error is not None
    assert error.largest < 1e-6


def test_measured_shape_has_its_measured_time() -> None:
    times = [(shape, invented_ms(shape)) for shape in SHAPES]
    times[3] = (SHAPES[3], 2 * times[3][1])
    model = LatencyModel(times, *SIZE)
    assert model.milliseconds(SHAPES[3]) == times[3][1]
    # 0.1249 of 64 channels rounds to 8, as 0.125 does: the same network.
    assert model.milliseconds(SHAPES[0].model_copy(update={"width_multiplier": 0.1301})) == times[0][1]
    error = model.error()
    assert error is not None
    # Of the doubled time, the prediction from the others is half.
    assert error.largest == pytest.approx(0.5, rel=1e-3)


def test_shape_that_was_measured_twice_is_not_predicted_from_itself() -> None:
    times = [(shape, invented_ms(shape)) for shape in SHAPES]
    slow = (SHAPES[3], 2 * times[3][1])
    model = LatencyModel([*times, slow, slow], *SIZE)
    assert model.num_shapes == len(SHAPES)
    assert model.milliseconds(SHAPES[3]) == slow[1]
    error = model.error()
    assert error is not None
    # As if it were measured once: of the doubled time, the prediction from the others is half.
    assert error.largest == pytest.approx(0.5, rel=1e-3)


def test_predictions_never_fall_as_channels_grow() -> None:
    # By chance, the wider the faster.
    times = 10.0 - np.arange(len(SHAPES))
    model = LatencyModel(list(zip(SHAPES, times.tolist(), strict=True)), *SIZE)
    widths = [DetectorConfig(width_multiplier=width, pyramid_channels=24) for width in (0.125, 0.5, 1.0, 2.0)]
    predicted = [model.milliseconds(shape) for shape in widths]
    assert predicted == sorted(predicted)
    assert predicted[0] > 0


def test_error_needs_several_shapes() -> None:
    model = model_of(SHAPES[0])
    assert model.error() is None
    assert model.milliseconds(SHAPES[0]) == invented_ms(SHAPES[0])


def test_shapes_differ_by_whatever_changes_the_network() -> None:
    changes: list[dict[str, Any]] = [
        {},
        {"backbone": "resnet34"},
        {"width_multiplier": 0.25},
        {"pyramid_channels": 72},
        {"head_channels": 64},
    ]
    changes += [{"anchor_aspect_ratios": (1.0, 2.0)}, {"pre_nms_proposals_per_level": 64}, {"proposals_per_image": 32}]
    assert len({shape_key(DetectorConfig(**each), *SIZE) for each in changes}) == len(changes)
    # Norms are folded into convolutions.
    assert shape_key(DetectorConfig(norm="frozen_batch"), *SIZE) == shape_key(DetectorConfig(), *SIZE)
