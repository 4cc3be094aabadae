"""Measure the CPU time of one proposal of a sampler, by the number of trials that have ended before.

    python -m benchmarks.sweep_scale.proposals                  # tpe, after 100, 1,000 and 10,000 trials
    python -m benchmarks.sweep_scale.proposals --sampler gp --trials 100 300

The seven settings of :func:`~benchmarks.sweep_scale.trivial.trivial_study`, three objectives, trials drawn at random in
memory, without the ledger. Their costs follow roughly from their settings, and their miss rate from the costs and
noise. Prints a Markdown table to stdout.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import numpy as np
import optuna
from optuna.trial import TrialState

from benchmarks.sweep_scale.trivial import trivial_study
from hkd.commands.parsing import positive_integer
from sweeps.settings.space import distributions
from sweeps.trials.samplers import sampler_of_proposal


def seconds_of_proposals(sampler: str, num_trials: int, num_proposals: int) -> list[float]:
    """CPU seconds of each proposal after that many finished trials."""
    config = trivial_study("sqlite://", Path(), num_trials=num_trials, epochs=1, sampler=sampler)
    space, sampler_of = distributions(config.space), sampler_of_proposal(config)
    random = np.random.default_rng(0)
    study = optuna.create_study(directions=["minimize"] * 3, sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(num_trials):
        trial = study.ask(space)
        params = trial.params
        flops = 1e9 * (1 + 50 * params["student.width_multiplier"] ** 2 + params["student.pyramid_channels"] / 10)
        weights = 1e5 + 1e7 * params["student.width_multiplier"] ** 2 + 3e3 * params["student.head_channels"]
        rate = 0.9 - 0.03 * math.log(weights) + 0.02 * abs(random.normal())
        study.tell(trial, [rate, weights, flops])
    taken = []
    for number in range(num_trials, num_trials + num_proposals):
        study.sampler = sampler_of(number)
        started = time.process_time()
        trial = study.ask(space)
        taken.append(time.process_time() - started)
        study.tell(trial, state=TrialState.FAIL)
    return taken


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=positive_integer, nargs="+", default=[100, 1_000, 10_000])
    parser.add_argument("--sampler", default="tpe")
    parser.add_argument("--proposals", type=positive_integer, default=10, help="to measure (default: 10)")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    print("| trials before | CPU of a proposal, ms: median | largest |\n| ---: | ---: | ---: |", flush=True)
    for num_trials in options.trials:
        taken = seconds_of_proposals(options.sampler, num_trials, options.proposals)
        print(f"| {num_trials:,} | {1e3 * float(np.median(taken)):.0f} | {1e3 * max(taken):.0f} |", flush=True)


if __name__ == "__main__":
    main()
