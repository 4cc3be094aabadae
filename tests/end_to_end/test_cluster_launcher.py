"""ray_cluster.yaml, by Ray's own launcher: machines on a mock of EC2, and its commands on hosts in namespaces."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster import on_hosts
from tests.cluster.launcher import NUM_WORKERS, Launch, launch_on_aws
from tests.cluster.on_hosts.hosts import HEAD, PREPARE_GPU, PREPARE_NFS, prepare

REPOSITORY = Path(__file__).parents[2]
HOSTS_SECONDS = 900
COMMANDS_OF_HOSTS = (
    "curl",
    "ip",
    "rsync",
    "script",
    "setpriv",
    "ss",
    "ssh",
    "sudo",
    "tmux",
    "unshare",
    "/usr/sbin/sshd",
)
CANNOT_START_HOSTS = 77  # exit code of hosts.sh


def _cluster() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((REPOSITORY / "ray_cluster.yaml").read_text(encoding="utf-8"))
    return content


@pytest.fixture(scope="module")
def launch(tmp_path_factory: pytest.TempPathFactory) -> Launch:
    return launch_on_aws(_cluster(), tmp_path_factory.mktemp("aws"))


def run_on_hosts(scenario: str, folder: Path, prepare: str, **variables: str) -> None:
    """Run a scenario of ``on_hosts`` beside three hosts; skip where namespaces or an SSH server are not available."""
    if os.geteuid() != 0:
        pytest.skip("hosts in namespaces need root")
    if missing := [name for name in COMMANDS_OF_HOSTS if shutil.which(name) is None]:
        pytest.skip(f"hosts in namespaces need these commands: {', '.join(missing)}")
    if subprocess.run(["unshare", "--mount", "--net", "--pid", "--fork", "true"], check=False).returncode != 0:
        pytest.skip("this system creates no namespaces")
    scenario_command = [sys.executable, "-m", on_hosts.__name__, scenario, str(folder)]
    done = subprocess.run(
        # The hosts end with the tests, even if these are killed.
        ["setpriv", "--pdeathsig", "KILL", REPOSITORY / "tests/cluster/hosts.sh", "3", folder, *scenario_command],
        cwd=REPOSITORY, env={**os.environ, "PREPARE": prepare, "PYTHONPATH": str(REPOSITORY), **variables},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        check=False, timeout=HOSTS_SECONDS,
    )  # fmt: skip
    if done.returncode == CANNOT_START_HOSTS:
        pytest.skip(f"this system cannot start hosts in namespaces: {done.stdout}")
    assert done.returncode == 0, done.stdout[-8000:]
    assert done.stdout.endswith("all passed\n")


def test_head_and_spot_workers_are_created_from_the_same_image(launch: Launch) -> None:
    head, workers = launch.head_instance, launch.worker_instances
    assert head["InstanceType"] == "m6i.large"
    assert "InstanceLifecycle" not in head
    assert head["ImageId"].startswith("resolve:ssm:/aws/service/")
    # Only the head may start machines.
    assert "IamInstanceProfile" in head
    assert len(workers) == NUM_WORKERS
    for worker in workers:
        assert (worker["InstanceType"], worker["InstanceLifecycle"]) == ("g5.xlarge", "spot")
        assert worker["ImageId"] == head["ImageId"]
        assert "IamInstanceProfile" not in worker
    for instance in (head, *workers):
        assert instance["MetadataOptions"]["HttpTokens"] == "required"


def test_ray_reads_cpus_and_gpus_of_the_worker_type_from_aws(launch: Launch) -> None:
    assert launch.head.bootstrap is not None
    node_types = json.loads(launch.head.bootstrap)["available_node_types"]
    assert node_types["head"]["resources"] == {"CPU": 0}
    # A g5.xlarge has 4 CPUs and one A10G.
    assert {key: node_types["gpu_worker"]["resources"][key] for key in ("CPU", "GPU")} == {"CPU": 4, "GPU": 1}


def test_only_ssh_is_reachable_from_outside(launch: Launch) -> None:
    (group,) = [group for group in launch.security_groups if group["GroupName"] != "default"]
    open_to_addresses = [rule for rule in group["IpPermissions"] if rule["IpRanges"] or rule["Ipv6Ranges"]]
    assert [(rule["IpProtocol"], rule["FromPort"], rule["ToPort"]) for rule in open_to_addresses] == [("tcp", 22, 22)]
    # All other rules admit members of the group only.
    others = [rule for rule in group["IpPermissions"] if rule not in open_to_addresses]
    assert {pair["GroupId"] for rule in others for pair in rule["UserIdGroupPairs"]} == {group["GroupId"]}


def test_recorded_commands_start_a_cluster_that_runs_a_study(launch: Launch, tmp_path: Path) -> None:
    """MLflow answers, the folder is shared, Ray starts with a token, and trials run on both workers."""
    head, *workers = [
        [command.replace("10.0.0.1", HEAD) for command in runner.shell_commands if "node.sh" in command]
        for runner in (launch.head, *launch.workers)
    ]
    names = [[command.partition("node.sh ")[2].split()[0].rstrip(")'") for command in own] for own in (head, *workers)]
    # Ray merges the commands of all nodes into those of the workers once more on the head: it installs twice.
    assert names == [["install", "share", "head"], *[["install", "install", "worker"]] * NUM_WORKERS]
    record = tmp_path / "launch.json"
    content = {
        "head": head,
        "workers": workers,
        "file_mounts": _cluster()["file_mounts"],
        "bootstrap": launch.head.bootstrap,
    }
    record.write_text(json.dumps(content), encoding="utf-8")
    folder = tmp_path / "hosts"
    folder.mkdir()
    run_on_hosts("aws", folder, prepare() + PREPARE_NFS, LAUNCH=str(record), SHARED="/nfs")


def test_documented_commands_work_on_machines_of_your_own(tmp_path: Path) -> None:
    """docs/cluster.md by real SSH: studies, own data, a long study, MLflow, a job; the results come home."""
    run_on_hosts("documented", tmp_path, prepare() + PREPARE_GPU)
