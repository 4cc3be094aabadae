"""kubernetes/: KubeRay's schema, agreement of the two files, resources, isolation, and the image's content."""

from __future__ import annotations

import gzip
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]
KUBERNETES = REPOSITORY / "kubernetes"


def _read(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((KUBERNETES / name).read_text(encoding="utf-8"))
    return content


def _strict(schema: Any) -> Any:
    """The schema without the keys that Kubernetes would drop: unknown ones are errors."""
    if isinstance(schema, list):
        return [_strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    strict = {key: _strict(value) for key, value in schema.items()}
    preserves = schema.get("x-kubernetes-preserve-unknown-fields", False)
    if schema.get("type") == "object" and "properties" in schema and not preserves:
        strict.setdefault("additionalProperties", False)
    return strict


def _schema(shared_data: Path, plural: str) -> dict[str, Any]:
    """Schema of the stored version of one of KubeRay's resources."""
    file = shared_data.parent / "kuberay" / f"ray.io_{plural}.yaml.gz"
    if not file.is_file():
        pytest.skip(f"no schema of KubeRay at {file}")
    definition = yaml.load(gzip.decompress(file.read_bytes()), yaml.CSafeLoader)
    versions = [version for version in definition["spec"]["versions"] if version["storage"]]
    assert [version["name"] for version in versions] == ["v1"]
    schema: dict[str, Any] = _strict(versions[0]["schema"]["openAPIV3Schema"])
    # Kubernetes defines the content of metadata.
    schema["properties"]["metadata"] = {"type": "object"}
    return schema


@pytest.mark.parametrize(("name", "plural"), [("ray-cluster.yaml", "rayclusters"), ("ray-job.yaml", "rayjobs")])
def test_files_are_valid_by_kuberays_schema(name: str, plural: str, shared_data: Path) -> None:
    # Without jsonschema.validate, which would first validate the large schema itself.
    validator, resource = jsonschema.Draft7Validator(_schema(shared_data, plural)), _read(name)
    validator.validate(resource)
    # A misspelt key is found at any depth.
    cluster = resource["spec"].get("rayClusterSpec", resource["spec"])
    cluster["workerGroupSpecs"][0]["template"]["spec"]["containers"][0]["volumeMount"] = []
    with pytest.raises(jsonschema.ValidationError, match="volumeMount"):
        validator.validate(resource)


def test_job_creates_the_same_cluster() -> None:
    assert _read("ray-job.yaml")["spec"]["rayClusterSpec"] == _read("ray-cluster.yaml")["spec"]


def test_trials_run_on_gpu_workers_only() -> None:
    spec = _read("ray-cluster.yaml")["spec"]
    (worker,) = spec["workerGroupSpecs"]
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert (worker["minReplicas"], worker["replicas"]) == (0, 0)
    limits = worker["template"]["spec"]["containers"][0]["resources"]["limits"]
    entrypoint = _read("ray-job.yaml")["spec"]["entrypoint"]
    # The trial of the job fits a worker.
    assert f"resources.gpus_per_trial={limits['nvidia.com/gpu']} " in entrypoint
    assert f"resources.cpus_per_trial={limits['cpu']}" in entrypoint


def test_entrypoint_is_a_command_of_the_study(monkeypatch: pytest.MonkeyPatch) -> None:
    from sweeps.settings.study import DEMO, load_study

    shell, option, script = shlex.split(_read("ray-job.yaml")["spec"]["entrypoint"])
    assert (shell, option) == ("bash", "-c")
    folder, command = script.split(" && ")
    assert f"WORKDIR {folder.removeprefix('cd ')}" in (REPOSITORY / "Dockerfile").read_text(encoding="utf-8")
    settings = re.findall(r"--set (\S+)", command)
    assert command.startswith("python sweeps/run.py --resume ")
    assert load_study(DEMO, settings).storage_path == Path("/shared/runs")


def test_token_is_required_and_nothing_has_rights_of_root() -> None:
    spec = _read("ray-cluster.yaml")["spec"]
    assert spec["authOptions"] == {"mode": "token"}
    groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    # LoadBalancer and NodePort would open Ray to the outside; KubeRay's default is ClusterIP.
    assert "serviceType" not in spec["headGroupSpec"]
    for pod in (group["template"]["spec"] for group in groups):
        assert pod["securityContext"]["runAsNonRoot"]
        for container in pod["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    mlflow = spec["headGroupSpec"]["template"]["spec"]["containers"][1]
    assert "mlflow server --host 127.0.0.1 " in " ".join(mlflow["args"])


def test_head_is_ready_when_its_mlflow_server_answers() -> None:
    # KubeRay submits the job to a head that is ready: a study without its MLflow server would fail.
    head, mlflow = _read("ray-cluster.yaml")["spec"]["headGroupSpec"]["template"]["spec"]["containers"]
    (uri,) = [variable["value"] for variable in head["env"] if variable["name"] == "MLFLOW_TRACKING_URI"]
    # The kubelet's own requests cannot reach the pod's loopback interface.
    command = mlflow["readinessProbe"]["exec"]["command"]
    assert (command[0], command[-1]) == ("wget", f"{uri}/health")
    assert " wget" in (REPOSITORY / "Dockerfile").read_text(encoding="utf-8")


def test_all_pods_mount_the_same_volume() -> None:
    claim = _read("shared-volume.yaml")
    spec = _read("ray-cluster.yaml")["spec"]
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        claims = [
            volume["persistentVolumeClaim"]["claimName"]
            for volume in pod["volumes"]
            if len(volume) == 2 and "persistentVolumeClaim" in volume
        ]
        assert claims == [claim["metadata"]["name"]]
        for container in pod["containers"]:
            assert {"name": "shared", "mountPath": "/shared"} in container["volumeMounts"]
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]


def test_image_has_what_pyproject_refers_to_and_the_pinned_versions() -> None:
    dockerfile = (REPOSITORY / "Dockerfile").read_text(encoding="utf-8")
    with (REPOSITORY / "pyproject.toml").open("rb") as file:
        pyproject = tomllib.load(file)
    packages = [name for name in pyproject["tool"]["setuptools"]["packages"]["find"]["include"] if "*" not in name]
    copied = re.findall(r"^COPY --chown=hkd:hkd (.+) \S+$", dockerfile, re.MULTILINE)
    sources = {source for line in copied for source in line.split()}
    assert {*packages, pyproject["project"]["readme"], "pyproject.toml", "constraints.txt"} <= sources
    assert all((REPOSITORY / source).exists() for source in sources)
    # .dockerignore lets these through and nothing else.
    admitted = re.findall(r"^!(\S+)$", (REPOSITORY / ".dockerignore").read_text(encoding="utf-8"), re.MULTILINE)
    assert all(any(source == name or source.startswith(f"{name}/") for name in admitted) for source in sources)
    assert re.search(r"^FROM python:3\.\d+\.\d+-slim-\w+$", dockerfile, re.MULTILINE)
    assert "-c constraints.txt -c cluster/constraints.txt" in dockerfile
    # Everything after USER runs without rights.
    assert dockerfile.index("USER hkd") < dockerfile.index("uv pip install")
    ray = re.search(r"^ray==(\S+)$", (REPOSITORY / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    assert ray is not None
    assert _read("ray-cluster.yaml")["spec"]["rayVersion"] == ray[1]
