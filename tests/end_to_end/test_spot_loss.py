"""A study on a cluster whose only machine with CPUs is lost, and replaced by another, as spot instances are.

``pytest -rP`` prints how long that takes to be noticed, and how long trials take to resume on the other one.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from sweeps.trials.records.journal import LedgerError
from sweeps.trials.records.trial import LedgerTrial, read_trials
from tests.end_to_end.clusters import add_machine, kill_machine
from tests.end_to_end.processes import REPOSITORY, Command
from tests.sweeps.tiny import tiny_trial, write_tiny_study

EPOCHS = 12
"""More than two trials train while their machine is killed."""
TRIALS = {"trial-001", "trial-002"}


def trials_of(folder: Path) -> dict[str, LedgerTrial]:
    journal = folder / "runs" / "tiny" / "trials.journal"
    try:
        return {trial.trial_id: trial for trial in read_trials(journal)} if journal.exists() else {}
    except LedgerError:  # the study writes its first records
        return {}


def test_trials_of_a_lost_machine_resume_on_another_one(cluster: Any, tmp_path: Path) -> None:
    base = {**tiny_trial(tmp_path / "cache", total_epochs=EPOCHS), "teacher": None}
    space = {"student.pyramid_channels": {"type": "int", "low": 8, "high": 32, "step": 8}}
    write_tiny_study(tmp_path / "tiny.yaml", tmp_path / "cache", base=base, space=space, baselines={})
    machine = add_machine(cluster)
    arguments = [str(REPOSITORY / "sweeps" / "run.py"), "--config", "tiny.yaml"]
    with Command(arguments, tmp_path, {"RAY_ADDRESS": cluster.address}) as command:
        command.wait_until(lambda: {key for key, trial in trials_of(tmp_path).items() if trial.epoch} == TRIALS)
        kill_machine(machine)
        killed_at = time.time()
        for trial_id in TRIALS:
            command.wait_for(f"{trial_id}: worker lost")
        lost = trials_of(tmp_path)  # now no machine can run them
        noticed_at = time.time()
        add_machine(cluster)
        added_at = time.time()
        assert command.end() == 0, command.output
    ended = trials_of(tmp_path)
    resumed_at = min(ended[key].epochs[lost[key].epoch + 1].time_ms for key in TRIALS) / 1000
    print(f"from the loss of a node to its report: {noticed_at - killed_at:.1f} s")  # noqa: T201
    print(f"from the start of another node to the next epoch: {resumed_at - added_at:.1f} s")  # noqa: T201
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
