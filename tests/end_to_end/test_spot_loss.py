"""A study on a cluster whose only machine with CPUs is lost, and replaced by another, as spot instances are."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ray.cluster_utils import Cluster

from sweeps.trials.records.journal import LedgerError
from sweeps.trials.records.trial import LedgerTrial, read_trials
from tests.end_to_end.processes import REPOSITORY, Command
from tests.sweeps.tiny import tiny_trial, write_tiny_study

EPOCHS = 12
"""More than two trials train while their machine is killed."""
TRIALS = {"trial-001", "trial-002"}


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A head without CPUs, on the loopback interface; other studies of this machine do not find it."""
    for name in ("TMPDIR", "RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))  # whose token Ray would require
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    # A short path, for sockets.
    with tempfile.TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True) as folder:
        monkeypatch.setenv("RAY_TMPDIR", folder)
        head = {"num_cpus": 0, "node_ip_address": "127.0.0.1"}
        started: Any = patiently_started(lambda: Cluster(initialize_head=True, head_node_args=head))
        yield started
        started.shutdown()


def patiently_started(start: Callable[[], Any]) -> Any:
    """Ray gives a node half a minute to start, which a busy machine may exceed."""
    for _ in range(3):
        try:
            return start()
        except Exception as error:
            if "timed out during startup" not in str(error):
                raise
    return start()


def add_machine(cluster: Any) -> Any:
    return patiently_started(lambda: cluster.add_node(num_cpus=2, node_ip_address="127.0.0.1"))


def trials_of(folder: Path) -> dict[str, LedgerTrial]:
    journal = folder / "runs" / "tiny" / "trials.journal"
    try:
        return {trial.trial_id: trial for trial in read_trials(journal)} if journal.exists() else {}
    except LedgerError:  # the study writes its first records
        return {}


def kill_machine(node: Any) -> None:
    """Kill a node's raylet; its workers end with it."""
    (raylet,) = node.all_processes["raylet"]
    os.kill(raylet.process.pid, signal.SIGKILL)
    raylet.process.wait()


def test_trials_of_a_lost_machine_resume_on_another_one(cluster: Any, tmp_path: Path) -> None:
    base = {**tiny_trial(tmp_path / "cache", total_epochs=EPOCHS), "teacher": None}
    space = {"student.pyramid_channels": {"type": "int", "low": 8, "high": 32, "step": 8}}
    write_tiny_study(tmp_path / "tiny.yaml", tmp_path / "cache", base=base, space=space, baselines={})
    machine = add_machine(cluster)
    arguments = [str(REPOSITORY / "sweeps" / "run.py"), "--config", "tiny.yaml"]
    with Command(arguments, tmp_path, {"RAY_ADDRESS": cluster.address}) as command:
        command.wait_until(lambda: {key for key, trial in trials_of(tmp_path).items() if trial.epoch} == TRIALS)
        kill_machine(machine)
        for trial_id in TRIALS:
            command.wait_for(f"{trial_id}: worker lost")
        lost = trials_of(tmp_path)  # now no machine can run them
        add_machine(cluster)
        assert command.end() == 0, command.output
    ended = trials_of(tmp_path)
    for trial_id in TRIALS:
        before, after = lost[trial_id], ended[trial_id]
        assert 0 < before.epoch < EPOCHS
        # At most the epoch in flight is repeated: nothing was reported of a later one.
        assert max(before.epochs) <= before.epoch + 1
        assert f"{trial_id} resumes after epoch {before.epoch} of {EPOCHS}" in command.output
        assert (after.status, after.attempts) == ("finished", 2)
        assert list(after.epochs) == list(range(1, EPOCHS + 1))
        kept = range(1, before.epoch + 1)
        assert [after.epochs[epoch] for epoch in kept] == [before.epochs[epoch] for epoch in kept]
