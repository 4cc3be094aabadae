"""The resources of a trial on a cluster, and the start of a local one; without starting Ray."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweeps.execution.cluster import connection as cluster_module
from sweeps.execution.cluster.address import is_of_this_machine
from sweeps.execution.cluster.connection import trial_resources
from sweeps.folder import StudyError
from sweeps.settings.resources import Cluster, ResourcesConfig, TrialResources

LOCAL = Cluster(address=None, num_cpus=8, num_gpus=2)


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


def test_refused_authentication_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    def refuse(**_: object) -> None:
        raise ray.exceptions.AuthenticationError("invalid token")

    monkeypatch.setattr(cluster_module, "_check_token", lambda _: None)
    monkeypatch.setattr(ray, "init", refuse)
    with pytest.raises(StudyError, match=r"10\.0\.0\.1:6379 refused .*authentication.*RAY_AUTH_TOKEN_PATH"):
        cluster_module._join("10.0.0.1:6379")


@pytest.mark.parametrize(
    ("address", "expected"),
    [("127.0.0.1:6379", True), ("localhost:6379", True), ("192.0.2.1:6379", False), (":1", False)],
)
def test_token_is_sent_to_addresses_of_this_machine(address: str, expected: bool) -> None:
    # 192.0.2.0/24 is reserved for documentation (RFC 5737).
    assert is_of_this_machine(address) == expected
