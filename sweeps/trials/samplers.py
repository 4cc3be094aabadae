"""The sampler of a study's proposals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any

import numpy as np
from optuna.samplers import BaseSampler

from hkd.metric_names import COSTS
from hkd.models.cost import config_cost
from sweeps.search.encoding import Prior
from sweeps.search.optuna_samplers import make_sampler
from sweeps.settings.search import FRONT
from sweeps.settings.space import distributions, trial_config
from sweeps.settings.study import StudyConfig
from sweeps.trials.cost import student_cost


def sampler_of_proposal(study: StudyConfig) -> Callable[[int], BaseSampler]:
    """The function from the number of a proposal to its sampler, seeded by the study's seed and that number."""
    search = study.search
    if search.sampler == FRONT:
        # One for all proposals: it depends on the trials only, and keeps the costs of earlier candidates.
        one = cache(partial(front_sampler, study))
        return lambda _: one()

    def sampler(number: int) -> BaseSampler:
        seed = int(np.random.SeedSequence([search.seed, number]).generate_state(1)[0])
        return make_sampler(
            search.sampler, seed=seed, startup_trials=search.startup_trials, arguments=search.sampler_arguments
        )

    return sampler


def front_sampler(study: StudyConfig) -> BaseSampler:
    """The sampler ``front`` of a study; its reference point is that of the report: a miss rate of 1 and the teacher."""
    # scikit-learn takes a second to import.
    from sweeps.search.sampler import FrontSampler

    base = study.base
    reference: dict[str, float] = {study.main_miss_rate: 1.0}
    if base.teacher is not None and any(name in COSTS for name in study.objectives):
        reference |= config_cost(base.teacher, base.data.image_height, base.data.image_width).as_metrics()

    def costs(params: Mapping[str, Any]) -> Mapping[str, float]:
        return student_cost(trial_config(base, params)).as_metrics()

    return FrontSampler(
        distributions(study.space),
        study.objectives,
        study.main_miss_rate,
        costs,
        limits=study.search.limits,
        priors={
            key: Prior(parameter.prior.center, parameter.prior.width)
            for key, parameter in study.space.items()
            if parameter.prior is not None
        },
        reference=reference,
        cost_settings=[key for key in study.space if key.startswith("student.")],
        startup_trials=study.search.startup_trials,
        seed=study.search.seed,
        **study.search.sampler_arguments,
    )
