"""Which cluster is used, and the resources of a trial on it; without starting Ray."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Any

import pytest

from sweeps.execution import cluster as cluster_module
from sweeps.execution.cluster import find_address, trial_resources
from sweeps.folder import StudyError
from sweeps.settings.resources import Cluster, ResourcesConfig, TrialResources

LOCAL = Cluster(address=None, num_cpus=8, num_gpus=2)


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


@pytest.mark.parametrize(
    ("resources", "cluster", "expected"),
    [
        # Two GPUs, one a trial: two at a time.
        (ResourcesConfig(), LOCAL, TrialResources(1.0, 1.0, 1, 2)),
        # A third of a GPU each: 6 would fit two GPUs, and 4 fit 8 CPUs at two each.
        (ResourcesConfig(gpus_per_trial=1 / 3, cpus_per_trial=2), LOCAL, TrialResources(2.0, 1 / 3, 2, 4)),
        (ResourcesConfig(gpus_per_trial=0, max_concurrent_trials=3), LOCAL, TrialResources(1.0, 0.0, 1, 3)),
        # More trials at a time than fit would wait.
        (ResourcesConfig(max_concurrent_trials=9), LOCAL, TrialResources(1.0, 1.0, 1, 2)),
        (ResourcesConfig(cpus_per_trial=0.5, threads_per_trial=3), Cluster(None, 2, 0), TrialResources(0.5, 0.0, 3, 4)),
        # A whole GPU until the share is measured; without GPUs none.
        (ResourcesConfig(gpus_per_trial="auto"), LOCAL, TrialResources(1.0, 1.0, 1, 2)),
        (ResourcesConfig(gpus_per_trial="auto"), Cluster(None, 2, 0), TrialResources(1.0, 0.0, 1, 2)),
        # The current size of an autoscaling cluster is no limit.
        (ResourcesConfig(gpus_per_trial=1), Cluster("head:6379", 0, 0), TrialResources(1.0, 1.0, 1, None)),
    ],
)
def test_trial_resources(resources: ResourcesConfig, cluster: Cluster, expected: TrialResources) -> None:
    assert trial_resources(resources, cluster) == expected


def test_measured_share_replaces_auto_only() -> None:
    auto, whole = ResourcesConfig(gpus_per_trial="auto"), ResourcesConfig()
    # Two GPUs at a quarter: eight, and eight CPUs for them.
    assert trial_resources(auto, LOCAL, measured_gpu_share=0.25) == TrialResources(1.0, 0.25, 1, 8)
    assert trial_resources(whole, LOCAL, measured_gpu_share=0.25).num_gpus == 1.0
    assert trial_resources(auto, Cluster(None, 2, 0), measured_gpu_share=0.25).num_gpus == 0.0


@pytest.mark.parametrize(
    ("resources", "message"),
    [
        (ResourcesConfig(cpus_per_trial=9), "resources.cpus_per_trial is 9, but this machine has 8"),
        (ResourcesConfig(gpus_per_trial=4), "resources.gpus_per_trial is 4, but this machine has 2"),
    ],
)
def test_trial_larger_than_machine_is_rejected(resources: ResourcesConfig, message: str) -> None:
    with pytest.raises(StudyError, match=message):
        trial_resources(resources, LOCAL)


def test_start_of_ray_is_retried_after_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    started: list[str] = []

    def slow(timeouts: int) -> None:
        started.clear()

        def init(**given: object) -> None:
            started.append(str(given["address"]))
            if len(started) <= timeouts:
                raise Exception("The current node timed out during startup. This could ...")

        monkeypatch.setattr(ray, "init", init)

    monkeypatch.setattr(ray, "shutdown", lambda: None)
    slow(timeouts=2)
    cluster_module._start_local(Path())
    assert started == ["local"] * 3
    slow(timeouts=99)
    with pytest.raises(StudyError, match="Ray did not start on this machine"):
        cluster_module._start_local(Path())


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
