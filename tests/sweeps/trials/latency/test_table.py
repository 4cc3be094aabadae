"""Tables of measured latencies."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hkd.config import DetectorConfig, LatencyConfig
from hkd.config_files.problems import ConfigError
from hkd.inference.deployed.measurements import MeasurementsError
from sweeps.trials.latency.table import latency_model
from tests.sweeps.trials.latency.measured import write_table

SMALL, LARGE = DetectorConfig(width_multiplier=0.125), DetectorConfig(width_multiplier=1.0)


def test_other_load_enters_times_by_the_first_row_alone(tmp_path: Path) -> None:
    table = write_table(tmp_path / "latency.json", [SMALL, LARGE], 64, 96)
    content = json.loads(table.read_text())
    # The machine was busy in most rounds of the second one; in rounds of both, it takes three times as long.
    for row, time, ratio in zip(content["rows"], (4.0, 50.0), (1.0, 3.0), strict=True):
        row["network"]["median_ms"], row["ratio"] = time, ratio
    table.write_text(json.dumps(content))
    model = latency_model(LatencyConfig(table=table), 64, 96)
    assert [model.milliseconds(each) for each in (SMALL, LARGE)] == [4.0, 12.0]


def test_table_of_another_runtime_or_size_is_refused(tmp_path: Path) -> None:
    table = write_table(tmp_path / "latency.json", [SMALL, LARGE], 64, 96, runtime="tensorrt\x1b")
    with pytest.raises(MeasurementsError) as caught:
        latency_model(LatencyConfig(table=table), 64, 96)
    for fact in (str(table), "onnxruntime", "2 rows by tensorrt\\x1b", "64 x 96", "--export-students"):
        assert fact in str(caught.value)
    other = write_table(tmp_path / "other.json", [SMALL], 128, 96)
    with pytest.raises(MeasurementsError, match="128 x 96"):
        latency_model(LatencyConfig(table=other), 64, 96)


@pytest.mark.parametrize(
    ("content", "fact"),
    [
        ("{", "not JSON"),
        ("[]", "top level"),
        ('{"rows": []}', "rows"),
        ('{"rows": [{"runtime": "onnxruntime", "input_size": [64, 96]}]}', "rows[0].detector"),
        ('{"rows": [{"network": {"median_ms": -1}}]}', "rows[0].network.median_ms"),
    ],
)
def test_damaged_table_is_refused_with_what_is_wrong(tmp_path: Path, content: str, fact: str) -> None:
    table = tmp_path / "latency.json"
    table.write_text(content)
    with pytest.raises((MeasurementsError, ConfigError)) as caught:
        latency_model(LatencyConfig(table=table), 64, 96)
    assert str(table) in str(caught.value)
    assert fact in str(caught.value)


def test_missing_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MeasurementsError, match="No such file"):
        latency_model(LatencyConfig(table=tmp_path / "latency.json"), 64, 96)
