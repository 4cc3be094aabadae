"""A study that survives: a killed worker, a second start, a full disk and a truncated checkpoint.

``pytest -rP`` prints the times from the kill to the next checkpoint of that trial, and from the start of the second
session to its first epoch.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from hkd.config import TrialConfig
from hkd.config_files.parsing import load_config, parse_config
from hkd.data.prepare import prepare_data
from hkd.runtime.process import configure_process
from hkd.training.fit import fit
from hkd.training.teacher.prepare import prepare_teacher
from sweeps.trials.records.trial import LedgerTrial, read_trials
from sweeps.trials.worker import build_trainer
from tests.end_to_end.processes import REPOSITORY, Command
from tests.full_disk import fill_disk
from tests.sweeps.tiny import tiny_trial, write_tiny_study

EPOCHS = 16
"""More than a trial trains while the test reacts to it."""
TRIALS = {"trial-001", "trial-002"}
DISK_BYTES = 64 * 2**20
FILLER = "filler"
BYTES_FOR_RECORDS = 2**18
"""Left on the full disk: enough for records of the ledger, but not for a checkpoint of 0.8 MB of weights."""


@dataclass(frozen=True)
class Session:
    """One process that ran the study."""

    code: int
    output: str
    trials: dict[str, LedgerTrial]
    """At its end, by id."""


@dataclass(frozen=True)
class Story:
    """The two sessions of one study."""

    folder: Path
    teacher: Path
    is_small: bool
    """Whether a disk of a given size could be mounted."""
    lost: str
    """The trial whose worker was killed."""
    started_twice: Session
    interrupted: Session
    truncated: Path
    completed: Session


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    folder = tmp_path_factory.mktemp("faults")
    with small_disk(folder / "runs") as is_small:
        yield run_sessions(folder, is_small=is_small)


@contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """Mount a disk that a test can fill; yields whether that was possible."""
    folder.mkdir(mode=0o700)
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=700", "none", str(folder)]
    is_mounted = os.geteuid() == 0 and subprocess.run(command, capture_output=True, check=False).returncode == 0
    try:
        yield is_mounted
    finally:
        if is_mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


def run_sessions(folder: Path, *, is_small: bool) -> Story:
    write_tiny_study(folder / "tiny.yaml", folder / "cache", total_epochs=EPOCHS, baselines={})
    base = parse_config(TrialConfig, tiny_trial(folder / "cache", total_epochs=EPOCHS), source="tiny")
    # Here, because a worker for it would take seconds to start.
    teacher = prepare_teacher(base, prepare_data(base.data, progress=False), folder / "runs")
    arguments = [str(REPOSITORY / "sweeps" / "run.py"), "--config", "tiny.yaml", "--resume"]
    with Command(arguments, folder) as command:
        command.wait_for("^Data:")  # after it locked the study
        with Command(arguments, folder) as second:
            command.wait_until(lambda: attempts_with_checkpoint(folder) == TRIALS)
            kill_a_training_worker(command)
            killed_at = time.time()
            (lost,) = re.findall(r"(trial-\d+): worker lost", command.wait_for("worker lost"))
            command.wait_until(lambda: f"{lost}-attempt-2" in attempts_with_checkpoint(folder))
            seconds = {"killed worker": time.time() - killed_at}
            command.send(signal.SIGSTOP, to_group=False)  # so that its trials do not end meanwhile
            started_twice = Session(second.end(), second.output, {})
        if is_small:
            fill(folder / "runs")
        else:
            command.send(signal.SIGTERM, to_group=False)
        command.send(signal.SIGCONT, to_group=False)
        interrupted = session(folder, command)
    shutil.rmtree(folder / "runs" / FILLER, ignore_errors=True)
    trial = interrupted.trials[lost]
    assert trial.checkpoint is not None
    truncated = folder / "runs" / "tiny" / trial.checkpoint / "training_state.pt"
    os.truncate(truncated, truncated.stat().st_size // 2)
    started_at = time.time()
    with Command(arguments, folder) as command:
        completed = session(folder, command)
    epochs = [epoch.time_ms / 1000 for trial in completed.trials.values() for epoch in trial.epochs.values()]
    seconds["ended process"] = min(each for each in epochs if each > started_at) - started_at
    print(*(f"{fault}: {value:.1f} s" for fault, value in seconds.items()), sep="\n")  # noqa: T201
    return Story(folder, teacher.path, is_small, lost, started_twice, interrupted, truncated, completed)


def session(folder: Path, command: Command) -> Session:
    """Wait for the end of a session."""
    code = command.end()
    trials = read_trials(folder / "runs" / "tiny" / "trials.journal")
    return Session(code, command.output, {trial.trial_id: trial for trial in trials})


def attempts_with_checkpoint(folder: Path) -> set[str]:
    return {path.parents[1].name for path in folder.glob("runs/tiny/*/checkpoint_*/metrics.json")}


def fill(disk: Path) -> None:
    """Fill the disk but for some records."""
    (disk / FILLER).mkdir()
    for number, path in enumerate(disk.glob("tiny/*/checkpoint_*/*")):
        # The space of checkpoints that the study removes stays in use. Temporary files may vanish.
        with suppress(FileNotFoundError):
            (disk / FILLER / str(number)).hardlink_to(path)
    fill_disk(disk / FILLER / "rest", left=BYTES_FOR_RECORDS)


def kill_a_training_worker(command: Command) -> None:
    """Kill the process of a trial within an epoch: Ray names it after what it executes."""

    def is_killed() -> bool:
        for pid in command.processes():
            try:
                is_training = re.match(rb"ray::\w+\.train\b", Path(f"/proc/{pid}/cmdline").read_bytes())
            except OSError:  # it has ended
                continue
            if is_training:
                os.kill(pid, signal.SIGKILL)
                return True
        return False

    command.wait_until(is_killed)


def test_trial_of_a_killed_worker_resumes_after_its_last_epoch(story: Story) -> None:
    assert f"{story.lost} resumes after epoch" in story.interrupted.output
    assert story.interrupted.trials[story.lost].attempts == 2


def test_second_start_of_a_study_is_refused(story: Story) -> None:
    assert story.started_twice.code == 2
    assert str(story.folder / "runs" / "tiny") in story.started_twice.output
    assert "another process is running this study" in story.started_twice.output


def test_study_on_a_full_disk_ends_with_what_to_do_and_fails_no_trial(story: Story) -> None:
    if not story.is_small:
        pytest.skip("mounting a disk of a given size takes root")
    assert story.interrupted.code == 2
    assert f"the disk of {story.folder / 'runs' / 'tiny'} is full" in story.interrupted.output
    assert "--resume" in story.interrupted.output
    assert "Traceback" not in story.interrupted.output
    assert {trial.status for trial in story.interrupted.trials.values()} <= {"running", "finished"}


def test_truncated_checkpoint_is_replaced_by_the_one_before_it(story: Story) -> None:
    # There is a checkpoint of each epoch. The one before it has trained an epoch less, so that its own is repeated.
    epoch = story.interrupted.trials[story.lost].epoch
    assert f"{story.lost}: repeated from epoch {epoch}, because of " in story.completed.output
    assert str(story.truncated) in story.completed.output.replace("\n", "")


@pytest.mark.parametrize("trial_id", sorted(TRIALS))
def test_trial_ends_with_the_results_of_an_uninterrupted_training(story: Story, trial_id: str) -> None:
    assert story.completed.code == 0
    trial = story.completed.trials[trial_id]
    assert trial.status == "finished"
    assert trial.checkpoint is not None
    config = load_config(story.folder / "runs" / "tiny" / trial.checkpoint / "config.yaml")
    threads = torch.get_num_threads()
    configure_process(torch.device("cpu"), num_threads=1)
    try:
        expected = {result.epoch: computed(result.measured) for result in fit(build_trainer(config, story.teacher))}
    finally:
        torch.set_num_threads(threads)
    assert {"loss_total", "distill_pyramid", "mr2_reasonable"} <= expected[EPOCHS].keys()
    assert {epoch: computed(record.metrics) for epoch, record in trial.epochs.items()} == expected


def computed(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The metrics that do not depend on the machine's load."""
    return {key: value for key, value in metrics.items() if key.startswith(("loss", "distill", "mr2", "grad"))}
