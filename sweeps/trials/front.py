"""The front of a study: its non-dominated trials, and the reference point of its hypervolume."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hkd.dominance import non_dominated
from hkd.metric_names import MISS_RATES, STATUS_FINISHED
from sweeps.settings.space import trial_config
from sweeps.settings.study import StudyConfig
from sweeps.trials.cost import cost_in, student_cost
from sweeps.trials.largest import largest_sizes
from sweeps.trials.records.trial import LedgerTrial


def front(trials: Sequence[LedgerTrial], objectives: Sequence[str]) -> list[LedgerTrial]:
    """The finished trials that no other finished trial dominates in the objectives, sorted by the first of them."""
    finished = [trial for trial in trials if trial.status == STATUS_FINISHED]
    points = np.array([[trial.metrics[name] for name in objectives] for trial in finished], dtype=np.float64)
    is_kept = non_dominated(points.reshape(len(finished), len(objectives)))
    kept = [trial for trial, keep in zip(finished, is_kept, strict=True) if keep]
    return sorted(kept, key=lambda trial: [trial.metrics[name] for name in objectives])


def reference_point(study: StudyConfig) -> dict[str, float]:
    """Reference point of the hypervolume by objective: a miss rate of 1, and the teacher's costs.

    Without a teacher, the costs of the largest students that the search may propose. Both are known before the first
    trial, so that the hypervolume never falls. Objectives that are neither miss rates nor exact costs have none.
    """
    base = study.base
    if base.teacher is not None:
        of = [cost_in(base, base.teacher)]
    else:
        of = [student_cost(trial_config(base, sizes)) for sizes in largest_sizes(study)]
    costs = [cost.as_metrics() for cost in of]
    known: dict[str, float] = dict.fromkeys(MISS_RATES, 1.0)
    known |= {name: max(each[name] for each in costs) for name in (costs[0] if costs else ())}
    return {name: known[name] for name in study.objectives if name in known}
