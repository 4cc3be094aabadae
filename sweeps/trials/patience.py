"""Whether a search ends because it finds nothing better (``search.patience``)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hkd.metric_names import ROLE_TRIAL, STATUS_FINISHED, STATUS_RUNNING, STATUS_STOPPED
from sweeps.trials.records.trial import LedgerTrial


def is_patience_over(trials: Sequence[LedgerTrial], objectives: Sequence[str], patience: int | None) -> bool:
    """Whether the last ``patience`` proposals that ended left the hypervolume of the front as it was.

    A trial leaves it as it was if an earlier one is at most equal in every objective; so does a stopped trial. Failed
    trials do not count, and neither do proposals after the first that still runs: of those started together, the ones
    that enlarge the front end after the ones that are stopped early.

    Args:
        trials: Baselines and trials, each in the order of their start.
        patience: None never ends a search.
    """
    if patience is None:
        return False
    running = (i for i, trial in enumerate(trials) if (trial.role, trial.status) == (ROLE_TRIAL, STATUS_RUNNING))
    ended = [
        trial
        for trial in trials[: next(running, None)]
        if trial.status == STATUS_FINISHED or (trial.status == STATUS_STOPPED and trial.role == ROLE_TRIAL)
    ]
    is_proposed = [trial.role == ROLE_TRIAL for trial in ended]
    if sum(is_proposed) < patience:
        return False
    points = np.array([_point(trial, objectives) for trial in ended])
    first = len(ended) - patience
    return all(
        not np.isfinite(points[index]).all() or bool((points[:index] <= points[index]).all(axis=1).any())
        for index in range(first, len(ended))
    )


def _point(trial: LedgerTrial, objectives: Sequence[str]) -> list[float]:
    if trial.status != STATUS_FINISHED:
        return [float("inf")] * len(objectives)
    return [trial.metrics[name] for name in objectives]
