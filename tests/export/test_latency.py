from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from hkd.cli import main
from hkd.export.latency import BenchmarkError, format_latency, measure_latency
from tests.export.exported import crowded_detector, export


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With student.safetensors and student.onnx."""
    path = tmp_path_factory.mktemp("exported")
    export(crowded_detector(), path)
    return path


def test_every_file_is_timed_by_its_runtimes_in_turn(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hkd.export.latency.WARM_UP_ROUNDS", 1)
    exported, weights = folder / "student.onnx", folder / "student.safetensors"
    report = measure_latency([exported, weights], runtimes=["onnxruntime", "openvino", "torch"], rounds=3)
    assert [(Path(row.file).name, row.runtime) for row in report.rows] == [
        ("student.onnx", "onnxruntime"),
        ("student.onnx", "openvino"),
        ("student.safetensors", "torch"),
    ]
    first, _, torch_row = report.rows
    assert first.ratio == 1.0
    assert first.num_bytes == exported.stat().st_size
    for row in report.rows:
        assert 0 < row.network.median_ms <= row.network.p90_ms
        assert 0 < row.pipeline.median_ms <= row.pipeline.p90_ms
    # Python with NumPy alone takes tens of megabytes; the process of the exported file does not import torch.
    assert 20 * 2**20 < first.peak_memory_bytes < torch_row.peak_memory_bytes
    assert set(report.versions) == {"onnxruntime", "openvino", "torch"}
    assert report.processor
    assert format_latency(report).count("\n| student") == 3


def test_ratio_is_the_median_of_the_rounds_ratios(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def timed(contenders: object, picture: object, rounds: object) -> tuple[np.ndarray, np.ndarray]:
        # In rounds 2 and 3 the machine is busy: the ratio of medians would be 30 / 10.
        network = np.array([[1.0, 10.0, 40.0], [2.0, 30.0, 80.0]])
        return network, network + 5

    monkeypatch.setattr("hkd.export.latency._timed", timed)
    exported = folder / "student.onnx"
    report = measure_latency([exported, exported], rounds=3)
    assert report.rows[1].ratio == pytest.approx(2.0)  # of 2, 3 and 2
    assert report.rows[1].ratio_quartiles == pytest.approx((2.0, 2.5))


def test_runtime_that_cannot_run_a_file_is_refused(folder: Path) -> None:
    with pytest.raises(BenchmarkError, match=r"student\.onnx.*onnxruntime or openvino"):
        measure_latency([folder / "student.onnx"], runtimes=["torch"])
    with pytest.raises(BenchmarkError, match=r"student\.safetensors.*torch"):
        measure_latency([folder / "student.safetensors"], runtimes=["openvino"])


def test_command_prints_the_table_and_writes_json(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "latency.json"
    assert main(["benchmark", str(folder / "student.onnx"), "--runs", "100", "--json", str(out)]) == 0
    assert "| student.onnx | onnxruntime | fp32 |" in capsys.readouterr().out
    written = json.loads(out.read_text())
    assert written["rounds"] == 100
    assert written["rows"][0]["runtime"] == "onnxruntime"


def test_command_names_the_extra_of_a_missing_runtime(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert main(["benchmark", str(folder / "student.onnx"), "--runtime", "openvino"]) == 2
    assert "hkd[openvino]" in capsys.readouterr().err
