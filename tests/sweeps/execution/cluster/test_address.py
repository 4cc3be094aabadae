"""Which running cluster is joined; without starting Ray."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Any

import pytest

from sweeps.execution.cluster import address
from sweeps.execution.cluster.address import find_address
from sweeps.folder import StudyError


@pytest.fixture(autouse=True)
def no_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))


@pytest.fixture
def running() -> Iterator[str]:
    """An address that answers, as a cluster's does."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield f"127.0.0.1:{listening.getsockname()[1]}"


@pytest.fixture
def gone() -> str:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{listening.getsockname()[1]}"


def write_current_cluster(tmp_path: Path, address: str) -> None:
    """Write the file of `ray start`."""
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text(address, encoding="utf-8")


def test_no_cluster_means_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_address() is None
    monkeypatch.setenv("RAY_ADDRESS", "local")
    assert find_address() is None


def test_ray_address_has_precedence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, running: str, gone: str) -> None:
    write_current_cluster(tmp_path, gone)
    monkeypatch.setenv("RAY_ADDRESS", running)
    assert find_address() == running


@pytest.mark.parametrize("variable", [None, "auto"])
def test_cluster_started_on_this_machine_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, running: str, variable: str | None
) -> None:
    write_current_cluster(tmp_path, running)
    if variable is not None:
        monkeypatch.setenv("RAY_ADDRESS", variable)
    assert find_address() == running


def test_file_of_crashed_cluster_is_ignored(tmp_path: Path, gone: str) -> None:
    write_current_cluster(tmp_path, gone)
    assert find_address() is None


def test_unreachable_ray_address_is_rejected(monkeypatch: pytest.MonkeyPatch, gone: str) -> None:
    monkeypatch.setenv("RAY_ADDRESS", gone)
    with pytest.raises(StudyError, match=f"RAY_ADDRESS is {gone}, and no Ray cluster answers there"):
        find_address()
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    with pytest.raises(StudyError, match="no Ray cluster runs on this machine"):
        find_address()
    monkeypatch.setenv("RAY_ADDRESS", "ray://head:10001")
    with pytest.raises(StudyError, match="run this command on the cluster's head node"):
        find_address()


@pytest.mark.parametrize("variable", [None, "auto"])
def test_address_that_another_user_could_write_is_not_joined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, running: str, variable: str | None
) -> None:
    # Whoever operates a cluster runs code in the studies that join it.
    write_current_cluster(tmp_path, running)
    file = tmp_path / "ray" / "ray_current_cluster"
    file.chmod(0o666)
    if variable is not None:
        monkeypatch.setenv("RAY_ADDRESS", variable)
    outcome: AbstractContextManager[Any] = nullcontext()
    if variable is not None:
        outcome = pytest.raises(StudyError, match="no Ray cluster")
    with outcome, pytest.warns(UserWarning, match=f"{file}: .*set RAY_ADDRESS"):
        assert find_address() is None
    file.rename(tmp_path / "real")
    file.symlink_to(tmp_path / "real")
    with pytest.warns(UserWarning, match="is not joined"), suppress(StudyError):
        find_address()
    monkeypatch.setenv("RAY_ADDRESS", running)
    assert find_address() == running


def test_address_in_tmpdir_is_found_as_by_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, running: str) -> None:
    monkeypatch.delenv("RAY_TMPDIR")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    write_current_cluster(tmp_path, running)
    assert find_address() == (running if sys.platform == "linux" else None)


@pytest.mark.skipif(sys.platform != "linux", reason="Linux shows who listens")
def test_own_listening_socket_is_seen(running: str, gone: str) -> None:
    assert list(address._listening_users(running.rpartition(":")[2])) == [os.geteuid()]
    assert list(address._listening_users(gone.rpartition(":")[2])) == []


def test_port_of_crashed_cluster_at_which_another_user_listens_is_not_joined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, running: str
) -> None:
    write_current_cluster(tmp_path, running)
    host, _, port = running.rpartition(":")
    packed = socket.inet_aton(host)[::-1].hex().upper()  # 127.0.0.1 is 0100007F
    row = (
        f"   0: {packed}:{int(port):04X} 00000000:0000 0A 00000000:00000000 00:00000000 00000000 {os.geteuid() + 1} 0 7"
    )
    (tmp_path / "tcp").write_text(f"  sl  local_address ...\n{row}\n", encoding="ascii")
    monkeypatch.setattr(address, "_SOCKET_TABLES", (tmp_path / "tcp", tmp_path / "absent"))
    with pytest.warns(UserWarning, match=f"{running}: another user .*RAY_ADDRESS"):
        assert find_address() is None
