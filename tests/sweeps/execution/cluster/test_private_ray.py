"""The private folder and the token of a local Ray cluster; without starting Ray."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock
from ray._private.authentication import authentication_token_setup

from sweeps.execution.cluster import private_ray
from sweeps.execution.cluster.private_ray import private_ray_folder, ray_parent_folder, users_token
from sweeps.folder import StudyError

VARIABLES = ("RAY_TMPDIR", "TMPDIR", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")


@pytest.fixture
def parent(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for temporary files; pytest's own path would be too long for sockets."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        monkeypatch.setenv("RAY_TMPDIR", folder)
        yield Path(folder)


def test_folder_is_private_and_holds_a_new_token(parent: Path) -> None:
    tokens = []
    for _ in range(2):
        with private_ray_folder() as folder:
            private = folder.parent
            assert private.parent == parent
            assert private.stat().st_mode & 0o777 == 0o700
            token = Path(os.environ["RAY_AUTH_TOKEN_PATH"])
            assert token.parent == private
            assert token.stat().st_mode & 0o777 == 0o600
            tokens.append(token.read_text(encoding="ascii"))
            # Ray makes its folder writable by all, and /tmp/hkd-ray-12345678 protects it.
            assert not folder.exists()
    assert len(set(tokens)) == 2
    assert all(len(token) == 64 for token in tokens)  # 256 bits in hexadecimal digits


def test_token_mode_replaces_the_users_settings_until_the_end(parent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "of another cluster")
    with private_ray_folder():
        assert os.environ["RAY_AUTH_MODE"] == "token"
        assert "RAY_AUTH_TOKEN" not in os.environ
    assert os.environ["RAY_AUTH_MODE"] == "disabled"
    assert os.environ["RAY_AUTH_TOKEN"] == "of another cluster"
    assert "RAY_AUTH_TOKEN_PATH" not in os.environ
    assert parent.is_dir()


def test_only_old_folders_that_no_process_uses_are_removed(parent: Path) -> None:
    names = ["ended", "in-use", "young"]
    for name in names:
        (parent / f"hkd-ray-{name}" / "ray").mkdir(parents=True)
    (parent / "target").mkdir()
    (parent / "hkd-ray-link").symlink_to(parent / "target")
    lock = FileLock(parent / "hkd-ray-in-use" / "lock")
    lock.acquire()
    week_ago = (parent / "target").stat().st_mtime - private_ray._KEPT_SECONDS - 60
    for name in ("ended", "in-use"):
        os.utime(parent / f"hkd-ray-{name}", (week_ago, week_ago))
    os.utime(parent / "target", (week_ago, week_ago))
    with private_ray_folder() as folder:
        kept = {path.name for path in parent.iterdir()} - {folder.parent.name}
    lock.release()
    assert kept == {"hkd-ray-in-use", "hkd-ray-young", "hkd-ray-link", "target"}


def test_folder_in_which_others_can_replace_files_is_refused(parent: Path) -> None:
    parent.chmod(0o777)
    with pytest.raises(StudyError, match=rf"chmod \+t {parent}"), private_ray_folder():
        pass
    parent.chmod(0o1777)  # as /tmp
    with private_ray_folder():
        pass


def test_paths_too_long_for_sockets(parent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = parent / ("x" * 60)
    long.mkdir()
    monkeypatch.setenv("RAY_TMPDIR", str(long))
    with pytest.raises(StudyError, match="RAY_TMPDIR is .*allowed: 20 bytes"), private_ray_folder():
        pass
    # A batch system sets TMPDIR, the user nothing: Ray's default.
    monkeypatch.delenv("RAY_TMPDIR")
    monkeypatch.setenv("TMPDIR", str(long))
    assert ray_parent_folder() == long
    with private_ray_folder() as folder:
        shutil.rmtree(folder.parent)
        assert folder.parents[1] == Path("/tmp")
        # Linux allows 107 bytes. Ray's longest: a process id of 7 digits, a second socket of one name.
        longest = folder / "session_2026-11-28_13-54-53_478189_4194304" / "sockets" / "plasma_store.1"
        assert len(str(longest)) <= 107


def test_longest_allowed_folder_fits_a_socket() -> None:
    parent = "/" + "x" * (private_ray._MAX_PARENT_BYTES - 1)
    session = "session_2026-11-28_13-54-53_478189_4194304"
    assert len(f"{parent}/hkd-ray-12345678/ray/{session}/sockets/plasma_store.1") == 107


def test_users_token_is_used_for_a_cluster_found_on_this_machine(parent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # `ray start` requires this token where it exists and RAY_AUTH_MODE is not set.
    if not hasattr(authentication_token_setup, "maybe_enable_token_auth_if_token_available"):
        pytest.skip("this version of Ray does not")
    monkeypatch.setenv("HOME", str(parent))
    with users_token():
        assert "RAY_AUTH_MODE" not in os.environ
    (parent / ".ray").mkdir()
    (parent / ".ray" / "auth_token").write_text("0" * 64, encoding="ascii")
    with users_token():
        assert os.environ["RAY_AUTH_MODE"] == "token"
    assert "RAY_AUTH_MODE" not in os.environ
    with monkeypatch.context() as patches:
        patches.setenv("RAY_AUTH_TOKEN_PATH", str(parent / "absent"))
        with users_token():  # Ray reports the error when it connects
            assert os.environ["RAY_AUTH_MODE"] == "token"
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with users_token():
        assert os.environ["RAY_AUTH_MODE"] == "disabled"
