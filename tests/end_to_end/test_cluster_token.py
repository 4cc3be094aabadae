"""A study that joins a cluster with another token than the cluster's."""

from __future__ import annotations

from pathlib import Path

from sweeps.execution.cluster.private_ray import _ray_variables
from tests.end_to_end.clusters import start_head
from tests.end_to_end.processes import REPOSITORY, Command
from tests.sweeps.tiny import write_tiny_study

TOKEN, OTHER_TOKEN = "1" * 64, "2" * 64


def test_wrong_token_is_named_in_one_message(tmp_path: Path, cluster_variables: None) -> None:
    write_tiny_study(tmp_path / "tiny.yaml", tmp_path / "cache")
    arguments = [str(REPOSITORY / "sweeps" / "run.py"), "--config", "tiny.yaml"]
    with _ray_variables({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}):
        cluster = start_head()
        address = cluster.address
        try:
            variables = {"RAY_ADDRESS": address, "RAY_AUTH_TOKEN": OTHER_TOKEN}
            with Command(arguments, tmp_path, variables) as command:
                code = command.end()
        finally:
            cluster.shutdown()
    error = command.lines[-1]
    assert (code, [line for line in command.lines if "uthenticat" in line]) == (2, [error])
    assert error.startswith("error: ")
    assert address in error
    assert "RAY_AUTH_TOKEN_PATH" in error
    assert ".cc:" not in command.output  # in each line of Ray's C++
    assert not (tmp_path / "runs" / "tiny").exists()
