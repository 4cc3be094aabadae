"""A worker of trials in this process; its tests use the fixture ``restored_process``."""

from __future__ import annotations

from sweeps.trials.worker import DistillationTrial


def worker() -> DistillationTrial:
    # Tune's constructor creates folders in the home directory.
    return DistillationTrial.__new__(DistillationTrial)
