"""ray_cluster.yaml: Ray's schema, node types, open ports, installation and shared folder."""

from __future__ import annotations

import re
import subprocess
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).parents[1]
COMMAND_KEYS = (
    "setup_commands",
    "head_setup_commands",
    "worker_setup_commands",
    "head_start_ray_commands",
    "worker_start_ray_commands",
)


@pytest.fixture(scope="module")
def cluster() -> dict[str, Any]:
    """The file with Ray's defaults, as `ray up` completes it before it calls AWS."""
    from ray.autoscaler._private.util import prepare_config

    raw = yaml.safe_load((REPOSITORY / "ray_cluster.yaml").read_text(encoding="utf-8"))
    prepared: dict[str, Any] = prepare_config(raw)
    return prepared


def _commands(cluster: dict[str, Any]) -> list[str]:
    return [command for key in COMMAND_KEYS for command in cluster[key]]


def test_file_is_valid_by_rays_schema(cluster: dict[str, Any]) -> None:
    from ray.autoscaler._private.util import validate_config

    validate_config(cluster)
    # The schema rejects a misspelt key.
    with pytest.raises(Exception, match="max_worker"):
        validate_config({**cluster, "max_worker": 3})


def test_trials_run_on_spot_gpu_workers_only(cluster: dict[str, Any]) -> None:
    head, worker = cluster["available_node_types"]["head"], cluster["available_node_types"]["gpu_worker"]
    assert cluster["head_node_type"] == "head"
    assert head["resources"] == {"CPU": 0}
    assert any("ray start --head --num-cpus=0" in command for command in cluster["head_start_ray_commands"])
    assert (worker["min_workers"], worker["max_workers"]) == (0, cluster["max_workers"])
    assert worker["resources"]["GPU"] == 1
    assert worker["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert "InstanceMarketOptions" not in head["node_config"]
    assert head["node_config"]["ImageId"] == worker["node_config"]["ImageId"]


def test_mlflow_and_dashboard_listen_on_loopback_and_no_port_is_opened(cluster: dict[str, Any]) -> None:
    commands = "\n".join(_commands(cluster))
    assert re.search(r"(?<!\d)0\.0\.0\.0", commands) is None
    assert "mlflow server --host 127.0.0.1 " in commands
    assert "--dashboard-host=127.0.0.1" in commands
    # Ray's ports listen on all interfaces: keep Ray's default rules, which admit SSH and traffic between the nodes.
    assert "security_group" not in cluster["provider"]


def test_commands_are_valid_shell(cluster: dict[str, Any]) -> None:
    for command in _commands(cluster):
        checked = subprocess.run(["bash", "-n", "-c", command], capture_output=True, text=True, check=False)
        assert checked.returncode == 0, f"{command}: {checked.stderr}"


def test_checkout_is_installed_on_all_nodes(cluster: dict[str, Any]) -> None:
    mounts = cluster["file_mounts"]
    assert all(remote == f"/home/ubuntu/hkd/{local}" for remote, local in mounts.items())
    with (REPOSITORY / "pyproject.toml").open("rb") as file:
        pyproject = tomllib.load(file)
    # Everything that pyproject.toml refers to: packages and readme.
    packages = [name for name in pyproject["tool"]["setuptools"]["packages"]["find"]["include"] if "*" not in name]
    assert set(mounts.values()) == {*packages, pyproject["project"]["readme"], "pyproject.toml", "constraints.txt"}
    install = next(command for command in cluster["setup_commands"] if "pip install" in command)
    assert "-c constraints.txt -e ." in install
    # rsync excludes a name at any depth, unless the pattern starts with a slash.
    sent = [path for local in mounts.values() for path in (REPOSITORY / local, *(REPOSITORY / local).rglob("*"))]
    assert all(path.exists() for path in sent)
    excluded = {
        path.relative_to(REPOSITORY)
        for path in sent
        for part in path.relative_to(REPOSITORY).parts
        if any(fnmatch(part, pattern) for pattern in cluster["rsync_exclude"])
    }
    assert REPOSITORY / "hkd" / "data" / "store.py" in sent
    assert all("__pycache__" in path.parts for path in excluded)
    # Ray appends setup_commands to those of each node type.
    assert install in cluster["head_setup_commands"]
    assert install in cluster["worker_setup_commands"]


def test_documented_study_finds_uploaded_data() -> None:
    from sweeps.settings.study import load_study

    text = (REPOSITORY / "ray_cluster.yaml").read_text(encoding="utf-8")
    header = " ".join(line.removeprefix("#").strip() for line in text.partition("cluster_name")[0].splitlines())
    sent = re.findall(r"ray rsync-up ray_cluster.yaml (\S+)/ (\S+)/", header)
    study = load_study(REPOSITORY / "sweeps/configs/pennfudan.yaml", re.findall(r"--set ([^\s']+)", header))
    data = study.base.data
    assert data.train_annotations is not None
    assert data.validation_annotations is not None
    # `hkd data pennfudan --root downloads/PennFudanPed --out data/pennfudan` writes annotations and copies no images.
    assert sent == [
        ("data/pennfudan", str(data.train_annotations.parent)),
        ("downloads/PennFudanPed/PNGImages", str(data.image_root)),
    ]
    assert data.validation_annotations.parent == data.train_annotations.parent
    assert study.storage_path.is_relative_to("/shared")
    assert study.resources.gpus_per_trial == 1


def test_all_nodes_share_one_folder(cluster: dict[str, Any]) -> None:
    mount = cluster["worker_start_ray_commands"][0]
    assert mount.endswith("mount -t nfs4 $RAY_HEAD_IP:/shared /shared")
    assert any("sudo exportfs" in command and "/shared " in command for command in cluster["head_setup_commands"])
