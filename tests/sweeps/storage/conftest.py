"""An S3 server, and the environment with its credentials."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sweeps.storage.objects import ObjectStorage, storage_of
from tests.sweeps.storage.s3_server import CREDENTIALS, S3Server


@pytest.fixture(scope="session")
def running_server() -> Iterator[S3Server]:
    with S3Server() as server:
        yield server


@pytest.fixture
def server(running_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """Without objects."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    running_server.empty()
    return running_server


@pytest.fixture
def storage(server: S3Server, tmp_path: Path) -> ObjectStorage:
    """A folder of the bucket, and this machine's copies."""
    return storage_of(server.uri, tmp_path / "cache")


@pytest.fixture
def other_machine(server: S3Server, tmp_path: Path) -> ObjectStorage:
    """The same folder, and the copies of another machine."""
    return storage_of(server.uri, tmp_path / "other_cache")
