"""The error of latencies that a study predicts, from ratios to the first detector and from plain medians.

Each detector in a file of ``hkd benchmark --json`` is predicted from the others, as a study predicts its students
(docs/latency.md).

    python benchmarks/latency_prediction.py device.json
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

if not __package__:
    # Run as a file of a checkout that is not installed: the packages are one folder up.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hkd.inference.deployed.measurements import MeasuredFile, Measurements, read_measurements
from sweeps.trials.latency.model import LEAST_MEASURED, LatencyModel, PredictionError


def prediction_errors(measurements: Measurements) -> tuple[PredictionError | None, PredictionError | None]:
    """With ratios, and with plain medians, of the detectors with the first one's runtime, precision and input."""
    first = measurements.rows[0]
    rows = [row for row in measurements.rows if _kind(row) == _kind(first)]

    def error(times: list[float]) -> PredictionError | None:
        measured = [(row.detector, time) for row, time in zip(rows, times, strict=True)]
        return LatencyModel(measured, *first.input_size).error()

    return error([measurements.milliseconds(row) for row in rows]), error([row.network.median_ms for row in rows])


def _kind(row: MeasuredFile) -> tuple[object, ...]:
    return row.runtime, row.precision, row.input_size, row.batch


def main() -> None:
    """Print one line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="written by hkd benchmark --json")
    errors = prediction_errors(read_measurements(parser.parse_args().file))
    for name, error in zip(("ratios", "medians"), errors, strict=True):
        if error is None:
            print(f"{name}: fewer than {LEAST_MEASURED} shapes")
        else:
            print(f"{name}: {100 * error.median:.1f} % in the median, {100 * error.largest:.1f} % at most")


if __name__ == "__main__":
    main()
