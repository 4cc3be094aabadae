"""Measured latencies of a study's detectors, from a file of ``hkd benchmark --json``."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from pathlib import Path

from hkd.config import LatencyConfig
from hkd.inference.deployed.measurements import MeasurementsError, read_measurements
from sweeps.trials.latency.model import LatencyModel

PRECISION = "fp32"
_MOST_KINDS = 5


def latency_model(latency: LatencyConfig, image_height: int, image_width: int) -> LatencyModel:
    """The latency of detectors by ``latency.table``, which is read once.

    Raises:
        ConfigError: the file has other content.
        MeasurementsError: it cannot be read, or has no detector for this runtime and size of images.
    """
    assert latency.table is not None
    return _read(latency.table, latency.runtime, image_height, image_width)


@lru_cache(maxsize=16)
def _read(table: Path, runtime: str, image_height: int, image_width: int) -> LatencyModel:
    measurements = read_measurements(table)
    kind = _kind(runtime, PRECISION, (image_height, image_width), 1)
    usable = [row for row in measurements.rows if _kind(row.runtime, row.precision, row.input_size, row.batch) == kind]
    if not usable:
        rows = [_kind(row.runtime, row.precision, row.input_size, row.batch) for row in measurements.rows]
        kinds = [f"{count} rows {each}" for each, count in Counter(rows).most_common(_MOST_KINDS)]
        raise MeasurementsError(
            f"{table}: has no row {kind}, only {', '.join(kinds)}. Measure the files that python sweeps/run.py "
            "--export-students writes, or set base.evaluation.latency.runtime to the one measured"
        )
    measured = [(row.detector, measurements.milliseconds(row)) for row in usable]
    return LatencyModel(measured, image_height, image_width)


def _kind(runtime: str, precision: str, size: tuple[int, int], batch: int) -> str:
    images = "image" if batch == 1 else "images"
    return f"by {runtime} in {precision} at {size[0]} x {size[1]} pixels, {batch} {images} a call"
