"""What a node reports of files that it does not see as the driver does, and whether a worker starts there."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from sweeps.trials import node_files
from sweeps.trials.node_files import NodeError, SharedFiles, check_this_node, fingerprint, problems_here


def test_missing_and_different_files_are_reported_with_their_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # restored at the end
    same, other, absent = tmp_path / "same", tmp_path / "other", tmp_path / "absent"
    same.write_bytes(b"1" * 10)
    other.write_bytes(b"1" * 10)
    files = {path: (f"setting.{path.name}", fingerprint(same)) for path in (same, other, absent)}
    other.write_bytes(b"2" * 10)
    folders = {tmp_path: "setting.here", tmp_path / "images": "setting.images"}
    problems = problems_here(SharedFiles(tmp_path, files, folders))
    assert [next(name for name in ("images", "other", "absent") if name in problem) for problem in problems] == [
        "images",
        "other",
        "absent",
    ]
    for problem, setting in zip(problems, ("setting.images", "setting.other", "setting.absent"), strict=True):
        assert setting in problem
    (problem,) = problems_here(SharedFiles(tmp_path / "elsewhere", files, folders))
    assert str(tmp_path / "elsewhere") in problem


def test_worker_checks_its_node_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # restored at the end
    monkeypatch.setattr(node_files, "_checked", None)
    shared = SharedFiles(tmp_path, {}, {tmp_path / "images": "base.data.image_root"})
    for _ in range(2):
        with pytest.raises(NodeError, match=rf"{socket.gethostname()} .*{tmp_path}/images \(base.data.image_root"):
            check_this_node(shared)
    (tmp_path / "images").mkdir()
    check_this_node(shared)
    (tmp_path / "images").rmdir()
    check_this_node(shared)
    with pytest.raises(NodeError, match="/labels"):
        check_this_node(SharedFiles(tmp_path, {}, {tmp_path / "labels": "storage_path"}))


@pytest.mark.parametrize("changed", [0, 2**21, 3 * 2**20 - 1])
def test_fingerprint_notices_other_ends_and_sizes(tmp_path: Path, changed: int) -> None:
    content = bytearray(3 * 2**20)
    (tmp_path / "a").write_bytes(content)
    before = fingerprint(tmp_path / "a")
    content[changed] = 1
    (tmp_path / "a").write_bytes(content)
    assert fingerprint(tmp_path / "a") != before
    (tmp_path / "a").write_bytes(bytes(3 * 2**20 + 1))
    assert fingerprint(tmp_path / "a") != before
