"""What a report publishes: which files, under which names, with which card."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest
from mlflow.tracking import MlflowClient

from analysis import pareto, plots
from analysis.publishing import exported as exported_module
from analysis.publishing import models
from analysis.publishing.command import publication_of
from analysis.publishing.exported import (
    ExportedTrial,
    PublishingError,
    choose,
    compare_weights,
    find_exported,
    read_exported,
)
from analysis.publishing.model_card import model_card
from analysis.records.store import fetch_runs
from analysis.records.study_records import StudyRecords
from analysis.results import compute_results
from analysis.variants import read_devices, with_measured_latencies
from hkd.config import DetectorConfig
from hkd.inference.deployed.metadata import DeployedMetadata, ImageSet, Int8Images, StudyIdentity
from hkd.inference.deployed.onnx_file import DeployedFile
from hkd.metric_names import ARTIFACT_REPORT, CONFIRMED_SEEDS, ROLE_STUDY, TAG_ROLE
from hkd.models.weight_formats.errors import CheckpointError
from hkd.tracking_uri import TRACKING_URI_VARIABLE
from tests.analysis.studies import TEACHER, Written, found_in, record, records, write_study

PARAMS: dict[str, bool | int | float | str | None] = {
    "training.total_epochs": 4,
    "data.train_annotations": "data/mine/train.json",
}
TRIAL = record("t1", 0.25, 1e6, 2e9, params=PARAMS)
STOPPED = record("t3", 0.9, 1e5, 1e9, not_counted_because="stopped")
STUDY = records([TRIAL, record("t2", 0.3, 5e5, 1e9), STOPPED], TEACHER)


def metadata(
    study: str | None = "demo", trial: str = "t1", precision: Literal["fp32", "int8"] = "fp32"
) -> DeployedMetadata:
    return DeployedMetadata(
        format="hkd.onnx.1",
        hkd_version="0.1.0",
        versions={},
        opset=17,
        precision=precision,
        fp32_layers=(),
        classes=("person",),
        batch=1,
        image_height=64,
        image_width=96,
        resizing="",
        max_detections=100,
        score_threshold=0.01,
        nms_iou=0.5,
        detector=DetectorConfig(),
        num_params=1_000_000,
        flops=2_000_000_000,
        metrics={},
        weights_sha256="0" * 64,
        study=None if study is None else StudyIdentity(study=study, trial=trial),
    )


def exported(
    trial_id: str = "t1", study: StudyRecords = STUDY, precision: Literal["fp32", "int8"] = "fp32"
) -> ExportedTrial:
    (trial,) = (each for each in study.trials if each.trial_id == trial_id)
    return ExportedTrial(DeployedFile(Path("student.onnx"), b"x" * 4_470_000, metadata(precision=precision)), trial)


def options(*given: str) -> list[str]:
    """The problems of a command line."""
    try:
        publication_of(pareto._parser().parse_args(given))
    except PublishingError as error:
        return str(error).split("\n")
    return []


def test_options_that_do_not_fit_together_are_problems() -> None:
    assert options("--study", "a", "--model", "x.onnx", "--register", "people", "--trial", "t1", "--attach") == []
    assert options("--study", "a") == []
    assert options("--study", "a", "--register", "people", "--trial", "t1") == []
    problems = options("--study", "a", "--study", "b", "--attach", "--watch", "--register", "a/b", "--trial", "t1")
    facts = ("--attach and --register: not used with --watch", "one --study", "a/b")
    assert len(problems) == len(facts)
    for fact, problem in zip(facts, problems, strict=True):
        assert fact in problem
    assert len(options("--study", "a", "--model", "x.onnx", "--trial", "t1")) == 1


def test_report_is_attached_to_the_run_of_its_study(
    client: MlflowClient,
    database: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)  # of the artifacts
    monkeypatch.setattr(plots, "draw_front", lambda *_: plots.Picture(b"", b""))
    arguments = ["--tracking-uri", f"sqlite:///{database}", "--attach", "--study"]
    write_study(client, "demo", [Written("t0")])
    assert pareto.main([*arguments, "demo"]) == 0
    (run,) = (run for run in fetch_runs("demo", f"sqlite:///{database}") if run.tags[TAG_ROLE] == ROLE_STUDY)
    attached = {entry.path for entry in client.list_artifacts(run.run_id, ARTIFACT_REPORT)}
    assert attached == {f"{ARTIFACT_REPORT}/{file.name}" for file in Path("reports/demo").iterdir()}
    capsys.readouterr()
    # A study without a run of its own: an error before anything is written.
    write_study(client, "parentless", [Written("t0")], parent=False)
    assert pareto.main([*arguments, "parentless"]) == 2
    error = capsys.readouterr().err
    assert "--attach" in error
    assert "'parentless'" in error
    assert "--tracking-uri" not in error
    assert not Path("reports/parentless").exists()


def test_only_files_of_finished_trials_of_the_study_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"a": metadata(), "b": metadata(None), "c": metadata("other"), "d": metadata(trial="t3")}
    monkeypatch.setattr(exported_module, "read_onnx_file", lambda path: DeployedFile(path, b"", found[path.name]))
    (only,) = read_exported([Path("a")], STUDY)
    assert only.trial.trial_id == "t1"
    with pytest.raises(PublishingError) as caught:
        read_exported([Path(name) for name in "abcd"], STUDY)
    for fact in ("b: was exported from no study", "c: ", "study other", "d: ", "t3", "hkd export --study demo"):
        assert fact in str(caught.value)
    found["e"] = metadata(trial="t9\nall is well")
    with pytest.raises(PublishingError) as caught:
        read_exported([Path("e")], STUDY)
    # The name does not add a line to the problem and the remedy.
    assert len(str(caught.value).splitlines()) == 2


def test_only_file_of_a_trial_in_the_working_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stated = {
        "one.onnx": metadata(trial="t1"),
        "two.onnx": metadata(trial="t2"),
        "two-int8.onnx": metadata(trial="t2", precision="int8"),
        "other.onnx": metadata("other", trial="t1"),
        "weights.onnx": metadata(None),
        "CAPITALS.ONNX": metadata(trial="t5"),
    }
    for name in (*stated, "yolo.onnx", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "one.onnx").touch()

    def read(path: Path) -> DeployedFile:
        if path.name == "yolo.onnx":
            raise CheckpointError(f"{path}: of another program")
        return DeployedFile(path, b"", stated[path.name])

    monkeypatch.setattr(exported_module, "read_onnx_file", read)
    assert find_exported(tmp_path, STUDY, "t1") == tmp_path / "one.onnx"
    assert find_exported(tmp_path, STUDY, "t5") == tmp_path / "CAPITALS.ONNX"
    for trial_id, facts in (
        ("t2", ["2 files", "two.onnx (t2, fp32)", "two-int8.onnx (t2, int8)", "--model"]),
        (None, ["4 files", "one.onnx (t1, fp32)"]),
        ("t4", ["0 files", str(tmp_path), "hkd export --study demo --trial t4", "yolo.onnx: of another program"]),
    ):
        with pytest.raises(PublishingError) as caught:
            find_exported(tmp_path, STUDY, trial_id)
        for fact in facts:
            assert fact in str(caught.value)


def test_file_of_other_weights_than_the_trials_is_refused(
    client: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # of the artifacts
    experiment = write_study(client, "demo", [Written("t1"), Written("t2")])
    runs = {
        run.data.tags["hkd.trial_id"]: run.info.run_id
        for run in client.search_runs([experiment], "tags.`hkd.role` = 'trial'")
    }
    weights = tmp_path / "student.safetensors"
    weights.write_bytes(b"weights of t1")
    client.log_artifact(runs["t1"], str(weights))

    def file_of(trial_id: str, content: bytes) -> ExportedTrial:
        described = metadata(trial=trial_id).model_copy(update={"weights_sha256": hashlib.sha256(content).hexdigest()})
        trial = dataclasses.replace(record(trial_id, 0.25, 1e6, 2e9), run_id=runs[trial_id])
        return ExportedTrial(DeployedFile(Path(f"{trial_id}.onnx"), b"", described), trial)

    same, without = file_of("t1", b"weights of t1"), file_of("t2", b"any")
    found = compare_weights(client.tracking_uri, [same, without])
    assert found[0] == same
    # The run of t2 has no weights.
    assert "t2.onnx" in (found[1].note or "")
    with pytest.raises(PublishingError, match=r"t1\.onnx: .*other weights.*t1.*hkd export"):
        compare_weights(client.tracking_uri, [file_of("t1", b"weights of an earlier study"), without])


def test_unusable_files_are_refused_before_anything_is_written(
    client: MlflowClient,
    database: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)  # of the artifacts
    experiment = write_study(client, "demo", [Written("t1"), Written("t2")])
    (run,) = client.search_runs([experiment], "tags.`hkd.trial_id` = 't1'")
    (tmp_path / "student.safetensors").write_bytes(b"weights of t1")
    client.log_artifact(run.info.run_id, str(tmp_path / "student.safetensors"))
    arguments = ["--study", "demo", "--tracking-uri", f"sqlite:///{database}", "--register", "people", "--model"]
    assert pareto.main([*arguments, "absent\nstudent.onnx"]) == 2
    # The name does not add a line.
    (absent,) = capsys.readouterr().err.splitlines()
    assert "absent\\nstudent.onnx: no such file" in absent
    monkeypatch.setattr(exported_module, "read_onnx_file", lambda path: DeployedFile(path, b"", metadata()))
    assert pareto.main([*arguments, "student.onnx"]) == 2
    error = capsys.readouterr().err
    for fact in ("student.onnx: ", "other weights", "hkd export --study demo --trial t1 --out student.onnx"):
        assert fact in error
    assert not Path("reports").exists()
    assert client.search_logged_models([experiment]) == []


def test_one_file_is_registered() -> None:
    first, second = exported("t1"), exported("t2")
    assert choose([first], None) is first
    assert choose([first, second], "t2") is second
    for trial_id, fact in ((None, "--trial"), ("t3", "of t3")):
        with pytest.raises(PublishingError, match=fact):
            choose([first, second], trial_id)


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


def test_description_is_renewed_unless_a_user_edited_it(client: MlflowClient) -> None:
    experiment = write_study(client, "demo", [Written("t1")])
    (run,) = client.search_runs([experiment], "tags.`hkd.trial_id` = 't1'")
    model = client.create_logged_model(experiment, name="t1", source_run_id=run.info.run_id)
    file = exported()
    file = dataclasses.replace(file, trial=dataclasses.replace(file.trial, run_id=run.info.run_id))

    def registered(card: str) -> tuple[bool, str | None]:
        made = models.register(client.tracking_uri, "people", file, model.model_id, card)
        return made.is_edited, client.get_model_version("people", made.version).description

    assert registered("first card") == (False, "first card")
    assert registered("second card") == (False, "second card")
    client.update_model_version("people", "1", "approved by Ada")
    assert registered("third card") == (True, "approved by Ada")
    # Child processes and later studies of this process use the store that they did before.
    assert TRACKING_URI_VARIABLE not in os.environ
