"""The commands that Ray's launcher recorded for ray_cluster.yaml, on a head and two workers, and a study on these."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from tests.cluster.on_hosts.checks import check_services, check_tiny_study, nodes_of_trials
from tests.cluster.on_hosts.hosts import (
    HEAD,
    REPOSITORY,
    TINY_STUDY,
    WORKERS,
    Host,
    in_login_shell,
    in_ray,
    wait_for_nodes,
)

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


def aws(folder: Path) -> None:
    """Execute the commands in the file that LAUNCH names (test_cluster_launcher.py), as Ray wraps them; head first."""
    launch = json.loads(Path(os.environ["LAUNCH"]).read_text(encoding="utf-8"))
    head, workers = Host(HEAD, folder / "key"), [Host(address, folder / "key") for address in WORKERS]
    start_metadata_service(head, folder)
    bootstrap = folder / "ray_bootstrap_config.yaml"
    bootstrap.write_text(launch["bootstrap"], encoding="utf-8")
    assert "resolve:ssm:" in launch["bootstrap"]
    head.copy(bootstrap, "ray_bootstrap_config.yaml")

    def set_up(host: Host, commands: list[str]) -> None:
        for remote, local in launch["file_mounts"].items():
            host.copy(REPOSITORY / local, remote)
        if host is not head:
            host.copy(token, ".ray/auth_token")
        for command in commands:
            host.run(command)
        host.run(commands[-1])  # every command can be repeated: `ray up` does so

    token = folder / "auth_token"
    set_up(head, launch["head"])
    token.write_text(head.run("cat ~/.ray/auth_token").strip(), encoding="utf-8")
    token.chmod(0o600)
    with ThreadPoolExecutor() as pool:  # at the same time, as Ray does
        list(pool.map(set_up, workers, launch["workers"]))
    wait_for_nodes(head, 1 + len(workers))
    check_services(head, workers)
    text = head.run("cat ray_bootstrap_config.yaml")
    assert "resolve:ssm:" not in text
    assert text.count("ami-0123456789abcdef0") == launch["bootstrap"].count("resolve:ssm:")
    exports = head.run("cat /etc/exports.d/hkd.exports")
    assert exports.startswith("/shared 10.0.0.0/8(rw,")
    resources = in_ray(head, "print(ray.cluster_resources())")
    # Of two workers' instance type; the head executes no trials.
    assert "'GPU': 2.0" in resources
    assert "'CPU': 8.0" in resources
    settings = " ".join(f"--set {setting}" for setting in TINY_STUDY)
    study = f"cd hkd && python sweeps/run.py --resume --set resources.gpus_per_trial=1 {settings}"
    head.run(in_login_shell(study))
    # A trial needs the one GPU that a worker pretends to have.
    nodes = nodes_of_trials(head)
    assert nodes == set(WORKERS), nodes
    check_tiny_study(folder / "shared" / "runs")


def start_metadata_service(head: Host, folder: Path) -> None:
    metadata = folder / "metadata.py"
    metadata.write_text(METADATA_SERVICE, encoding="utf-8")
    head.copy(metadata, "metadata.py")
    head.run("sudo ip address add 169.254.169.254/32 dev lo")
    head.run("(sudo setsid nohup python3 metadata.py > /dev/null 2>&1 &) && sleep 1")
