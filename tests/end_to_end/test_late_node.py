"""A node that joins the cluster of a running study, and does not see its folder."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.clusters import add_machine
from tests.end_to_end.processes import REPOSITORY, Command
from tests.end_to_end.test_spot_loss import TRIALS, trials_of
from tests.sweeps.tiny import tiny_trial, write_tiny_study

HIDE = 'mount -t tmpfs none "$1"; shift; exec "$@"'
"""Program of a shell that runs a command for which a folder is empty."""
IN_OWN_MOUNTS = ("unshare", "--mount", "sh", "-ec", HIDE, "sh")


NODE = """
import sys, time
from ray._private.node import Node
from ray._private.parameter import RayParams

ip, head = "127.0.0.1", sys.argv[1]
settings = {"min_worker_port": 0, "max_worker_port": 0, "node_manager_port": 0, "object_store_memory": 150 * 2**20}
parameters = RayParams(gcs_address=head, node_ip_address=ip, num_cpus=2, include_log_monitor=False, **settings)
parameters.dashboard_agent_listen_port = None
node = Node(parameters, head=False, shutdown_at_exit=False, spawn_reaper=False)
time.sleep(1000)
"""
"""Starts a node on the loopback interface, as Ray's ``cluster_utils`` does."""


def start_machine(address: str, hidden: Path) -> Command:
    """Start a node on which a folder is empty; it ends with the command."""
    program = "import os, sys; os.execvp(sys.argv[1], sys.argv[1:])"
    return Command(["-c", program, *IN_OWN_MOUNTS, str(hidden), sys.executable, "-c", NODE, address], hidden.parent)


def test_trials_leave_a_late_node_that_does_not_see_their_folder(cluster: Any, tmp_path: Path) -> None:
    probe = [*IN_OWN_MOUNTS, str(tmp_path), "true"]
    if shutil.which("unshare") is None or subprocess.run(probe, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting takes root, on Linux")
    base = {**tiny_trial(tmp_path / "cache"), "teacher": None}
    space = {"student.pyramid_channels": {"type": "int", "low": 8, "high": 32, "step": 8}}
    write_tiny_study(tmp_path / "tiny.yaml", tmp_path / "cache", base=base, space=space, baselines={})
    arguments = [str(REPOSITORY / "sweeps" / "run.py"), "--config", "tiny.yaml"]
    with Command(arguments, tmp_path, {"RAY_ADDRESS": cluster.address}) as command:
        command.wait_for("^Trials: ")  # the checks of all nodes have passed
        with start_machine(cluster.address, tmp_path / "runs"):
            line = command.wait_for(r"trial-\d+: queued again \(1 of 3\): node \S+ \(127.0.0.1\) does not see")
        add_machine(cluster)
        assert command.end() == 0, command.output
    folder = tmp_path / "runs" / "tiny"
    assert re.search(rf"there is no folder {re.escape(str(folder))} \(storage_path\)", line)
    assert {key: trial.status for key, trial in trials_of(tmp_path).items()} == dict.fromkeys(TRIALS, "finished")
