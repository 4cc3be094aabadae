"""What Ray's own launcher does with a cluster file: machines that it creates on a mock of EC2, and its commands."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, Final, cast
from unittest import mock

import yaml

BOOTSTRAP: Final = "~/ray_bootstrap_config.yaml"
NUM_WORKERS: Final = 2
_LAUNCH_SECONDS: Final = 30.0


@dataclass
class Runner:
    """Stands for the module ``subprocess`` in Ray's launcher: records commands instead of running them."""

    shell_commands: list[str] = field(default_factory=list)
    """What Ray passes to the remote shell: ``bash --login -c -i '...'``."""
    copied: list[tuple[str, str]] = field(default_factory=list)
    """Local and remote paths of rsync."""
    bootstrap: str | None = None
    """The configuration that the head receives."""

    DEVNULL = subprocess.DEVNULL
    CalledProcessError = subprocess.CalledProcessError

    def check_call(self, command: list[str], **_options: object) -> int:
        if command[0] == "rsync":
            source, target = command[-2], command[-1].partition(":")[2]
            self.copied.append((source, target))
            if target == BOOTSTRAP:
                self.bootstrap = Path(source).read_text(encoding="utf-8")
        else:
            assert command[0] == "ssh", command
            self.shell_commands.append(" ".join(command[command.index("bash") :]))
        return 0

    def check_output(self, command: list[str], **options: object) -> bytes:
        self.check_call(command, **options)
        return b""


@dataclass(frozen=True)
class Launch:
    """Head and workers as Ray launched them on a mock of EC2; instances as EC2 describes them."""

    head: Runner
    workers: list[Runner]
    head_instance: dict[str, Any]
    worker_instances: list[dict[str, Any]]
    security_groups: list[dict[str, Any]]


@contextmanager
def mocked_aws(home: Path) -> Iterator[None]:
    """A mock of AWS with invalid credentials and a home folder for the key pair that Ray creates."""
    from moto import mock_aws

    variables = {
        "HOME": str(home),
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    with mock.patch.dict(os.environ, variables), mock_aws(config={"iam": {"load_aws_managed_policies": True}}):
        yield


def launch_on_aws(config: dict[str, Any], folder: Path) -> Launch:
    """Create the head as `ray up` does, then two workers as its autoscaler (v2) does on the head."""
    from ray.autoscaler._private import commands
    from ray.autoscaler._private.aws import config as aws_config

    logging.getLogger("ray").setLevel(logging.ERROR)
    with (
        mocked_aws(folder),
        # Ray waits 15 s each time until roles have reached all of AWS.
        mock.patch.object(aws_config, "time", SimpleNamespace(sleep=lambda _seconds: None, time=time.time)),
        mock.patch("ray._common.usage.usage_lib.show_usage_stats_prompt"),
        mock.patch.object(commands, "POLL_INTERVAL", 0.1),
    ):
        region = config["provider"]["region"]
        completed = commands._bootstrap_config(config, no_config_cache=True)
        head = Runner()
        commands.get_or_create_head_node(
            completed, "cluster.yaml", no_restart=False, restart_only=False, yes=True,
            override_cluster_name=None, _runner=cast("ModuleType", head),
        )  # fmt: skip
        assert head.bootstrap is not None
        workers = _launch_workers(json.loads(head.bootstrap), folder)
        return Launch(head, workers, *_instances(region), security_groups=_security_groups(region))


def _launch_workers(bootstrap: dict[str, Any], folder: Path) -> list[Runner]:
    from ray.autoscaler._private.providers import _get_node_provider
    from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig, FileConfigReader
    from ray.autoscaler.v2.instance_manager.node_provider import NodeProviderAdapter
    from ray.autoscaler.v2.instance_manager.ray_installer import RayInstaller
    from ray.core.generated.instance_manager_pb2 import Instance  # type: ignore[attr-defined]

    # Paths on the head, which Ray reads there.
    bootstrap["file_mounts"] = {remote: str(folder) for remote in bootstrap["file_mounts"]}
    bootstrap["auth"].pop("ssh_private_key")
    file = folder / "ray_bootstrap_config.yaml"
    file.write_text(yaml.safe_dump(bootstrap), encoding="utf-8")
    provider = _get_node_provider(bootstrap["provider"], bootstrap["cluster_name"])
    adapter = NodeProviderAdapter(provider, FileConfigReader(str(file)))
    for number in range(NUM_WORKERS):  # one by one: the mock starts one spot instance for a request of two
        adapter.launch({"gpu_worker": 1}, f"request-{number}")
    deadline = time.monotonic() + _LAUNCH_SECONDS
    while len(found := _workers(adapter.get_non_terminated())) < NUM_WORKERS:
        assert time.monotonic() < deadline, adapter.poll_errors()
        time.sleep(0.1)
    runners = []
    for key in found:
        runner = Runner()
        instance = Instance(instance_type="gpu_worker", cloud_instance_id=key)
        RayInstaller(provider, AutoscalingConfig(bootstrap), runner).install_ray(instance, "10.0.0.1")
        runners.append(runner)
    return runners


def _workers(instances: dict[str, Any]) -> list[str]:
    return [key for key, node in instances.items() if node.node_type == "gpu_worker"]


def _instances(region: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    import boto3

    reservations = boto3.client("ec2", region).describe_instances()["Reservations"]
    instances = [instance for reservation in reservations for instance in reservation["Instances"]]
    kinds = [{tag["Key"]: tag["Value"] for tag in instance["Tags"]}["ray-node-type"] for instance in instances]
    (head,) = [instance for instance, kind in zip(instances, kinds, strict=True) if kind == "head"]
    return head, [instance for instance, kind in zip(instances, kinds, strict=True) if kind == "worker"]


def _security_groups(region: str) -> list[dict[str, Any]]:
    import boto3

    groups: list[dict[str, Any]] = boto3.client("ec2", region).describe_security_groups()["SecurityGroups"]
    return groups
