"""What tests execute beside hosts in namespaces, as the command of ``tests/cluster/hosts.sh``.

Two scenarios, each ended by the first assertion that fails:

- ``aws``: the commands that Ray's launcher recorded for ray_cluster.yaml (launcher.py), in the shell that Ray uses.
- ``on_premise``: `ray up` with cluster/on_premise.yaml, a study, and its results.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Final

REPOSITORY: Final = Path(__file__).parents[2]
USER: Final = "hkd-host"
HEAD: Final = "10.77.0.11"
WORKER: Final = "10.77.0.12"
JOIN_SECONDS: Final = 300.0

# The demo with 8 scenes of 96 x 96 pixels, and one epoch each: a trial takes seconds.
TINY_STUDY: Final = (
    "search.num_trials=1",
    "base.data.synthetic.train_images=8",
    "base.data.synthetic.validation_images=4",
    "base.data.image_height=96",
    "base.data.image_width=96",
    "base.teacher.training.total_epochs=1",
    "base.training.total_epochs=1",
    "resources.max_concurrent_trials=2",
)

PREPARE: Final = r"""
uv=/home/hkd-host/.local/share/hkd/uv/bin
mkdir -p "$uv"
{ echo '#!/usr/bin/env bash'; echo "LENDER=LENDER_FOLDER VERSION=UV_VERSION"; cat SOURCE/borrowed_uv.sh; } > "$uv/uv"
chmod 755 "$uv/uv"
chown -R hkd-host: /home/hkd-host/.local
echo 'export HKD_PYTHON=LENDER_FOLDER/python' > /etc/profile.d/hkd.sh
"""
"""In place of uv, which would install 6 GB: virtual environments with the packages of the tests' interpreter."""

PREPARE_NFS: Final = r"""
printf '#!/bin/sh\nexec mount --bind /nfs "$2"\n' > /sbin/mount.nfs4
printf '#!/bin/sh\nexec mount --bind /nfs /shared\n' > /usr/sbin/exportfs
chmod 755 /sbin/mount.nfs4 /usr/sbin/exportfs
"""
"""In place of NFS, which kernels of containers lack: bind mounts of one folder, /nfs."""

METADATA_SERVICE: Final = """
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self, status, text):
        self.send_response(status); self.end_headers(); self.wfile.write(text.encode())
    def do_PUT(self):
        assert self.headers["X-aws-ec2-metadata-token-ttl-seconds"]
        self.answer(200, "a-token")
    def do_GET(self):
        allowed = self.headers["X-aws-ec2-metadata-token"] == "a-token" and self.path == "/latest/meta-data/ami-id"
        self.answer(200 if allowed else 401, "ami-0123456789abcdef0")
http.server.HTTPServer(("169.254.169.254", 80), Handler).serve_forever()
"""
"""EC2's instance metadata service, version 2."""


def prepare() -> str:
    """Commands that prepare a host, for the variable PREPARE of hosts.sh."""
    constraints = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8")
    version = next(line for line in constraints.splitlines() if line.startswith("uv==")).partition("==")[2]
    # Folders of this checkout and of the interpreter may be closed to others, such as /root.
    used = [REPOSITORY, *(Path(folder).resolve() for folder in (sys.prefix, sys.base_prefix))]
    parents = sorted({str(parent) for folder in used for parent in folder.parents})
    text = f"chmod o+x {shlex.join(parents)}" + PREPARE.replace("SOURCE", str(REPOSITORY / "tests" / "cluster"))
    return text.replace("LENDER_FOLDER", str(Path(sys.executable).parent)).replace("UV_VERSION", version)


def _show(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


class Host:
    """A host, by SSH."""

    def __init__(self, address: str, key: Path) -> None:
        options = ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "BatchMode=yes")
        self._ssh = ["ssh", "-i", str(key), *(part for option in options for part in ("-o", option))]
        self._target = f"{USER}@{address}"

    def run(self, command: str) -> str:
        """Output of a command; its failure is an error."""
        _show(f"+ {self._target}: {command[:200]}")
        # A terminal, as Ray's launcher allocates.
        done = subprocess.run(
            [*self._ssh, "-tt", self._target, command],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}: exit code {done.returncode}\n{done.stdout}"
        return done.stdout.replace("\r\n", "\n")

    def copy(self, source: Path, target: str) -> None:
        """Copy a file or a folder's content, as Ray's launcher does."""
        folder = "/" if source.is_dir() else ""
        subprocess.run(
            ["rsync", "--rsh", shlex.join(self._ssh), "-a", "--mkpath", "--exclude", "__pycache__",
             f"{source}{folder}", f"{self._target}:{target.removeprefix('~/')}{folder}"],
            check=True,
        )  # fmt: skip


def in_login_shell(command: str) -> str:
    """A command as Ray's launcher passes it to SSH."""
    from ray.autoscaler._private.command_runner import _with_interactive

    return " ".join(_with_interactive(command))  # type: ignore[no-untyped-call]


def in_ray(head: Host, script: str) -> str:
    """Output of Python code that is connected to the head's cluster."""
    connect = "import ray, time; ray.init(address='auto', logging_level='error')"
    return head.run(in_login_shell(f'python -c "{connect}\n{script}"'))


def wait_for_nodes(head: Host, number: int) -> None:
    """Until Ray's own count of living nodes is ``number``."""
    living = "sum(node['Alive'] for node in ray.nodes())"
    wait = f"while {living} < {number} and time.monotonic() < end: time.sleep(1)"
    output = in_ray(head, f"end = time.monotonic() + {JOIN_SECONDS}\n{wait}\nprint('nodes:', {living})")
    if f"nodes: {number}" not in output:
        raise AssertionError(output + head.run("tail -n 50 /tmp/ray/session_latest/logs/monitor.*"))


def check_services(head: Host, worker: Host) -> None:
    """MLflow answers on loopback only, Ray demands the token, and nobody else can read it."""
    assert "OK" in head.run("curl -fs http://127.0.0.1:5000/health")
    listening = [line.split()[3] for line in head.run("ss -Hltn").splitlines()]
    by_port = {address.rpartition(":")[2]: address for address in listening}
    assert by_port["5000"] == "127.0.0.1:5000"
    # Without ray[default], as in the environment of the tests, there is no dashboard.
    assert by_port.get("8265", "127.0.0.1:8265") == "127.0.0.1:8265"
    for host in (head, worker):
        assert host.run("stat -c %a ~/.ray/auth_token") == "600\n"
    assert head.run("cat ~/.ray/auth_token") == worker.run("cat ~/.ray/auth_token")
    refused = head.run(in_login_shell("RAY_AUTH_MODE=disabled ray status 2>&1 || echo refused"))
    assert "refused" in refused
    # Not in logs, nor in the arguments of processes.
    token = head.run("cat ~/.ray/auth_token").strip()
    found = head.run(
        f"grep -rlsF {token} /tmp/ray ~/mlflow ~/hkd --include='*.log' --include='*.out' --include='*.err' || true"
    )
    assert not found.strip(), found
    assert token not in head.run("ps axww -o args | grep -v grep | grep -v 'bash -c'")


def aws(folder: Path) -> None:
    """Execute the commands of ``FOLDER/../launch.json`` (test_cluster_launcher.py): as Ray wraps them, head first."""
    launch = json.loads(Path(os.environ["LAUNCH"]).read_text(encoding="utf-8"))
    head, worker = Host(HEAD, folder / "key"), Host(WORKER, folder / "key")
    metadata = folder / "metadata.py"
    metadata.write_text(METADATA_SERVICE, encoding="utf-8")
    bootstrap = folder / "ray_bootstrap_config.yaml"
    bootstrap.write_text(launch["bootstrap"], encoding="utf-8")
    assert "resolve:ssm:" in launch["bootstrap"]
    head.copy(metadata, "metadata.py")
    head.copy(bootstrap, "ray_bootstrap_config.yaml")
    head.run("sudo ip address add 169.254.169.254/32 dev lo")
    head.run("(sudo setsid nohup python3 metadata.py > /dev/null 2>&1 &) && sleep 1")
    for host, kind in ((head, "head"), (worker, "worker")):
        for remote, local in launch["file_mounts"].items():
            host.copy(REPOSITORY / local, remote)
        if kind == "worker":
            token = folder / "auth_token"
            token.write_text(head.run("cat ~/.ray/auth_token").strip(), encoding="utf-8")
            token.chmod(0o600)
            host.copy(token, ".ray/auth_token")
        for command in launch[kind]:
            host.run(command)
    # Every command can be repeated: `ray up` does so.
    head.run(launch["head"][-1])
    worker.run(launch["worker"][-1])
    wait_for_nodes(head, 2)
    check_services(head, worker)
    text = head.run("cat ray_bootstrap_config.yaml")
    assert "resolve:ssm:" not in text
    assert text.count("ami-0123456789abcdef0") == launch["bootstrap"].count("resolve:ssm:")
    exports = head.run("cat /etc/exports.d/hkd.exports")
    assert exports.startswith("/shared 10.0.0.0/8(rw,")
    head.run("echo from the head > /shared/data/file")
    assert worker.run("cat ~/hkd/data/file") == "from the head\n"
    resources = in_ray(head, "print(ray.cluster_resources())")
    # Of the worker's instance type; the head executes no trials.
    assert "'GPU': 1.0" in resources
    assert "'CPU': 4.0" in resources


def on_premise(folder: Path) -> None:
    """Start the cluster, run a study, copy its results, stop the cluster: the commands of docs/cluster.md."""
    text = (REPOSITORY / "cluster" / "on_premise.yaml").read_text(encoding="utf-8")
    filled = (
        text.replace("192.0.2.10", HEAD)
        .replace("[192.0.2.11, 192.0.2.12]", f"[{WORKER}]")
        .replace("~/.ssh/id_ed25519", str(folder / "key"))
        .replace("ssh_user: ubuntu", f"ssh_user: {USER}")
    )
    file = folder / "on_premise.yaml"
    file.write_text(filled, encoding="utf-8")
    home = folder / "home"
    home.mkdir()
    environment = {
        **os.environ,
        "HOME": str(home),
        # Of Ray's launcher: its cache and the state of the cluster.
        "TMPDIR": str(folder),
        "RAY_TMPDIR": str(folder),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }

    def ray(*arguments: str) -> str:
        _show(f"+ ray {shlex.join(arguments)}")
        done = subprocess.run(
            ["ray", *arguments], cwd=REPOSITORY, env=environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
        return done.stdout

    ray("up", "-y", str(file))
    head, worker = Host(HEAD, folder / "key"), Host(WORKER, folder / "key")
    wait_for_nodes(head, 2)
    check_services(head, worker)
    settings = " ".join(f"--set {setting}" for setting in TINY_STUDY)
    output = ray("exec", str(file), f"cd hkd && python sweeps/run.py --resume {settings}")
    assert "demo" in output
    ray("exec", str(file), "cd hkd && python analysis/pareto.py --study demo --out /shared/reports/demo")
    ray("rsync-down", str(file), "/shared/runs/", f"{folder}/runs/")
    ray("rsync-down", str(file), "/shared/reports/", f"{folder}/reports/")
    assert list((folder / "runs" / "demo").rglob("*.safetensors"))
    assert (folder / "reports" / "demo" / "report.html").is_file()
    ray("down", "-y", str(file))


def main() -> None:
    """Run the scenario that the command line names."""
    parser = argparse.ArgumentParser()
    parser.add_argument("scenario", choices=("aws", "on_premise"))
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    {"aws": aws, "on_premise": on_premise}[options.scenario](options.folder)
    _show("all passed")


if __name__ == "__main__":
    main()
