"""Ray clusters on the loopback interface, for the tests of the fixture ``cluster``."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

from ray.cluster_utils import Cluster


def start_head() -> Any:
    """A cluster whose head has no CPUs."""
    # The dashboard's start leaves a socket open where another cluster has its port.
    head = {"num_cpus": 0, "node_ip_address": "127.0.0.1", "include_dashboard": False}
    return _patiently_started(lambda: Cluster(initialize_head=True, head_node_args=head))


def add_machine(cluster: Any) -> Any:
    """Add a node with two CPUs."""
    return _patiently_started(lambda: cluster.add_node(num_cpus=2, node_ip_address="127.0.0.1"))


def kill_machine(node: Any) -> None:
    """Kill a node's raylet; its workers end with it."""
    (raylet,) = node.all_processes["raylet"]
    os.kill(raylet.process.pid, signal.SIGKILL)
    raylet.process.wait()


def _patiently_started(start: Callable[[], Any]) -> Any:
    """Ray gives a node half a minute to start, which a busy machine may exceed."""
    for _ in range(3):
        try:
            return start()
        except Exception as error:
            if "timed out during startup" not in str(error):
                raise
    return start()
