"""What a node reports of files that it does not see as the driver does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray
import ray.util.scheduling_strategies

from hkd.data.locations import with_versions
from sweeps.execution.cluster.node_checks import check_nodes, shared_files
from sweeps.folder import StudyError, StudyFolder
from sweeps.settings.study import StudyConfig
from sweeps.trials.node_files import SharedFiles, problems_here
from tests.data.test_unlabelled import write_set


def test_data_set_of_another_version_is_reported(tmp_path: Path) -> None:
    sets = {f"{name}_annotations": write_set(tmp_path, name, range(1, 2)) for name in ("train", "validation")}
    data = {**{name: f"{path.as_uri()}?version=1a" for name, path in sets.items()}, "cache_dir": tmp_path / "cache"}
    base = {"data": data}
    study = StudyConfig.model_validate({"name": "x", "base": base, "storage_path": tmp_path})
    folder = StudyFolder(study)
    folder.path.mkdir()
    shared = shared_files(study, folder, sets["train_annotations"], teacher=None, labels=None)
    problems = problems_here(shared)
    assert len(problems) == 2
    for path, problem in zip(sets.values(), problems, strict=True):
        assert problem.startswith(f"{path.as_uri()}: has changed")
    versions = with_versions(study.base.data.model_copy(update={name: path.as_uri() for name, path in sets.items()}))
    assert problems_here(replace(shared, data=versions)) == []


def test_nodes_that_do_not_share_storage_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A double of Ray: the second node has no file, the third is lost, the fourth does not answer."""
    node_ids: list[str] = []
    lines: list[str] = []
    cancelled: list[object] = []

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
        {
            "NodeID": name,
            "Alive": name != "dead",
            "NodeManagerHostname": f"host-{name}",
            "NodeManagerAddress": "10.0.0.1",
        }
        for name in ("a", "b", "lost", "slow", "dead")
    ]
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    monkeypatch.setattr(ray, "remote", lambda _: TaskDouble())

    def get(task: tuple[str, ...]) -> list[str]:
        if task[0] == "lost":
            raise ray.exceptions.TaskUnschedulableError("the node died")
        return list(task[1:])

    monkeypatch.setattr(ray, "wait", lambda tasks, **_: (tasks[:3], tasks[3:]))
    monkeypatch.setattr(ray, "get", get)
    monkeypatch.setattr(ray, "cancel", cancelled.append)

    def affinity(node: str, **_: Any) -> str:
        return node

    monkeypatch.setattr(ray.util.scheduling_strategies, "NodeAffinitySchedulingStrategy", affinity)
    monkeypatch.chdir(tmp_path)
    study = StudyConfig.model_validate({"name": "x", "storage_path": tmp_path})
    folder = StudyFolder(study)
    folder.path.mkdir()
    with pytest.raises(StudyError) as caught:
        check_nodes(study, folder, teacher=None, labels=None, print_line=lines.append)
    assert "node host-b (10.0.0.1): /runs: nothing" in str(caught.value)
    assert "host-a" not in str(caught.value)
    assert node_ids == ["a", "b", "lost", "slow"]
    # A node that is lost meanwhile does not end the study, and none is skipped silently.
    assert [next(name for name in ("host-lost", "host-slow") if name in line) for line in lines] == [
        "host-lost",
        "host-slow",
    ]
    assert cancelled == [("slow",)]
    assert list(tmp_path.iterdir()) == [folder.path]


def test_every_file_that_trials_read_is_compared(tmp_path: Path) -> None:
    names = ("train", "validation", "test")
    files = {name: tmp_path / f"{name}.json" for name in names}
    weights = tmp_path / "backbone.safetensors"
    for path in (*files.values(), weights):
        path.write_bytes(b"{}")
    data = {**{f"{name}_annotations": path for name, path in files.items()}, "image_root": tmp_path}
    base = {"data": data, "student": {"backbone_from": weights}}
    study = StudyConfig.model_validate({"name": "x", "base": base, "storage_path": tmp_path})
    shared = shared_files(study, StudyFolder(study), None, teacher=None, labels=None)
    assert {setting for setting, _ in shared.files.values()} >= {
        "base.data.validation_annotations",
        "base.data.test_annotations",
        "base.student.backbone_from",
    }
    assert shared.folders == {tmp_path: "base.data.image_root", tmp_path / "x": "storage_path"}
