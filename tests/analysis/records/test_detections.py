from __future__ import annotations

from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from analysis.records import detections as module
from analysis.records.detections import DetectionsReader
from analysis.records.store import fetch_runs
from hkd.evaluation.formats.stored_detections import encode_detections
from tests.analysis.studies import Written, found_in, write_study

NAME = "validation_detections.safetensors"


@pytest.fixture
def run_ids(client: MlflowClient, database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(tmp_path)  # of the artifacts
    write_study(client, "demo", [Written(f"t{index}") for index in range(5)], parent=False)
    return [run.run_id for run in fetch_runs("demo", f"sqlite:///{database}")]


def test_detections_of_runs_that_have_any_are_read(
    client: MlflowClient, database: Path, run_ids: list[str], tmp_path: Path
) -> None:
    (tmp_path / NAME).write_bytes(encode_detections(found_in([True, False, True])))
    client.log_artifact(run_ids[1], str(tmp_path / NAME))
    reader = DetectionsReader(f"sqlite:///{database}")
    found = reader(run_ids)
    assert list(found) == [run_ids[1]]
    assert found[run_ids[1]].image_index.tolist() == [0, 2]
    assert reader.notes == []


def test_artifacts_that_are_not_on_this_machine_are_noted(
    client: MlflowClient, database: Path, run_ids: list[str], tmp_path: Path
) -> None:
    reader = DetectionsReader(f"sqlite:///{database}")
    assert reader(run_ids) == {}
    (note,) = reader.notes
    assert f"{run_ids[0]}/artifacts" in note
    # The folder of one run is there, and has no detections.
    (tmp_path / "config.yaml").write_text("{}")
    client.log_artifact(run_ids[3], str(tmp_path / "config.yaml"))
    reader = DetectionsReader(f"sqlite:///{database}")
    assert reader(run_ids) == {}
    assert reader.notes == []


def test_damaged_detections_are_noted_and_others_read(
    client: MlflowClient, database: Path, run_ids: list[str], tmp_path: Path
) -> None:
    (tmp_path / NAME).write_bytes(encode_detections(found_in([True])))
    client.log_artifact(run_ids[0], str(tmp_path / NAME))
    (tmp_path / NAME).write_bytes(b"\x80\x04cos\nsystem\n")
    client.log_artifact(run_ids[1], str(tmp_path / NAME))
    reader = DetectionsReader(f"sqlite:///{database}")
    assert list(reader(run_ids)) == [run_ids[0]]
    (note,) = reader.notes
    assert run_ids[1] in note


def test_artifact_store_that_fails_is_not_asked_for_every_run(
    database: Path, run_ids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def fail(client: object, run_id: str, folder: Path) -> None:
        asked.append(run_id)
        raise ConnectionError("no answer from anna:hunter2@bucket")

    monkeypatch.setattr(module, "_read", fail)
    reader = DetectionsReader(f"sqlite:///{database}")
    assert reader(run_ids) == {}
    assert len(asked) == 3
    (note,) = reader.notes
    assert "and 2 more" in note
    assert "hunter2" not in note
