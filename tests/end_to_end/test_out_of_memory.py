"""A machine whose memory is exhausted: Ray kills the worker of a trial, which resumes once there is memory again.

``pytest -rP`` prints how long that takes.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from subprocess import PIPE

import pytest
from ray._private import utils as ray_utils

from sweeps.trials.records.journal import LedgerError
from sweeps.trials.records.trial import LedgerTrial, read_trials
from tests.end_to_end.processes import REPOSITORY, Command
from tests.sweeps.tiny import tiny_trial, write_tiny_study

EPOCHS = 120
"""More than the trial trains while the test reacts to it."""
TRIAL = "trial-001"
ALLOWED_BYTES = 6 * 2**30
"""Beyond what is in use before the study, which takes half of it. Tests that run beside this one take some as well."""
STEP_BYTES = 2**28
ALLOCATE = """
import sys
held = []
for line in sys.stdin:
    held.append(b"1" * int(line))  # written, so that it takes memory
    print(len(held), flush=True)
"""


def trial_of(folder: Path) -> LedgerTrial | None:
    journal = folder / "runs" / "tiny" / "trials.journal"
    try:
        return next(iter(read_trials(journal)), None) if journal.exists() else None
    except LedgerError:  # the study writes its first records
        return None


@pytest.mark.skipif(
    "HKD_TEST_MEMORY" not in os.environ,
    reason="takes 12 GiB of an otherwise idle machine; set HKD_TEST_MEMORY=1",
)
def test_trial_whose_worker_ray_kills_for_memory_resumes_after_its_last_epoch(tmp_path: Path) -> None:
    total, used = ray_utils.get_system_memory(), ray_utils.get_used_memory()  # type: ignore[attr-defined,no-untyped-call]
    if total - used < 2 * ALLOWED_BYTES:
        pytest.skip(f"takes {2 * ALLOWED_BYTES / 2**30:.0f} GiB of free memory")
    base = {**tiny_trial(tmp_path / "cache", total_epochs=EPOCHS), "teacher": None}
    space = {"student.pyramid_channels": {"type": "int", "low": 8, "high": 32, "step": 8}}
    search = {"num_trials": 1, "startup_trials": 2}
    write_tiny_study(tmp_path / "tiny.yaml", tmp_path / "cache", base=base, space=space, baselines={}, search=search)
    arguments = [str(REPOSITORY / "sweeps" / "run.py"), "--config", "tiny.yaml"]
    # Ray's default threshold is 95 %, which would take the whole machine along.
    monitor = {
        "RAY_memory_usage_threshold": f"{(used + ALLOWED_BYTES) / total:.4f}",
        "RAY_memory_monitor_refresh_ms": "100",
    }
    with Command(arguments, tmp_path, monitor) as command:
        command.wait_until(lambda: (trial := trial_of(tmp_path)) is not None and trial.epoch >= 1)
        # In a process of its own, whose end frees all of it.
        with subprocess.Popen([sys.executable, "-c", ALLOCATE], stdin=PIPE, stdout=PIPE, text=True) as other:
            assert other.stdin is not None
            assert other.stdout is not None
            num_allocated = 0
            while not any(f"{TRIAL}: worker lost" in line for line in command.lines):
                assert num_allocated * STEP_BYTES < 2 * ALLOWED_BYTES, command.output
                other.stdin.write(f"{STEP_BYTES}\n")
                other.stdin.flush()
                num_allocated = int(other.stdout.readline())
            other.kill()
        killed_at = time.time()
        assert command.end() == 0, command.output
    trial = trial_of(tmp_path)
    assert trial is not None
    assert (trial.status, list(trial.epochs)) == ("finished", list(range(1, EPOCHS + 1)))
    assert trial.attempts >= 2
    assert f"{TRIAL} resumes after epoch" in command.output
    assert "worker lost (Ray killed it, because the memory of its node was exhausted: " in command.output
    assert "Traceback" not in command.output
    after = [epoch.time_ms / 1000 for epoch in trial.epochs.values() if epoch.time_ms / 1000 > killed_at]
    print(f"from the kill to the next epoch: {after[0] - killed_at:.1f} s")  # noqa: T201
