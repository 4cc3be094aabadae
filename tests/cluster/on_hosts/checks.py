"""What is checked of a cluster of hosts and of its study."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from pathlib import Path

from sweeps.trials.records.trial import read_trials
from tests.cluster.on_hosts.hosts import Host, in_login_shell, in_ray


def check_services(head: Host, workers: Sequence[Host]) -> None:
    """MLflow answers on loopback only, Ray demands the token, nobody else can read it, and /shared is shared."""
    assert "OK" in head.run("curl -fs http://127.0.0.1:5000/health")
    listening = [line.split()[3] for line in head.run("ss -Hltn").splitlines()]
    by_port = {address.rpartition(":")[2]: address for address in listening}
    assert by_port["5000"] == "127.0.0.1:5000"
    assert by_port["8265"] == "127.0.0.1:8265"
    token = head.run("cat ~/.ray/auth_token")
    assert head.run("stat -c %a ~/.ray/auth_token") == "600\n"
    head.run("echo from the head > /shared/data/file")
    for worker in workers:
        seen = worker.run("cat ~/.ray/auth_token && echo && stat -c %a ~/.ray/auth_token && cat ~/hkd/data/file")
        assert seen.split() == f"{token} 600 from the head".split()
    refused = head.run(in_login_shell("RAY_AUTH_MODE=disabled ray status 2>&1 || echo refused"))
    assert "refused" in refused
    # Not in logs, nor in the arguments of processes.
    logs = "--include='*.log' --include='*.out' --include='*.err'"
    found = head.run(f"grep -rlsF {token.strip()} /tmp/ray ~/mlflow ~/hkd {logs} || true")
    assert not found.strip(), found
    assert token.strip() not in head.run("ps axww -o args | grep -v grep | grep -v 'bash -c'")


def pids_of(host: Host, pattern: str) -> list[str]:
    """Ids of the processes of a host whose arguments match."""
    return host.run(f"pgrep -f '{pattern}' || true").split()


def kill_mlflow(head: Host) -> None:
    """Kill all processes of the MLflow server."""
    (pid,) = pids_of(head, "^flock --nonblock lock mlflow")
    head.run(f"kill -KILL -- -$(ps -o pgid= -p {pid} | tr -d ' ')")


def nodes_of_trials(head: Host) -> set[str]:
    """Addresses of the nodes on which workers of trials have run, by Ray's own records of all studies."""
    # Tune's name for the class of a trial with its resources.
    is_trial = "actor['ActorClassName'].endswith('ResourceTrainable')"
    actors = f"[actor for actor in ray._private.state.actors().values() if {is_trial}]"
    addresses = f"sorted({{actor['Address']['IPAddress'] for actor in {actors}}})"
    output = in_ray(head, f"import ray._private.state\nprint('nodes of trials:', {addresses})")
    (line,) = [line for line in output.splitlines() if line.startswith("nodes of trials: ")]
    return set(ast.literal_eval(line.partition(": ")[2]))


def check_tiny_study(runs: Path, name: str = "demo", num_sampled: int = 1) -> None:
    """The baselines and the sampled trials of the study finished, each with its weights in ``runs``."""
    trials = read_trials(runs / name / "trials.journal")  # the sampled ones
    assert [(trial.status, trial.attempts) for trial in trials] == [("finished", 1)] * num_sampled
    with_weights = {path.parent for path in (runs / name).glob("*/checkpoint_*/student.safetensors")}
    sampled = {runs / name / trial.checkpoint for trial in trials if trial.checkpoint is not None}
    assert sampled < with_weights, with_weights
    assert len(with_weights) == num_sampled + 2, with_weights  # with the baselines
