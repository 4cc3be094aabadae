"""What a node reports of files that it does not see as the driver does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import ray
import ray.util.scheduling_strategies

from sweeps.execution.node_checks import SharedFiles, check_nodes, fingerprint, problems_here
from sweeps.folder import StudyError, StudyFolder
from sweeps.settings.study import StudyConfig


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


def test_nodes_that_do_not_share_storage_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A double of Ray: the second node has no file."""
    node_ids: list[str] = []

    class TaskDouble:
        def options(self, num_cpus: int, scheduling_strategy: str) -> TaskDouble:
            assert num_cpus == 0
            node_ids.append(scheduling_strategy)
            return self

        def remote(self, shared: SharedFiles) -> tuple[str, ...]:
            problems = problems_here(shared)
            assert problems == []
            return (node_ids[-1], *(["/runs: nothing"] if node_ids[-1] == "b" else []))

    nodes = [
        {"NodeID": name, "Alive": name != "c", "NodeManagerHostname": f"host-{name}", "NodeManagerAddress": "10.0.0.1"}
        for name in "abc"
    ]
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    monkeypatch.setattr(ray, "remote", lambda _: TaskDouble())
    monkeypatch.setattr(ray, "wait", lambda tasks, **_: (tasks, []))
    monkeypatch.setattr(ray, "get", lambda task: list(task[1:]))

    def affinity(node: str, **_: Any) -> str:
        return node

    monkeypatch.setattr(ray.util.scheduling_strategies, "NodeAffinitySchedulingStrategy", affinity)
    monkeypatch.chdir(tmp_path)
    study = StudyConfig.model_validate({"name": "x", "storage_path": tmp_path})
    with pytest.raises(StudyError) as caught:
        check_nodes(study, StudyFolder(study), teacher=None, labels=None)
    assert "node host-b (10.0.0.1): /runs: nothing" in str(caught.value)
    assert "host-a" not in str(caught.value)
    assert node_ids == ["a", "b"]
    assert list(tmp_path.iterdir()) == []
