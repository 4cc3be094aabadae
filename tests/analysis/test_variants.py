"""Exported files as variants of their trials."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from analysis import pareto, plots
from analysis.records.study_records import StudyRecords
from analysis.report.markdown import render_markdown
from analysis.report.page.study import render_html
from analysis.results import StudyResults, compute_results
from analysis.variants import VariantsError, read_devices, with_measured_latencies
from hkd.config import DetectorConfig
from tests.analysis.studies import TEACHER, record, records

STUDY = records([record("small", 0.40, 1e6, 1e9), record("large", 0.30, 2e6, 4e9)], TEACHER, study="demo")


def row(trial: str, precision: str, time: float, study: str | None = "demo", **changes: Any) -> dict[str, Any]:
    return {
        "file": f"exported/{trial}-{precision}.onnx",
        "runtime": "onnxruntime",
        "precision": precision,
        "input_size": [64, 96],
        "num_bytes": 2_500_000,
        "network": {"median_ms": time},
        "detector": DetectorConfig().model_dump(mode="json"),
        "study": None if study is None else {"study": study, "trial": trial},
        **changes,
    }


def write(path: Path, *rows: dict[str, Any], num_threads: int = 1) -> Path:
    path.write_text(json.dumps({"processor": "a <phone>", "num_threads": num_threads, "rows": rows}))
    return path


def report_of(study: StudyRecords, *files: Path) -> tuple[StudyRecords, StudyResults]:
    devices = read_devices(files, [study.study])
    timed = with_measured_latencies(study, devices)
    return timed, compute_results(timed, devices=devices)


def measured(tmp_path: Path) -> Path:
    return write(
        tmp_path / "device.json",
        row("large", "fp32", 20.0, ratio=1.0),
        # The ratio to the first row counts: 10 ms.
        row("small", "fp32", 70.0, ratio=0.5),
        row("large", "int8", 8.0, ratio=0.4, metrics={"int8_mr2_reasonable": 0.31, "mr2_reasonable": 0.30}),
        row("small", "int8", 9.0, ratio=0.45, metrics={"int8_mr2_reasonable": 0.45}),
        row("teacher", "fp32", 90.0, study=None),
    )


def test_variants_have_their_own_miss_rate_and_front(tmp_path: Path) -> None:
    timed, results = report_of(STUDY, measured(tmp_path))
    # large in INT8 is better than both files of small, in miss rate (31 % against 40 and 45 %) and in latency.
    assert [(v.trial_id, v.precision, v.latency_ms, v.miss_rate, v.is_on_front) for v in results.variants] == [
        ("large", "int8", 8.0, 0.31, True),
        ("small", "int8", 9.0, 0.45, False),
        ("small", "fp32", 10.0, 0.40, False),
        ("large", "fp32", 20.0, 0.30, True),
    ]
    assert any("1 rows" in note for note in timed.notes)


def test_miss_rate_on_other_images_is_left_out(tmp_path: Path) -> None:
    def metrics(fp32: float) -> dict[str, float]:
        return {"int8_mr2_reasonable": 0.35, "fp32_mr2_reasonable": fp32}

    file = write(
        tmp_path / "device.json",
        # The study has 30.0 %: a bf16 evaluation may differ by less than a point, other images by more.
        row("large", "int8", 8.0, metrics=metrics(0.306)),
        row("large", "int8", 9.0, metrics=metrics(0.33), file="elsewhere.onnx"),
    )
    timed, results = report_of(STUDY, file)
    assert [each.miss_rate for each in results.variants] == [0.35, None]
    (note,) = (note for note in timed.notes if "elsewhere.onnx" in note)
    assert "33.0 %" in note
    assert "30.0 %" in note
    assert not any("large-int8" in note for note in timed.notes)


def test_file_without_a_miss_rate_is_on_no_front(tmp_path: Path) -> None:
    file = write(tmp_path / "device.json", row("large", "fp32", 20.0), row("large", "int8", 8.0))
    _, results = report_of(STUDY, file)
    found = [(each.precision, each.miss_rate, each.is_on_front) for each in results.variants]
    assert found == [("int8", None, False), ("fp32", 0.30, True)]


def test_study_without_latencies_has_those_of_its_files(tmp_path: Path) -> None:
    _, results = report_of(STUDY, measured(tmp_path))
    values = {student.trial_id: student.values["latency_ms"] for student in results.front.students}
    assert values == {"small": 10.0, "large": 20.0}
    (pair,) = (pair for pair in results.front.pairs if pair.key == "latency")
    assert plots.draw_front(results, pair).png
    assert plots._int8_points(results, pair) == [(8.0, 31.0), (9.0, 45.0)]


def test_latencies_of_the_study_itself_are_kept(tmp_path: Path) -> None:
    predicted = [record("small", 0.40, 1e6, 1e9, metrics={"latency_ms": 3.0}), record("large", 0.30, 2e6, 4e9)]
    timed, results = report_of(records(predicted, TEACHER, study="demo"), measured(tmp_path))
    assert [trial.metrics.get("latency_ms") for trial in timed.trials] == [3.0, None]
    assert len(results.variants) == 4
    assert plots._int8_points(results, results.front.pairs[-1]) == []


def test_page_terminal_and_markdown_list_exported_files(tmp_path: Path) -> None:
    timed, results = report_of(STUDY, measured(tmp_path))
    page = render_html(timed, results)
    for text in ("Exported files", "large-int8.onnx", "31.0", "2.50", "a &lt;phone&gt;, 1 thread"):
        assert text in page
    assert "| large | int8 | onnxruntime | 31.0 | 8.00 | 2.50 | yes |" in render_markdown(results)
    assert "small-int8.onnx" in pareto._lines(timed, results, markdown=False)
    without = compute_results(STUDY)
    assert "Exported files" not in render_html(STUDY, without)
    assert "Exported files" not in render_markdown(without)


def test_time_of_one_of_several_images_is_no_latency(tmp_path: Path) -> None:
    file = write(tmp_path / "device.json", row("small", "fp32", 10.0), row("small", "fp32", 4.0, batch=8))
    timed, results = report_of(STUDY, file)
    assert [each.latency_ms for each in results.variants] == [10.0]
    assert results.front.student("small").values["latency_ms"] == 10.0
    assert any("1 rows" in note and "several images" in note for note in timed.notes)


def test_int8_files_of_the_search_are_not_drawn_beside_means_over_seeds(tmp_path: Path) -> None:
    again = {"confirmed_seeds": 2.0, "confirmed_mr2_reasonable": 0.5}
    trials = [record("small", 0.40, 1e6, 1e9, metrics=again), record("large", 0.30, 2e6, 4e9, metrics=again)]
    _, results = report_of(records(trials, TEACHER, study="demo"), measured(tmp_path))
    assert results.front.basis == "means"
    (pair,) = (pair for pair in results.front.pairs if pair.key == "latency")
    assert len(results.variants) == 4
    assert plots._int8_points(results, pair) == []


def test_devices_of_the_same_processor_are_distinguished(tmp_path: Path) -> None:
    one = write(tmp_path / "one.json", row("small", "fp32", 10.0))
    other = write(tmp_path / "other.json", row("small", "int8", 7.0, metrics={"int8_mr2_reasonable": 0.41}))
    four = write(tmp_path / "four.json", row("small", "fp32", 4.0), num_threads=4)
    _, results = report_of(STUDY, one, other, four)
    devices = [each.device for each in results.variants]
    assert devices == ["a <phone>, 1 thread (one.json)", "a <phone>, 1 thread (other.json)", "a <phone>, 4 threads"]
    # The plot's latencies are those of the first device, which has no INT8 file.
    assert plots._int8_points(results, results.front.pairs[-1]) == []


def test_file_of_another_study_is_refused(tmp_path: Path) -> None:
    other = write(tmp_path / "other.json", row("small", "fp32", 1.0, study="else"))
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(VariantsError) as caught:
        read_devices([other, tmp_path / "broken.json"], ["demo"])
    for fact in (f"{other}: has no file of demo", "--study NAME --trial ID", "broken.json", "not JSON"):
        assert fact in str(caught.value)


def test_unknown_trials_are_noted(tmp_path: Path) -> None:
    file = write(tmp_path / "device.json", row("small", "fp32", 1.0), row("trial-099", "int8", 1.0))
    timed, results = report_of(STUDY, file)
    assert any("trial-099" in note for note in timed.notes)
    assert [each.trial_id for each in results.variants] == ["small"]
