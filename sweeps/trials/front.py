"""The front of a study: its non-dominated trials."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hkd.dominance import non_dominated
from hkd.metric_names import STATUS_FINISHED
from sweeps.trials.records.trial import LedgerTrial


def front(trials: Sequence[LedgerTrial], objectives: Sequence[str]) -> list[LedgerTrial]:
    """The finished trials that no other finished trial dominates in the objectives, sorted by the first of them."""
    finished = [trial for trial in trials if trial.status == STATUS_FINISHED]
    points = np.array([[trial.metrics[name] for name in objectives] for trial in finished], dtype=np.float64)
    is_kept = non_dominated(points.reshape(len(finished), len(objectives)))
    kept = [trial for trial, keep in zip(finished, is_kept, strict=True) if keep]
    return sorted(kept, key=lambda trial: [trial.metrics[name] for name in objectives])
