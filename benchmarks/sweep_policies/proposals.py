"""CPU time of a proposal against the number of finished trials."""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import TrialState

from benchmarks.sweep_policies.task import TASK, Costs, exact_costs
from hkd.metric_names import FLOPS, NUM_PARAMS
from sweeps.search.encoding import Space
from sweeps.settings.space import distributions
from sweeps.settings.study import load_study
from sweeps.trials.samplers import sampler_of_proposal


def proposal_seconds(sampler: str, finished: int, repetitions: int) -> tuple[float, float]:
    """Median and largest CPU time in seconds of proposals with so many finished trials, a new trial between each two.

    The first proposal is left out: it computes the costs of the first candidates, and estimates hyperparameters. Later
    ones estimate them again where results have grown by an eighth.
    """
    task = load_study(TASK, [f"search.sampler={sampler}"])
    space = distributions(task.space)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(directions=["minimize"] * len(task.objectives))
    random = np.random.default_rng(0)
    encoding, costs = Space(space, {}), exact_costs(task)

    def finish(params: dict[str, Any]) -> None:
        study.add_trial(_finished(params, space, costs, random))

    for params in encoding.configurations(encoding.snapped(random.random((finished, len(space))))):
        finish(params)
    make, seconds = sampler_of_proposal(task), []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number in range(repetitions + 1):
            study.sampler = make(finished + number)
            started = time.process_time()
            trial = study.ask(space)
            seconds.append(time.process_time() - started)
            study.tell(trial, state=TrialState.FAIL)
            finish(trial.params)
    return statistics.median(seconds[1:]), max(seconds[1:])


def table(samplers: Sequence[str], counts: Sequence[int], repetitions: int) -> str:
    """Markdown: a row for each sampler, a column for each number of finished trials."""
    lines = [
        f"| sampler | {' | '.join(f'{count:,}' for count in counts)} |",
        f"| --- |{' ---: |' * len(counts)}",
    ]
    for sampler in samplers:
        found = [proposal_seconds(sampler, count, repetitions) for count in counts]
        lines.append(f"| {sampler} | {' | '.join(f'{median:.2f} ({most:.2f})' for median, most in found)} |")
    return "\n".join(lines)


def _finished(
    params: dict[str, Any], space: dict[str, BaseDistribution], costs: Costs, random: np.random.Generator
) -> optuna.trial.FrozenTrial:
    """A trial with an invented miss rate, which falls with the parameters and has a best learning rate."""
    cost = costs(params)
    detuned = np.log(params["training.learning_rate"] / 2e-3) ** 2
    miss_rate = 0.3 + 0.05 * np.log(1e6 / cost[NUM_PARAMS]) + 0.03 * detuned + random.normal(0.0, 0.01)
    values = [float(miss_rate), cost[NUM_PARAMS], cost[FLOPS]]
    return optuna.create_trial(params=params, distributions=space, values=values)
