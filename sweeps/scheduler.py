"""Who decides which trials go on."""

from __future__ import annotations

from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from sweeps.settings.study import SchedulerConfig


def build_scheduler(config: SchedulerConfig) -> TrialScheduler:
    """Ray Tune's scheduler of a study. For now all trials run to their end, in the order of their proposal."""
    assert config.type == "fifo"
    return FIFOScheduler()  # type: ignore[no-untyped-call]
