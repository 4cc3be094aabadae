"""The sampler of a study's proposals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any

import numpy as np
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial

from hkd.config import DetectorConfig, StudentConfig
from hkd.config_files.parsing import parse_config
from hkd.metric_names import BUDGET_FRACTION, COSTS
from sweeps.search.encoding import Prior
from sweeps.search.optuna_samplers import make_sampler
from sweeps.settings.search import FRONT
from sweeps.settings.space import distributions
from sweeps.settings.study import StudyConfig
from sweeps.trials.cost import cost_in

EPOCH_ATTRIBUTE = "epoch "
"""Of Optuna's trials, with the epoch's number: what the ledger records of an epoch. Journals of earlier versions have
``metrics`` only, the last values."""
_STUDENT = "student."
_SIZES = DetectorConfig.model_fields
"""Settings of a student that its costs depend on."""


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


def _measured(name: str, trial: FrozenTrial) -> dict[float, float]:
    """Values of a metric after the evaluated epochs, by share of the planned epochs."""
    records = [
        record["metrics"]
        for key, record in trial.user_attrs.items()
        if key.startswith(EPOCH_ATTRIBUTE) and record is not None
    ]
    return {metrics[BUDGET_FRACTION]: metrics[name] for metrics in records if name in metrics}


def front_sampler(study: StudyConfig) -> BaseSampler:
    """The sampler ``front`` of a study.

    The reference point of its hypervolume is that of the report: a miss rate of 1, and the teacher's costs. Without a
    teacher, the report uses the highest costs of its students, and the sampler those slightly beyond the highest
    candidate's.
    """
    # scikit-learn takes a second to import.
    from sweeps.search.sampler import FrontSampler

    base = study.base
    reference: dict[str, float] = {study.main_miss_rate: 1.0}
    if base.teacher is not None and any(name in COSTS for name in study.objectives):
        reference |= cost_in(base, base.teacher).as_metrics()

    # Of the student alone: a whole trial takes several times as long to validate, for thousands of candidates.
    student = base.student.model_dump(mode="json")
    sizes = [key for key in study.space if key.startswith(_STUDENT) and key.removeprefix(_STUDENT) in _SIZES]

    def costs(params: Mapping[str, Any]) -> Mapping[str, float]:
        shape = {**student, **{key.removeprefix(_STUDENT): params[key] for key in sizes}}
        config = parse_config(StudentConfig, shape, source="the proposed student")
        return cost_in(base, config).as_metrics()

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
        cost_settings=sizes,
        startup_trials=study.search.startup_trials,
        curve=partial(_measured, study.main_miss_rate),
        seed=study.search.seed,
        **study.search.sampler_arguments,
    )
