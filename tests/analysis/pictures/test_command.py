"""``python analysis/pareto.py`` with validation images, and without."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from analysis import pareto, plots
from analysis.records.store import fetch_runs
from hkd.evaluation.formats.stored_detections import encode_detections
from tests.analysis.pictures.street import STUDENT, TEACHER, detected, images_of, write_images
from tests.analysis.studies import Written, write_study


def test_images_are_in_the_page_unless_they_are_left_out(
    client: MlflowClient,
    database: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plots, "draw_front", lambda *_: plots.Picture(b"", b""))
    truth = images_of(write_images(tmp_path)).annotations.ground_truth()
    (tmp_path / "config.yaml").write_text(
        "data: {train_annotations: validation.json, validation_annotations: validation.json}"
    )
    write_study(client, "demo", [Written("teacher", mr2=(0.2,), role="teacher"), Written("t0")])
    runs = fetch_runs("demo", f"sqlite:///{database}")
    for run, found in zip(runs[1:], (TEACHER, STUDENT), strict=True):
        stored = tmp_path / "validation_detections.safetensors"
        stored.write_bytes(encode_detections(detected(truth, found)))
        client.log_artifact(run.run_id, str(stored))
        client.log_artifact(run.run_id, "config.yaml")
    arguments = ["--study", "demo", "--tracking-uri", f"sqlite:///{database}", "--out"]
    assert pareto.main([*arguments, "with"]) == 0
    assert "4 validation images of validation.json are in the page" in capsys.readouterr().out
    assert (tmp_path / "with" / "report.html").read_text().count("data:image/jpeg;base64,") == 4
    assert pareto.main([*arguments, "without", "--no-images"]) == 0
    assert "No pictures" in capsys.readouterr().out
    page = (tmp_path / "without" / "report.html").read_text()
    assert "data:image" not in page
    assert "01.jpg" not in page
