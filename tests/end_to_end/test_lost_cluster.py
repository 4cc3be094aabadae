"""A study whose cluster loses its head's service (GCS) while the teacher trains, or while trials do.

Before it is resumed, a checkpoint is emptied.

``pytest -rP`` prints the times from the kill to the end of the study's process.
"""

from __future__ import annotations

import os
import shlex
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hkd.config_files.parsing import load_config
from hkd.runtime.process import configure_process
from hkd.training.fit import STATE_FILE, fit
from sweeps.trials.records.trial import LedgerTrial
from sweeps.trials.worker import build_trainer
from tests.end_to_end.clusters import add_machine
from tests.end_to_end.processes import PATIENCE_SECONDS, REPOSITORY, Command, processes_titled, processes_with
from tests.end_to_end.test_faults import computed
from tests.end_to_end.test_spot_loss import trials_of
from tests.end_to_end.test_sweep_command import client_of
from tests.sweeps.tiny import tiny_trial, write_tiny_study

EPOCHS = 24
"""More than a worker trains while the test reacts to it."""
ARGUMENTS = [str(REPOSITORY / "sweeps" / "run.py"), "--config", "tiny.yaml"]
OWN_CLUSTER = {"RAY_ADDRESS": "local"}
SECONDS_OF_RAY = 60.0
"""After which Ray ends the process."""


@dataclass(frozen=True)
class Loss:
    """How a session ended."""

    code: int
    lines: list[str]
    """What it printed after the kill."""
    trials: dict[str, LedgerTrial]
    run_statuses: dict[str, str]
    """In MLflow, by trial."""


def test_study_ends_with_its_command_while_the_teacher_trains(tmp_path: Path) -> None:
    base = tiny_trial(tmp_path / "cache")
    base["teacher"]["training"]["total_epochs"] = EPOCHS
    write_tiny_study(tmp_path / "tiny.yaml", tmp_path / "cache", base=base)
    with Command(ARGUMENTS, tmp_path, OWN_CLUSTER) as command:
        command.wait_for(rf"teacher .* \d+ of {EPOCHS} epochs")
        lost = lose(command, command.processes(), tmp_path)
    assert (lost.code, lost.trials, lost.run_statuses) == (3, {}, {})
    assert "epochs of the teacher are saved" in lost.lines[-2]
    check_words(lost)


def test_study_resumes_on_another_cluster_to_the_same_results(cluster: Any, tmp_path: Path) -> None:
    base = {**tiny_trial(tmp_path / "cache", total_epochs=EPOCHS), "teacher": None}
    space = {"student.pyramid_channels": {"type": "int", "low": 8, "high": 32, "step": 8}}
    search = {"num_trials": 1}
    write_tiny_study(tmp_path / "tiny.yaml", tmp_path / "cache", base=base, space=space, search=search, baselines={})
    add_machine(cluster)
    with Command(ARGUMENTS, tmp_path, {"RAY_ADDRESS": cluster.address}) as command:
        command.wait_until(lambda: any(trial.epoch for trial in trials_of(tmp_path).values()))
        lost = lose(command, processes_with(os.environ["RAY_TMPDIR"]), tmp_path)
    assert lost.code == 3
    assert "0 trials ended, 1 resume" in lost.lines[-2]
    check_words(lost)
    assert lost.run_statuses == {"tiny": "KILLED", "trial-001": "KILLED"}

    interrupted = lost.trials["trial-001"]
    assert interrupted.checkpoint is not None
    state = tmp_path / "runs" / "tiny" / interrupted.checkpoint / STATE_FILE
    os.truncate(state, 0)
    with Command([*ARGUMENTS, "--resume"], tmp_path, OWN_CLUSTER) as command:
        assert command.end() == 0, command.output
    # There is a checkpoint of each epoch: the one before it has trained an epoch less, so that its own is repeated.
    output, epoch = command.output.replace("\n", ""), interrupted.epoch
    assert f"trial-001 resumes after epoch {epoch} of {EPOCHS}" in output
    assert f"trial-001: repeated from epoch {epoch}, because of {state}" in output
    (trial,) = trials_of(tmp_path).values()
    assert (trial.status, trial.attempts) == ("finished", 2)
    check_results(tmp_path, trial)


def lose(command: Command, processes: list[int], folder: Path) -> Loss:
    """Kill the head's service while each worker is in an epoch that takes longer than it takes to notice that."""
    workers = processes_titled(r"ray::(_prepare|DistillationTrial|ResourceTrainable)\b", processes)
    heads = processes_titled(r"\S*/gcs_server ", processes)  # several, if one was too slow for Ray
    assert workers
    assert heads
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)
    num_lines = len(command.lines)
    for pid in heads:
        os.kill(pid, signal.SIGKILL)
    killed_at = time.monotonic()
    code = command.end()
    seconds = time.monotonic() - killed_at
    print(f"from the kill of the head's service to the end of the process: {seconds:.1f} s")  # noqa: T201
    assert seconds < SECONDS_OF_RAY, command.output
    for pid in workers:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while alive := set(workers) & set(processes_with("")):
        assert time.monotonic() < deadline, alive
        time.sleep(0.2)
    return Loss(code, command.lines[num_lines:], trials_of(folder), run_statuses(folder))


def run_statuses(folder: Path) -> dict[str, str]:
    client = client_of(folder)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return {str(run.info.run_name): str(run.info.status) for run in client.search_runs(experiments)}


def check_words(lost: Loss) -> None:
    """The reason, then the command, and no output of Ray's."""
    assert "The head of the Ray cluster" in lost.lines[-2]
    assert lost.lines[-1].startswith("Resume with:  ")
    assert shlex.split(lost.lines[-1].removeprefix("Resume with:  "))[1:] == [*ARGUMENTS, "--resume"]
    assert len(lost.lines) <= 4  # others are of epochs that ended before


def check_results(folder: Path, trial: LedgerTrial) -> None:
    """They are those of an uninterrupted training."""
    assert trial.checkpoint is not None
    config = load_config(folder / "runs" / "tiny" / trial.checkpoint / "config.yaml")
    threads = torch.get_num_threads()
    configure_process(torch.device("cpu"), num_threads=1)
    try:
        expected = {result.epoch: computed(result.measured) for result in fit(build_trainer(config, None))}
    finally:
        torch.set_num_threads(threads)
    assert {epoch: computed(record.metrics) for epoch, record in trial.epochs.items()} == expected
