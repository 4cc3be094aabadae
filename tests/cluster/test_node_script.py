"""cluster/node.sh on a machine with a home folder of its own and doubles of the system's commands."""

from __future__ import annotations

import contextlib
import http.server
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

NODE_SCRIPT = Path(__file__).parents[2] / "cluster" / "node.sh"
SECONDS = 60


class Machine:
    """A home folder with a copy of node.sh in ``hkd/``, and commands that note their arguments and succeed."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.checkout = home / "hkd"
        (self.checkout / "cluster").mkdir(parents=True)
        shutil.copy(NODE_SCRIPT, self.checkout / "cluster")
        (self.checkout / "constraints.txt").write_text("uv==1.2.3\n", encoding="utf-8")
        (home / ".hkd_profile").touch()
        (home / ".ray").mkdir()
        (home / ".ray" / "auth_token").write_text("token", encoding="utf-8")
        self.calls = home / "calls"
        for name in ("sudo", "python3", "ray", "mountpoint"):
            self.replace(name, "exit 0")

    def replace(self, name: str, script: str, folder: str = "bin") -> None:
        """Let a command note its arguments and execute ``script``."""
        file = self.home / folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"#!/usr/bin/env bash\necho {name} \"$@\" >> '{self.calls}'\n{script}\n", encoding="utf-8")
        file.chmod(0o755)

    def run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", str(self.checkout / "cluster" / "node.sh"), *arguments],
            env={"HOME": str(self.home), "PATH": f"{self.home / 'bin'}:{os.environ['PATH']}", **variables},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=SECONDS,
        )  # fmt: skip

    def called(self) -> str:
        return self.calls.read_text(encoding="utf-8") if self.calls.exists() else ""


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture
def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def test_checkout_of_somebody_is_not_replaced(machine: Machine) -> None:
    (machine.checkout / ".git").mkdir()
    done = machine.run("install")
    assert done.returncode == 1
    assert f"{machine.checkout} is a git repository: move it away" in done.stderr
    assert machine.called() == ""


@pytest.mark.parametrize("name", ["runs", "data"])
def test_folder_in_place_of_a_shared_one_is_refused(machine: Machine, name: str) -> None:
    (machine.checkout / name).mkdir()
    done = machine.run("install")
    assert done.returncode == 1
    assert f"{machine.checkout / name} exists and is no link: move it away" in done.stderr
    assert f"/shared/{name}" in done.stderr
    assert list((machine.checkout / name).iterdir()) == []  # `ln` would put its link there


def test_shared_folder_is_not_exported_to_everyone_if_clients_are_unknown(machine: Machine) -> None:
    machine.replace("mountpoint", "exit 1")
    machine.replace("mkdir", "exit 0")  # of /shared
    machine.replace("python", "exit 1", "hkd/.venv/bin")
    done = machine.run("share")
    assert done.returncode != 0
    # exports(5): a line without clients admits every host.
    assert "exports" not in machine.called()


def test_token_of_a_worker_is_readable_by_its_user_only(machine: Machine) -> None:
    token = machine.home / ".ray" / "auth_token"
    token.chmod(0o644)
    assert machine.run("worker", "ray", "start").returncode == 0
    assert oct(token.stat().st_mode & 0o777) == "0o600"


def test_mlflow_server_of_somebody_else_is_not_used(machine: Machine) -> None:
    class Healthy(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_arguments: object) -> None:
            pass

    machine.replace("mlflow", "exit 1")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Healthy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        done = machine.run("head", "ray", "start", HKD_MLFLOW_PORT=str(server.server_port))
        server.shutdown()
    assert done.returncode == 1
    assert f"port {server.server_port} is used by another process" in done.stderr
    assert "HKD_MLFLOW_PORT" in done.stderr
    assert "mlflow" not in machine.called()


def test_end_of_the_mlflow_server_is_reported_with_its_log(machine: Machine, free_port: int) -> None:
    machine.replace("mlflow", "echo the database has another schema >&2; exit 1")
    done = machine.run("head", "ray", "start", HKD_MLFLOW_PORT=str(free_port))
    assert done.returncode == 1
    assert "the database has another schema" in done.stderr
    assert f"its log: {machine.home}/mlflow/server.log" in done.stderr


def test_mlflow_server_is_started_again_without_ray(machine: Machine, free_port: int) -> None:
    serve = f'exec {sys.executable} -m http.server --bind 127.0.0.1 "$5"'
    machine.replace("mlflow", f'echo $$ > "$HOME/pid"; touch health; {serve}')
    pids = []
    try:
        for _ in range(2):
            done = machine.run("mlflow", HKD_MLFLOW_PORT=str(free_port))
            assert done.returncode == 0, done.stderr
            pids.append(int((machine.home / "pid").read_text(encoding="utf-8")))
            os.kill(pids[-1], signal.SIGKILL)
            # flock(1) notices the end of its command: the lock is free.
            lock = ["flock", "--timeout", str(SECONDS), str(machine.home / "mlflow" / "lock"), "true"]
            assert subprocess.run(lock, check=False).returncode == 0
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    assert len(set(pids)) == 2
    assert "ray" not in machine.called().split()


def test_second_start_keeps_the_running_mlflow_server(machine: Machine, free_port: int) -> None:
    # Its fifth argument is the port; the file answers requests of /health.
    serve = f'exec {sys.executable} -m http.server --bind 127.0.0.1 "$5"'
    machine.replace("mlflow", f'echo $$ > "$HOME/pid"; touch health; {serve}')
    try:
        for _ in range(2):
            done = machine.run("head", "ray", "start", HKD_MLFLOW_PORT=str(free_port))
            assert done.returncode == 0, done.stderr
        assert machine.called().count(f"mlflow server --host 127.0.0.1 --port {free_port}") == 1
    finally:
        os.kill(int((machine.home / "pid").read_text(encoding="utf-8")), signal.SIGTERM)
