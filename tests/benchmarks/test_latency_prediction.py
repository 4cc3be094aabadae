"""The error of predicted latencies, with and without ratios."""

from __future__ import annotations

import pytest

from benchmarks.latency_prediction import prediction_errors
from hkd.config import DetectorConfig
from hkd.inference.deployed.measurements import MeasuredFile, MeasuredTimes, Measurements
from tests.sweeps.trials.latency.measured import invented_ms


def test_ratios_are_compared_with_medians() -> None:
    def row(width: float, load: float) -> MeasuredFile:
        detector = DetectorConfig(width_multiplier=width)
        # Exactly a sum of terms of the shape; other load makes the median longer, and leaves the ratio.
        time, first = invented_ms(detector, 64, 96), invented_ms(DetectorConfig(width_multiplier=0.125), 64, 96)
        return MeasuredFile(
            runtime="onnxruntime",
            input_size=(64, 96),
            network=MeasuredTimes(median_ms=load * time),
            ratio=time / first,
            detector=detector,
        )

    rows = tuple(row(0.125 * (index + 1), 2.0 if index == 4 else 1.0) for index in range(7))
    other = rows[1].model_copy(update={"runtime": "openvino", "ratio": 100.0})
    by_ratio, by_median = prediction_errors(Measurements(rows=(*rows, other)))
    assert by_ratio is not None
    assert by_median is not None
    assert by_ratio.largest == pytest.approx(0.0, abs=1e-6)
    assert by_median.largest > 0.1
