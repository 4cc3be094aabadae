from __future__ import annotations

import importlib.metadata
import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from hkd.cli import main
from hkd.export.latency import BenchmarkError, format_latency, measure_latency
from hkd.files import write_json
from hkd.inference.deployed.measurements import read_measurements
from tests.export.exported import crowded_detector, export
from tests.training.tiny import HEIGHT, STUDENT, WIDTH


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
        assert row.pipeline is not None
        assert 0 < row.network.median_ms <= row.network.p90_ms
        assert 0 < row.pipeline.median_ms <= row.pipeline.p90_ms
    # Python with NumPy alone takes tens of megabytes; the process of the exported file does not import torch.
    assert first.peak_memory_bytes is not None
    assert torch_row.peak_memory_bytes is not None
    assert 20 * 2**20 < first.peak_memory_bytes < torch_row.peak_memory_bytes
    assert set(report.versions) == {"onnxruntime", "openvino", "torch"}
    assert report.processor
    assert format_latency(report).count("\n| student") == 3


def test_ratio_is_the_median_of_the_rounds_ratios(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def timed(contenders: object, picture: object, rounds: object, **_: object) -> tuple[np.ndarray, np.ndarray]:
        # In rounds 2 and 3 the machine is busy: the ratio of medians would be 30 / 10.
        network = np.array([[1.0, 10.0, 40.0], [2.0, 30.0, 80.0]])
        return network, network + 5

    monkeypatch.setattr("hkd.export.latency._timed", timed)
    exported = folder / "student.onnx"
    report = measure_latency([exported, exported], rounds=3)
    assert report.rows[1].ratio == pytest.approx(2.0)  # of 2, 3 and 2
    assert report.rows[1].ratio_quartiles == pytest.approx((2.0, 2.5))


def test_written_file_of_the_network_alone_is_read_by_studies_and_reports(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hkd.export.latency._detect_file", lambda *_: pytest.fail("the pipeline was timed"))
    monkeypatch.setattr("hkd.export.latency._peak_memory", lambda *_: pytest.fail("memory was measured"))
    files = [folder / "student.onnx", folder / "student.safetensors"]
    report = measure_latency(files, runtimes=["onnxruntime", "torch"], rounds=2, network_only=True)
    assert "| - |" in format_latency(report)
    write_json(tmp_path / "latency.json", report)
    read = read_measurements(tmp_path / "latency.json")
    assert [(row.runtime, row.precision, row.input_size, row.detector) for row in read.rows] == [
        ("onnxruntime", "fp32", (HEIGHT, WIDTH), STUDENT),
        ("torch", "fp32", (HEIGHT, WIDTH), STUDENT),
    ]
    assert [row.metrics["mr2_reasonable"] for row in read.rows] == [0.25, 0.25]
    assert read.milliseconds(read.rows[1]) == report.rows[0].network.median_ms * report.rows[1].ratio


def test_suffix_may_have_capitals(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hkd.export.latency.WARM_UP_ROUNDS", 1)
    copy = tmp_path / "student.ONNX"
    copy.write_bytes((folder / "student.onnx").read_bytes())
    (row,) = measure_latency([copy], rounds=1, network_only=True).rows
    assert row.runtime == "onnxruntime"


def test_runtime_that_cannot_run_a_file_is_refused(folder: Path) -> None:
    with pytest.raises(BenchmarkError, match=r"student\.onnx.*onnxruntime or openvino"):
        measure_latency([folder / "student.onnx"], runtimes=["torch"])
    with pytest.raises(BenchmarkError, match=r"student\.safetensors.*torch"):
        measure_latency([folder / "student.safetensors"], runtimes=["openvino"])


def test_all_problems_are_listed(folder: Path, tmp_path: Path) -> None:
    state_dict = tmp_path / "student.pth"
    state_dict.write_bytes(b"")
    picture = tmp_path / "text.jpg"
    picture.write_text("no picture")
    files = [tmp_path / "absent.onnx", folder / "student.onnx", state_dict]
    with pytest.raises(BenchmarkError) as caught:
        measure_latency(files, picture=picture)
    assert [line.partition(": ")[0] for line in str(caught.value).splitlines()] == [
        str(path) for path in (tmp_path / "absent.onnx", state_dict, picture)
    ]


def test_files_of_one_name_are_shown_with_their_folders(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hkd.export.latency.WARM_UP_ROUNDS", 1)
    copy = tmp_path / "student.onnx"
    copy.write_bytes((folder / "student.onnx").read_bytes())
    table = format_latency(measure_latency([folder / "student.onnx", copy], rounds=1))
    assert f"| {folder / 'student.onnx'} |" in table
    assert f"| {copy} |" in table


def test_modules_of_the_working_folder_are_not_imported(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hkd.export.latency.WARM_UP_ROUNDS", 1)
    for name in ("json", "numpy", "onnxruntime"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('code of a stranger')")
    monkeypatch.chdir(tmp_path)
    report = measure_latency([folder / "student.onnx"], rounds=1)
    assert report.rows[0].peak_memory_bytes


def test_memory_that_takes_too_long_to_measure_is_one_message(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hkd.export.latency.WARM_UP_ROUNDS", 1)
    monkeypatch.setattr("hkd.export.latency._MEMORY_TIMEOUT_SECONDS", 0.01)
    with pytest.raises(BenchmarkError, match=r"student\.onnx.*0\.01 seconds"):
        measure_latency([folder / "student.onnx"], rounds=1)


def test_version_is_that_of_the_module(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As with onnxruntime-gpu, whose module has the name of another distribution.
    def absent(name: str) -> importlib.metadata.Distribution:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr("hkd.export.latency.WARM_UP_ROUNDS", 1)
    monkeypatch.setattr(importlib.metadata, "distribution", absent)
    report = measure_latency([folder / "student.onnx"], rounds=1)
    assert report.versions == {"onnxruntime": onnxruntime.__version__}


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
