"""What the command of a study reports about a bucket, before any compute."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweeps.run import main
from sweeps.settings.study import StudyConfig
from tests.sweeps.storage.s3_server import BUCKET, S3Server
from tests.sweeps.tiny import write_tiny_study


@pytest.mark.parametrize("option", [(), ("--dry-run",)])
def test_study_in_a_missing_bucket_ends_with_one_message(
    server: S3Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    option: tuple[str, ...],
) -> None:
    monkeypatch.chdir(tmp_path)
    write_tiny_study(Path("tiny.yaml"), Path("cache"), storage_path=server.uri.replace(BUCKET, "no-such-bucket"))
    assert main(["--config", "tiny.yaml", *option]) == 2
    (message,) = capsys.readouterr().err.splitlines()
    assert message.startswith("error: s3://no-such-bucket/runs (storage_path)")
    assert not list(tmp_path.glob("cache/images-*"))


def test_credentials_in_the_uri_are_refused_and_not_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_tiny_study(tmp_path / "tiny.yaml", tmp_path, storage_path="s3://key:hunter2@bucket/runs")
    assert main(["--config", str(tmp_path / "tiny.yaml")]) == 2
    message = capsys.readouterr().err
    assert "storage_path" in message
    assert "hunter2" not in message


def test_storage_path_is_a_folder_or_a_bucket(tmp_path: Path) -> None:
    def study(storage_path: object) -> StudyConfig:
        data = {"cache_dir": tmp_path}
        return StudyConfig.model_validate({"name": "x", "base": {"data": data}, "storage_path": storage_path})

    assert study("runs").storage_folder == Path.cwd() / "runs"
    assert study("file:///data/my%20runs").storage_path == Path("/data/my runs")
    assert study("file:///data/runs").object_storage is None
    in_bucket = study("s3://bucket/runs")
    assert in_bucket.storage_folder.parent == tmp_path / "storage"
    assert in_bucket.storage_folder.name.startswith("s3-bucket-runs-")
    assert in_bucket.object_storage is not None
    assert in_bucket.object_storage.copies == in_bucket.storage_folder
    assert in_bucket.model_dump(mode="json")["storage_path"] == "s3://bucket/runs"
    assert study("runs").model_dump(mode="json")["storage_path"] == "runs"
