"""A study in a bucket, with its data: the server is away for a while, another machine resumes it from the bucket.

``pytest -rP`` prints how long the study takes to continue.
"""

from __future__ import annotations

import signal
import time
from pathlib import Path

from hkd.data.sources.synthetic import write_scenes
from sweeps.trials.records.journal import LedgerError
from sweeps.trials.records.trial import LedgerTrial, read_trials
from tests.end_to_end.processes import REPOSITORY, Command
from tests.sweeps.storage.s3_server import BUCKET, S3Server
from tests.sweeps.tiny import tiny_trial, write_tiny_study

SECRET = "hunter2-of-the-test"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test-key", "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_DEFAULT_REGION": "us-east-1"}
EPOCHS = 6


def machine(parent: Path, name: str, server: S3Server) -> Path:
    """A folder with the study's configuration, and with a cache of its own."""
    folder = parent / name
    folder.mkdir()
    trial = tiny_trial(Path("cache"), total_epochs=EPOCHS)
    del trial["data"]["synthetic"]
    for setting in ("train", "validation"):
        trial["data"][f"{setting}_annotations"] = server.uri_of(f"data/{setting}.json")
    write_tiny_study(
        folder / "tiny.yaml",
        Path("cache"),
        base=trial,
        baselines={},
        resources={"cpus_per_trial": 1, "max_concurrent_trials": 1},
        storage_path=server.uri,
    )
    return folder


def trials_of(folder: Path) -> dict[str, LedgerTrial]:
    journals = list(folder.glob("cache/storage/*/tiny/trials.journal"))
    try:
        return {trial.trial_id: trial for trial in read_trials(journals[0])} if journals else {}
    except LedgerError:  # the study writes its first records
        return {}


def test_study_in_a_bucket_is_resumed_on_another_machine(tmp_path: Path) -> None:
    arguments = [str(REPOSITORY / "sweeps" / "run.py"), "--config", "tiny.yaml"]
    with S3Server() as server:
        scenes = tmp_path / "scenes"
        write_scenes(scenes, train_images=8, validation_images=4, height=144, width=192, seed=0, progress=False)
        server.put_folder("data", scenes)
        server.put("data/other.png", b"which no annotations name")
        first, second = machine(tmp_path, "first", server), machine(tmp_path, "second", server)
        with Command(arguments, first, CREDENTIALS) as command:
            command.wait_until(lambda: any(trial.epoch for trial in trials_of(first).values()))
            server.stop()
            command.wait_for("cannot be used")
            server.start()
            back_at = time.monotonic()
            command.wait_until(lambda: trials_of(first)["trial-001"].epoch >= 3)
            print(f"from the return of the bucket to epoch 3: {time.monotonic() - back_at:.1f} s")  # noqa: T201
            command.send(signal.SIGTERM, to_group=False)  # as a scheduler stops a job
            assert command.end() == 130, command.output
        interrupted = trials_of(first)["trial-001"]
        with Command([*arguments, "--resume"], second, CREDENTIALS) as resumed:
            assert resumed.end() == 0, resumed.output
        ended = trials_of(second)
        assert {trial_id: trial.status for trial_id, trial in ended.items()} == {
            "trial-001": "finished",
            "trial-002": "finished",
        }
        assert f"trial-001 resumes after epoch {interrupted.epoch} of {EPOCHS}" in resumed.output
        assert "Teacher: training" not in resumed.output
        assert f"in s3://{BUCKET}/runs/tiny" in resumed.output
        # The bucket has the last checkpoint of each trial; this machine, its artifacts.
        for trial in ended.values():
            assert trial.checkpoint is not None
            kept = {key for key in server.objects() if key.startswith(f"runs/tiny/{trial.trial_id}")}
            assert f"runs/tiny/{trial.checkpoint.as_posix()}/student.safetensors" in kept
            assert len({key.rpartition("/")[0] for key in kept}) == 1
        (record,) = second.glob("cache/storage/*/tiny/study.yaml")
        assert record.read_text().count("&version=") == 2
        copied = sorted(path.name for path in second.glob("cache/data_sets/*/*/images/**/*.*"))
        assert copied == sorted(path.name for path in scenes.rglob("*.png"))
        assert len(list(second.glob("mlartifacts/tiny/*/artifacts/student.safetensors"))) == 2
        assert SECRET.encode() not in server.content()
    outputs = command.output + resumed.output
    assert SECRET not in outputs
    assert "Traceback" not in outputs
    written = [path for path in tmp_path.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
    assert written == []
