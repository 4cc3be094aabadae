"""ray_cluster.yaml and its siblings: Ray's schema, the same commands, what is copied, ports, and node.sh."""

from __future__ import annotations

import re
import subprocess
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.document import documented_commands

REPOSITORY = Path(__file__).parents[2]
NODE_SCRIPT = REPOSITORY / "cluster" / "node.sh"
FILES = ("ray_cluster.yaml", "cluster/on_premise.yaml", "cluster/gcp.yaml")
SHARED_KEYS = (
    "file_mounts",
    "rsync_exclude",
    "cluster_synced_files",
    "setup_commands",
    "head_setup_commands",
    "worker_start_ray_commands",
)
COMMAND_KEYS = ("setup_commands", "head_setup_commands", "head_start_ray_commands", "worker_start_ray_commands")


def _read(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((REPOSITORY / name).read_text(encoding="utf-8"))
    return content


@pytest.mark.parametrize("name", FILES)
def test_files_are_valid_by_rays_schema(name: str) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = prepare_config(_read(name))
    for node_type in config["available_node_types"].values():
        node_type.setdefault("resources", {})  # Ray asks AWS, before it validates
    validate_config(config)
    # The schema rejects a misspelt key.
    with pytest.raises(Exception, match="max_worker"):
        validate_config({**config, "max_worker": 3})


@pytest.mark.parametrize("name", FILES[1:])
def test_siblings_have_the_commands_of_ray_cluster_yaml(name: str) -> None:
    expected, sibling = _read("ray_cluster.yaml"), _read(name)
    for key in SHARED_KEYS:
        assert sibling[key] == expected[key], key
    # On machines of your own, the head executes trials, too, and Ray's older autoscaler starts the workers.
    (head,) = expected["head_start_ray_commands"]
    (sibling_head,) = sibling["head_start_ray_commands"]
    own = "RAY_enable_autoscaler_v2=0 " + head.replace(" --num-cpus=0", "")
    assert sibling_head == (own if name == "cluster/on_premise.yaml" else head)
    assert "--num-cpus=0" in head


@pytest.mark.parametrize("name", FILES)
def test_all_commands_are_those_of_node_sh(name: str) -> None:
    config = _read(name)
    documented = re.findall(r"^#   (\w+)(?: ray \.\.\.)? {2,}", NODE_SCRIPT.read_text(encoding="utf-8"), re.MULTILINE)
    commands = [command for key in COMMAND_KEYS for command in config[key]]
    used = [
        re.match(r"(?:RAY_enable_autoscaler_v2=0 )?bash ~/hkd/cluster/node\.sh (\w+)", command) for command in commands
    ]
    assert documented == ["install", "share", "head", "worker", "mlflow"]
    assert [match and match[1] for match in used] == documented[:-1]
    assert config["file_mounts"]["~/hkd/cluster"] == "cluster"
    # Ray warns if it does not find these words in the file.
    assert "ray start --head" in config["head_start_ray_commands"][0]
    assert "--autoscaling-config=~/ray_bootstrap_config.yaml" in config["head_start_ray_commands"][0]


def test_unknown_command_of_node_sh_is_refused() -> None:
    done = subprocess.run(["bash", str(NODE_SCRIPT), "start"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "'start'" in done.stderr
    assert "install, share, head, worker, mlflow" in done.stderr


def test_mlflow_and_dashboard_listen_on_loopback_and_token_is_required() -> None:
    script = NODE_SCRIPT.read_text(encoding="utf-8")
    assert re.search(r"(?<!\d)0\.0\.0\.0", script) is None
    assert "mlflow server --host 127.0.0.1 " in script
    assert "export RAY_AUTH_MODE=token" in script
    for name in FILES:
        config = _read(name)
        assert "--dashboard-host=127.0.0.1" in config["head_start_ray_commands"][0]
        assert config["cluster_synced_files"] == ["~/.ray/auth_token"]
        # Ray's default rules admit SSH and traffic between the nodes.
        assert "security_group" not in config["provider"]


def test_workers_are_spot_instances_unless_one_line_is_deleted() -> None:
    text = (REPOSITORY / "ray_cluster.yaml").read_text(encoding="utf-8")
    worker = yaml.safe_load(text)["available_node_types"]["gpu_worker"]["node_config"]
    assert worker["InstanceMarketOptions"] == {"MarketType": "spot"}
    on_demand = "\n".join(line for line in text.splitlines() if "delete this line for on-demand" not in line)
    assert "InstanceMarketOptions" not in on_demand
    del worker["InstanceMarketOptions"]
    assert yaml.safe_load(on_demand)["available_node_types"]["gpu_worker"]["node_config"] == worker


def test_versions_are_exact() -> None:
    python = re.search(r"HKD_PYTHON:-(.+?)}", NODE_SCRIPT.read_text(encoding="utf-8"))
    assert python is not None
    assert re.fullmatch(r"3\.\d+\.\d+", python[1])
    # node.sh installs this version of uv.
    constraints = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8")
    assert re.search(r"^uv==\d", constraints, re.MULTILINE)
    # The nodes' further packages are in no other file, so that the two never disagree.
    names = {line.partition("==")[0] for line in constraints.splitlines()}
    further = (REPOSITORY / "cluster" / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert all("==" in line for line in further)
    assert names.isdisjoint(line.partition("==")[0] for line in further)


def test_what_the_installation_needs_is_copied() -> None:
    config = _read("ray_cluster.yaml")
    mounts = config["file_mounts"]
    assert all(remote == f"~/hkd/{local}" for remote, local in mounts.items())
    with (REPOSITORY / "pyproject.toml").open("rb") as file:
        pyproject = tomllib.load(file)
    # Everything that pyproject.toml refers to: packages and readme.
    packages = [name for name in pyproject["tool"]["setuptools"]["packages"]["find"]["include"] if "*" not in name]
    readme = pyproject["project"]["readme"]
    assert set(mounts.values()) == {*packages, readme, "cluster", "pyproject.toml", "constraints.txt"}
    # rsync excludes a name at any depth, unless the pattern starts with a slash.
    sent = [path for local in mounts.values() for path in (REPOSITORY / local, *(REPOSITORY / local).rglob("*"))]
    assert all(path.exists() for path in sent)
    excluded = [
        path
        for path in sent
        for part in path.relative_to(REPOSITORY).parts
        if any(fnmatch(part, pattern) for pattern in config["rsync_exclude"])
    ]
    assert REPOSITORY / "hkd" / "data" / "store.py" in sent
    assert all("__pycache__" in path.parts for path in excluded)


@pytest.mark.parametrize("name", FILES)
def test_commands_of_the_comment_fit_on_one_line_each(name: str) -> None:
    header = (REPOSITORY / name).read_text(encoding="utf-8").partition("cluster_name")[0]
    commands = re.findall(r"^#   (.+)$", header, re.MULTILINE)
    assert [command.split()[1] for command in commands] == ["up", "exec", "rsync-down", "down"]
    for command in commands:
        assert name in command
        checked = subprocess.run(["bash", "-n", "-c", command], capture_output=True, text=True, check=False)
        assert checked.returncode == 0, f"{command}: {checked.stderr}"


def test_working_directory_of_a_job_is_small_and_without_history() -> None:
    from ray._private.runtime_env.packaging import _get_excludes

    excludes = _read("cluster/job_environment.yaml")["excludes"]
    ignored = (REPOSITORY / ".gitignore").read_text(encoding="utf-8").splitlines()
    is_excluded = _get_excludes(REPOSITORY, [*excludes, *ignored])  # both, as Ray does
    sent = [path for path in REPOSITORY.rglob("*") if not is_excluded(path)]
    files = [path for path in sent if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 10 * 2**20  # Ray's limit is 100 MiB
    names = {str(path.relative_to(REPOSITORY)) for path in files}
    assert {"sweeps/run.py", "sweeps/configs/demo.yaml", "hkd/data/store.py", "analysis/pareto.py"} <= names
    assert not any(name.startswith((".git/", ".venv", "tests/")) for name in names)


def _documented_commands() -> list[str]:
    return [command for block in documented_commands() for command in block]


def test_documented_commands_are_complete_lines_that_can_be_pasted() -> None:
    commands = _documented_commands()
    assert len(commands) > 20
    programs = {"docker", "export", "kubectl", "make", "python", "ray", "sed", "source", "umask", "uv"}
    for command in commands:
        assert command.split()[0] in programs, command
        checked = subprocess.run(["bash", "-n", "-c", command], capture_output=True, text=True, check=False)
        assert checked.returncode == 0, f"{command}: {checked.stderr}"
    named = {
        match
        for command in commands
        for match in re.findall(r"(?:ray_cluster|cluster/\w+|kubernetes/[\w-]+)\.yaml", command)
    }
    assert {"ray_cluster.yaml", "cluster/on_premise.yaml", "kubernetes/ray-job.yaml"} <= named
    assert all((REPOSITORY / name).is_file() for name in named)


def test_documented_study_finds_uploaded_data() -> None:
    from sweeps.settings.study import load_study

    commands = _documented_commands()
    sent = [match.groups() for command in commands if (match := re.match(r"ray rsync-up \S+ (\S+)/ (\S+)/$", command))]
    (command,) = [command for command in commands if "--config my.yaml" in command]
    (study_file,) = [
        match[1] for command in commands if (match := re.match(r"ray rsync-up \S+ (\S+\.yaml) \S+my.yaml", command))
    ]
    study = load_study(REPOSITORY / study_file, re.findall(r"--set ([^\s']+)", command))
    data = study.base.data
    assert isinstance(data.train_annotations, Path)
    assert isinstance(data.validation_annotations, Path)
    # node.sh makes data/ of the nodes' checkout a link to /shared/data.
    # `hkd data pennfudan --root downloads/PennFudanPed --out data/pennfudan` writes annotations and copies no images.
    assert sent == [
        ("data/pennfudan", f"/shared/{data.train_annotations.parent}"),
        ("downloads/PennFudanPed/PNGImages", f"/shared/{data.image_root}"),
    ]
    assert data.validation_annotations.parent == data.train_annotations.parent
    assert study.storage_path == Path("runs")
    assert study.resources.gpus_per_trial == 1
