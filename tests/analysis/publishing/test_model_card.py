"""The model card: what it states of a student, and that names in it are text."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest

from analysis.publishing import models
from analysis.publishing.model_card import model_card
from analysis.results import compute_results
from analysis.variants import read_devices, with_measured_latencies
from hkd.inference.deployed.metadata import ImageSet, Int8Images
from hkd.metric_names import CONFIRMED_SEEDS
from tests.analysis.publishing.files import PARAMS, STUDY, TRIAL, exported
from tests.analysis.studies import TEACHER, found_in, record, records


def test_card_states_purpose_data_numbers_training_and_limits() -> None:
    card = model_card(exported(), STUDY, compute_results(STUDY))
    assert [line for line in card.splitlines() if line.startswith("#")] == [
        "# t1 of the study demo, fp32",
        "## Purpose",
        "## Data",
        "## Accuracy",
        "## Cost",
        "## Latency",
        "## Training",
        "## Limits",
    ]
    for fact in (
        "96 x 64 pixels",
        "training: data/mine/train.json",
        "| validation, reasonable | 25.0 | - |",
        "| params M | 1.00 |",
        "| file MB | 4.47 |",
        "total_epochs 4",
        "Not tested",
        "one seed",
        "hkd benchmark",
    ):
        assert fact in card


def test_card_of_a_confirmed_student_has_test_results_and_latency() -> None:
    more = {CONFIRMED_SEEDS: 2.0, "confirmed_mr2_reasonable": 0.27, "confirmed_mr2_reasonable_std": 0.01}
    more |= {"confirmed_test_mr2_reasonable": 0.31, "confirmed_test_mr2_reasonable_std": 0.02, "latency_ms": 12.5}
    params = {**PARAMS, "evaluation.latency.runtime": "openvino", "evaluation.latency.num_threads": 2}
    trial = dataclasses.replace(TRIAL, params=params, metrics={**TRIAL.metrics, **more})
    teacher = dataclasses.replace(TEACHER, metrics={**TEACHER.metrics, "test_mr2_reasonable": 0.26})
    study = records([trial, record("t2", 0.3, 5e5, 1e9)], teacher)
    card = model_card(exported(study=study), study, compute_results(study))
    for fact in (
        "| validation, reasonable, mean of 2 other seeds | 27.0 ± 1.0 |",
        "| test, reasonable, mean of 2 other seeds | 31.0 ± 2.0 | - | 26.0 |",
        "Test images decided nothing",
        "12.5 ms, predicted by the study (runtime openvino, threads 2)",
    ):
        assert fact in card
    assert "Not tested" not in card
    assert "one seed" not in card
    # Of another student than the report's choice, somebody may have read the test result first.
    better = dataclasses.replace(record("t3", 0.22, 5e5, 1e9), run_id="run-of-t3")
    study = records([trial, better], teacher)
    card = model_card(exported(study=study), study, compute_results(study))
    assert "Test images decided nothing" not in card
    assert "Not the choice of the report, which is t3" in card


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_card_has_a_latency_table_of_the_measured_files(precision: Literal["fp32", "int8"], tmp_path: Path) -> None:
    path = tmp_path / "device.json"
    times = (("fp32", "onnxruntime", 10.5, 4_470_000), ("int8", "openvino", 7.25, 2_120_000))
    rows: list[dict[str, Any]] = [
        {
            "file": f"{trial}-{each}.onnx",
            "runtime": runtime,
            "precision": each,
            "input_size": [64, 96],
            "network": {"median_ms": time},
            "num_bytes": num_bytes,
            "detector": {},
            "metrics": {"int8_mr2_reasonable": 0.257, "fp32_mr2_reasonable": 0.25} if each == "int8" else {},
            "study": {"study": "demo", "trial": trial},
        }
        for trial in ("t1", "t2")
        for each, runtime, time, num_bytes in times
    ]
    path.write_text(json.dumps({"processor": "Tiny | CPU", "num_threads": 1, "rows": rows}))
    devices = read_devices([path], ["demo"])
    study = with_measured_latencies(STUDY, devices)
    card = model_card(exported(study=study, precision=precision), study, compute_results(study, devices=devices))
    table = card.partition("## Latency")[2].partition("## ")[0]
    # Of this trial only, the fastest first.
    assert [line for line in table.splitlines() if line.startswith(("| fp32", "| int8"))] == [
        "| int8 | openvino | Tiny \\| CPU, 1 thread | 7.25 | 2.12 | 25.7 |",
        "| fp32 | onnxruntime | Tiny \\| CPU, 1 thread | 10.50 | 4.47 | 25.0 |",
    ]
    assert "not measured" not in card
    assert "predicted" not in card


def test_card_states_the_images_of_int8() -> None:
    sets = [
        ImageSet(annotations=name, num_images=count, content_hash="0" * 32) for name, count in (("a", 400), ("b", 50))
    ]
    for compared, fact in ((True, "; compared with"), (False, "; not compared with")):
        images = Int8Images(
            calibration=sets[0], num_calibrated=128, validation=sets[1], compared_with_training=compared
        )
        file = exported(precision="int8")
        described = file.file.metadata.model_copy(update={"int8_images": images})
        file = dataclasses.replace(file, file=dataclasses.replace(file.file, metadata=described))
        card = model_card(file, STUDY, compute_results(STUDY))
        assert "128 of 400 images of a for calibration, 50 of b" in card
        assert fact in card


def test_card_has_the_interval_of_the_miss_rate() -> None:
    trial = record("t1", 0.5, 1e6, 2e9)
    other = record("t2", 0.7, 5e5, 1e9)
    study = records([trial, other], TEACHER)
    found = {trial.run_id: found_in([True, False] * 5), other.run_id: found_in([True] * 3 + [False] * 7)}
    results = compute_results(
        study, read_detections=lambda run_ids: {key: found[key] for key in run_ids if key in found}
    )
    card = model_card(exported(study=study), study, results)
    # Resamples of ten images, of which half are missed: binomial with n = 10, p = 1/2. P(X <= 1) = 0.011,
    # P(X <= 2) = 0.055, so that the 2.5 % quantile is 2 of 10, and the 97.5 % quantile 8 of 10.
    assert "| validation, reasonable | 50.0 | 20.0 to 80.0 | 20.0 |" in card
    assert "Without intervals" not in card


def test_int8_file_has_no_latency_of_the_fp32_network() -> None:
    trial = dataclasses.replace(TRIAL, metrics={**TRIAL.metrics, "latency_ms": 12.5, "ap": 0.5})
    study = records([trial, record("t2", 0.3, 5e5, 1e9)], TEACHER)
    fp32, int8 = exported(study=study), exported(study=study, precision="int8")
    card = model_card(int8, study, compute_results(study))
    assert "12.5" not in card
    assert "(int8) was not measured: `hkd benchmark`" in card
    point = SimpleNamespace(value=1.0, timestamp=0, step=0)
    client: Any = SimpleNamespace(get_metric_history=lambda *_: [point])
    run: Any = SimpleNamespace(
        data=SimpleNamespace(metrics=trial.metrics), info=SimpleNamespace(run_id="r"), inputs=None
    )
    linked = [{each.key for each in models._metrics(client, run, file, "m")} for file in (fp32, int8)]
    assert linked == [set(trial.metrics), {"num_params", "flops"}]


def test_names_in_a_card_are_text() -> None:
    trial = record("<b>[x](y)", 0.25, 1e6, 2e9, params={"data.train_annotations": "|<script>|"})
    study = records([trial, record("t2", 0.3, 5e5, 1e9, params={"data.train_annotations": "b"})], TEACHER)
    card = model_card(exported("<b>[x](y)", study), study, compute_results(study))
    assert "<script>" not in card.replace("\\<", "")
    assert "# \\<b\\>\\[x\\](y) of" in card
    assert "\\|\\<script\\>\\|" in card
    generated = {"data.synthetic.train_images": "<img src=x>"}
    study = records([record("t1", 0.25, 1e6, 2e9, params=generated), record("t2", 0.3, 5e5, 1e9)], TEACHER)
    card = model_card(exported(study=study), study, compute_results(study))
    assert "\\<img src=x\\>" in card
