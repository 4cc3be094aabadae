"""From a trial of a study to its exported files, measured, on the report's page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from analysis import pareto
from hkd.cli import main
from tests.analysis.studies import Written, make_empty_database, write_study
from tests.export.finished_trial import INT8_WITHOUT_LIMIT, write_finished_trial


def test_files_of_a_trial_are_variants_on_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    make_empty_database(tmp_path / "mlflow.db")
    write_finished_trial(tmp_path, "demo", "t1")
    trial = ["--study", "demo", "--trial", "t1"]
    assert main(["export", *trial, "--out", "student.onnx"]) == 0
    assert main(["export", *trial, "--out", "student-int8.onnx", *INT8_WITHOUT_LIMIT]) == 0
    assert main(["benchmark", "student.onnx", "student-int8.onnx", "--runs", "100", "--network-only",
                 "--json", "device.json"]) == 0  # fmt: skip
    rows = json.loads((tmp_path / "device.json").read_text())["rows"]
    fp32, int8 = (rows[1]["metrics"][name] for name in ("fp32_mr2_reasonable", "int8_mr2_reasonable"))
    # As the study would have it: the miss rate of the same network on the same images.
    runs = [Written("teacher", mr2=(0.2,), num_params=6e6, role="teacher"), Written("t1", mr2=(0.9, 0.9, 0.9, fp32))]
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    write_study(MlflowClient(uri), "demo", runs)

    assert pareto.main(["--study", "demo", "--tracking-uri", uri, "--variants", "device.json", "--out", "report"]) == 0

    variants = json.loads((tmp_path / "report" / "summary.json").read_text())["variants"]
    found = {each["file"]: each for each in variants}
    times = {"student.onnx": rows[0]["network"]["median_ms"]}
    times["student-int8.onnx"] = times["student.onnx"] * rows[1]["ratio"]
    page = (tmp_path / "report" / "report.html").read_text()
    for name, precision, miss_rate in (("student.onnx", "fp32", fp32), ("student-int8.onnx", "int8", int8)):
        each = found[name]
        assert (each["trial_id"], each["precision"], each["runtime"]) == ("t1", precision, "onnxruntime")
        assert each["miss_rate"] == pytest.approx(miss_rate)
        assert each["latency_ms"] == pytest.approx(times[name])
        assert each["num_bytes"] == (tmp_path / name).stat().st_size
        for shown in (name, f"{times[name]:.2f}", f"{each['num_bytes'] / 1e6:.2f}"):
            assert f">{shown}<" in page
    assert (tmp_path / "report" / "front_latency.png").is_file()
    assert "student-int8.onnx" in capsys.readouterr().out
