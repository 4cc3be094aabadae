"""Object storage on a real S3 server."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from moto import settings

from hkd.bucket_uri import uri_problem
from hkd.buckets import StorageAwayError, StorageError, patiently
from sweeps.storage.objects import ObjectStorage, storage_of
from tests.sweeps.storage.s3_server import BUCKET, S3Server


def write(folder: Path, **files: bytes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def test_folder_is_uploaded_and_downloaded(storage: ObjectStorage, server: S3Server, tmp_path: Path) -> None:
    write(tmp_path / "scratch", state=b"1" * 100, metrics=b"{}")
    checkpoint = storage.copies / "tiny" / "trial-001" / "checkpoint_000001"
    storage.upload(checkpoint, tmp_path / "scratch")
    assert server.objects() == {f"runs/tiny/trial-001/checkpoint_000001/{name}" for name in ("state", "metrics")}
    assert not checkpoint.exists()
    storage.download(checkpoint, tmp_path / "here", ["state", "absent"])
    assert {path.name: path.read_bytes() for path in (tmp_path / "here").iterdir()} == {"state": b"1" * 100}
    with pytest.raises(FileNotFoundError):
        storage.download(checkpoint.with_name("checkpoint_000002"), tmp_path / "here")
    storage.remove_folder(checkpoint)
    assert server.objects() == set()
    storage.remove_folder(checkpoint)


def test_file_is_fetched_once_per_node(storage: ObjectStorage, other_machine: ObjectStorage) -> None:
    file = storage.copies / "teachers" / "key" / "teacher.safetensors"
    write(file.parent, **{file.name: b"weights"})
    storage.upload_file(file)
    there = other_machine.copies / "teachers" / "key" / "teacher.safetensors"
    assert other_machine.fetch(there).read_bytes() == b"weights"
    storage.write(file, b"others")
    assert other_machine.fetch(there).read_bytes() == b"weights"


def test_interrupted_upload_leaves_no_part_of_a_file(storage: ObjectStorage, server: S3Server) -> None:
    class Interrupted(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell():
                raise KeyboardInterrupt
            return super().read(min(3, size or 3))

    source: Any = SimpleNamespace(open=lambda _: Interrupted(b"weights"))
    with pytest.raises(KeyboardInterrupt):
        storage.upload_file(storage.copies / "teachers" / "key" / "teacher.safetensors", source)
    assert server.objects() == set()


def test_storage_that_can_be_used_passes_the_check_and_keeps_nothing(storage: ObjectStorage, server: S3Server) -> None:
    assert abs(storage.check() - time.time()) < 60
    assert server.objects() == set()


def test_missing_bucket_is_reported_with_its_name(server: S3Server, tmp_path: Path) -> None:
    storage = storage_of(server.uri.replace(BUCKET, "no-such-bucket"), tmp_path)
    with pytest.raises(StorageError) as raised:
        storage.check()
    assert "s3://no-such-bucket/runs (storage_path)" in str(raised.value)
    assert "create the bucket" in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


@pytest.fixture
def key(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, str]]:
    """The only key that the server accepts."""
    yield server.require_credentials_with(monkeypatch)
    monkeypatch.setattr(settings, "INITIAL_NO_AUTH_ACTION_COUNT", float("inf"))


def test_wrong_credentials_are_refused_without_their_values(
    server: S3Server, key: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key[1])
    storage_of(f"{server.uri}&region=us-east-1", tmp_path).check()  # the right ones
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAWRONGWRONGWRONG1")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2-of-the-test")
    with pytest.raises(StorageError, match="AWS_ACCESS_KEY_ID") as raised:
        storage_of(f"{server.uri}&region=us-east-2", tmp_path).check()
    assert "hunter2" not in str(raised.value)


def test_unreachable_server_is_reported(tmp_path: Path, server: S3Server) -> None:
    storage = storage_of(server.uri.replace(server.address, "127.0.0.1:9"), tmp_path)
    with pytest.raises(StorageError, match="AWS_ENDPOINT_URL"):
        storage.check()


def test_process_waits_for_a_server_that_is_away(
    storage: ObjectStorage, server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = storage.copies / "file"
    storage.write(file, b"1")
    server.stop()
    timer = threading.Timer(0.5, server.start)
    timer.start()
    assert patiently(lambda: storage.read(file)) == b"1"
    timer.join()
    server.stop()
    try:
        with pytest.raises(StorageAwayError, match="storage"):
            patiently(lambda: storage.read(file), seconds=0.0)
    finally:
        server.start()


def test_error_of_this_machine_is_not_repeated(storage: ObjectStorage, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        patiently(lambda: storage.upload_file(storage.copies / "x", tmp_path / "absent"), seconds=60.0)


@pytest.mark.parametrize(
    ("uri", "fact"),
    [
        ("s3://key:secret@bucket/runs", "credentials"),
        ("s3://bucket/runs?access_key=key", "access_key"),
        ("s3://bucket/runs?endpoint_override=key:secret%40host:9000", "credentials"),
        ("s3:///runs", "s3://BUCKET/PATH"),
        ("hdfs://host/runs", "s3://BUCKET/PATH"),
    ],
)
def test_uri_that_is_no_folder_of_a_bucket_is_refused(uri: str, fact: str) -> None:
    problem = uri_problem(uri)
    assert problem is not None
    assert fact in problem
    assert "secret" not in problem


def test_uris_of_buckets_are_accepted(tmp_path: Path) -> None:
    for uri in ("s3://bucket", "gs://bucket/a/b", "s3://bucket/runs?endpoint_override=127.0.0.1:9&scheme=http"):
        assert uri_problem(uri) is None
    folders = [storage_of(uri, tmp_path).copies for uri in ("s3://bucket/a/runs", "s3://bucket/a-runs")]
    # Each has copies of its own, although both have the same readable name.
    assert folders[0] != folders[1]
    assert all(folder.parent == tmp_path / "storage" for folder in folders)
    assert all(folder.name.startswith("s3-bucket-a-runs-") for folder in folders)
