"""Optuna's samplers for several objectives, by the name in the study."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import optuna
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler

from sweeps.settings.study import SearchConfig


def make_sampler(name: str, *, seed: int, startup_trials: int) -> BaseSampler:
    """One of Optuna's samplers.

    Args:
        name: ``tpe`` (Bergstra et al., 2011; multi-objective: Ozaki et al., 2022), ``nsga2`` (Deb et al., 2002),
            ``gp`` (Gaussian processes, expected hypervolume improvement) or ``random``.
        startup_trials: Random trials before the sampler uses results; for ``nsga2`` the population size, whose first
            generation is random.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if name == "nsga2":
            return NSGAIISampler(population_size=startup_trials, seed=seed)
        if name == "gp":
            return GPSampler(n_startup_trials=startup_trials, seed=seed)
        if name == "random":
            return RandomSampler(seed=seed)
        assert name == "tpe", name
        # Its constant liar counts running trials as bad ones, so that two concurrent proposals differ.
        return TPESampler(n_startup_trials=startup_trials, seed=seed)


def sampler_of_proposal(search: SearchConfig) -> Callable[[int], BaseSampler]:
    """The function from the number of a proposal to its sampler, seeded by the study's seed and that number."""

    def sampler(number: int) -> BaseSampler:
        seed = int(np.random.SeedSequence([search.seed, number]).generate_state(1)[0])
        return make_sampler(search.sampler, seed=seed, startup_trials=search.startup_trials)

    return sampler
