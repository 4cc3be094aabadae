"""A trial and a teacher on workers that share nothing but a bucket."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from hkd import buckets
from hkd.buckets import StorageAwayError
from hkd.config import TrialConfig
from hkd.config_files.parsing import parse_config
from hkd.data.prepare import prepare_data
from hkd.training.fit import LOG_FILE, STATE_FILE
from hkd.training.teacher.prepare import find_teacher, prepare_teacher, teacher_folder
from sweeps.execution.teacher.shared import SharedTeacher
from sweeps.storage.objects import ObjectStorage
from sweeps.trials.error_notes import STORAGE_AWAY_NOTE
from sweeps.trials.worker import NOTE, SPEC, TrialSpec, WorkerSettings, reported_metrics
from tests.sweeps.in_process_worker import worker
from tests.sweeps.storage.s3_server import S3Server
from tests.sweeps.tiny import tiny_trial

pytestmark = pytest.mark.usefixtures("restored_process")


def test_trial_resumes_on_another_node_from_the_bucket(
    storage: ObjectStorage,
    other_machine: ObjectStorage,
    server: S3Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = parse_config(TrialConfig, tiny_trial(tmp_path / "images"), source="tiny")
    data = prepare_data(config.data, progress=False)
    teacher = prepare_teacher(config, data, storage.copies)
    SharedTeacher(storage, teacher.path.parent).upload()
    names = {"teacher.json", "teacher.safetensors", "validation_detections.safetensors"}
    assert server.objects() == {f"runs/teachers/{teacher.path.parent.name}/{name}" for name in names}

    attempt = storage.copies / "tiny" / "trial-001"
    settings = WorkerSettings(1, False, tmp_path, storage)
    spec = TrialSpec("trial-001", config, teacher.path, None, "trial-001", settings, uploads_to=attempt)
    trial = worker()
    trial.setup({SPEC: spec})
    trial.step()
    server.stop()
    try:
        with monkeypatch.context() as patch:
            patch.setattr(buckets, "PATIENCE_SECONDS", 0.0)
            with pytest.raises(StorageAwayError) as away:
                trial.save()
    finally:
        server.start()
    assert away.value.__notes__ == [STORAGE_AWAY_NOTE]
    server.stop()
    timer = threading.Timer(0.5, server.start)
    timer.start()
    saved = trial.save()  # waits for the server
    timer.join()
    assert Path(saved.checkpoint.path) == attempt / "checkpoint_000001"
    assert not attempt.exists()
    expected = reported_metrics(trial.step())

    # The paths of a node are equal on all nodes; here, two nodes share a machine.
    moved = replace(settings, storage=other_machine)
    there = {path: other_machine.copies / path.relative_to(storage.copies) for path in (teacher.path, attempt)}
    resumed = worker()
    checkpoint = there[attempt] / "checkpoint_000001"
    lost = there[attempt] / "checkpoint_000002"
    resumed.setup(
        {
            SPEC: replace(
                spec, worker=moved, teacher=there[teacher.path], resume_from=lost, resume_otherwise_from=checkpoint
            )
        }
    )
    result = resumed.step()
    assert reported_metrics(result)["loss_total"] == expected["loss_total"]
    assert "checkpoint_000002" in str(result[NOTE])
    assert there[teacher.path].is_file()


def test_interrupted_training_of_a_teacher_is_fetched_until_it_is_complete(
    storage: ObjectStorage, other_machine: ObjectStorage, server: S3Server, tmp_path: Path
) -> None:
    config = parse_config(TrialConfig, tiny_trial(tmp_path / "images"), source="tiny")
    data = prepare_data(config.data, progress=False)
    shared = SharedTeacher(storage, teacher_folder(config, data, storage.copies))
    shared.folder.mkdir(parents=True)
    for name in (STATE_FILE, LOG_FILE):
        (shared.folder / name).write_bytes(b"first epoch")
    shared.upload_state(1)
    assert server.objects() == set()  # no epoch has ended
    shared.upload_state(2)
    other = SharedTeacher(other_machine, teacher_folder(config, data, other_machine.copies))
    other.fetch(is_to_be_trained=False)
    assert not other.folder.exists()
    other.fetch(is_to_be_trained=True)
    assert (other.folder / STATE_FILE).read_bytes() == b"first epoch"

    # The state of a node is replaced by one of more epochs, not by one of fewer.
    for epochs in (b"first epoch, second epoch", b"first epoch"):
        for name in (STATE_FILE, LOG_FILE):
            storage.write(shared.folder / name, epochs)
        other.fetch(is_to_be_trained=True)
        assert (other.folder / STATE_FILE).read_bytes() == b"first epoch, second epoch"

    for name in (STATE_FILE, LOG_FILE):
        (shared.folder / name).unlink()
    prepare_teacher(config, data, storage.copies)
    shared.upload()
    assert not {key for key in server.objects() if key.endswith((STATE_FILE, LOG_FILE))}
    other.fetch(is_to_be_trained=False)
    found = find_teacher(config, data, other_machine.copies)
    assert found is not None
    assert found.path.read_bytes() == (shared.folder / found.path.name).read_bytes()
