"""TPE in studies that stop trials early: good trials are finished ones."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.samplers import TPESampler
from optuna.trial import TrialState

from sweeps.search.optuna_samplers import make_sampler
from sweeps.search.stopped_trials import FinishedTPESampler


class Seen(FinishedTPESampler):
    """Records the numbers of the trials that count as good and as bad."""

    groups: list[list[int]]

    def _build_parzen_estimator(self, study: Any, search_space: Any, trials: Any, handle_below: bool) -> Any:
        self.groups.append([trial.number for trial in trials])
        return super()._build_parzen_estimator(study, search_space, trials, handle_below)


def a_study(num_finished: int, num_stopped: int, num_objectives: int = 2) -> optuna.Study:
    """Finished trials, each worse than the one before, then stopped ones."""
    study = optuna.create_study(directions=["minimize"] * num_objectives)
    for i in range(num_finished + num_stopped):
        trial = study.ask({"x": optuna.distributions.FloatDistribution(0, 1)})
        if i < num_finished:
            study.tell(trial, [float(i)] * num_objectives)
        else:
            study.tell(trial, state=TrialState.PRUNED)
    return study


def groups(study: optuna.Study) -> list[list[int]]:
    """Good and bad trials of the next proposal."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        study.sampler = Seen(seed=0, n_startup_trials=2)
    study.sampler.groups = []
    study.ask({"x": optuna.distributions.FloatDistribution(0, 1)})
    return [sorted(each) for each in study.sampler.groups]


@pytest.mark.parametrize("num_objectives", [1, 2])
def test_a_tenth_of_the_finished_trials_is_good(num_objectives: int) -> None:
    # Optuna's would take a tenth of all 40: 4 of the 12.
    good, bad = groups(a_study(12, 28, num_objectives))
    assert good == [0, 1]
    assert bad == list(range(2, 40))


@pytest.mark.parametrize(("num_finished", "expected"), [(0, []), (1, [0]), (3, [0])])
def test_no_stopped_trial_is_good_however_few_are_finished(num_finished: int, expected: list[int]) -> None:
    good, bad = groups(a_study(num_finished, 60))
    assert good == expected
    assert len(bad) == 60 + num_finished - len(expected)


@pytest.mark.parametrize("num_objectives", [1, 3])
def test_proposals_without_stopped_trials_are_optunas(num_objectives: int) -> None:
    def proposals(sampler: optuna.samplers.BaseSampler) -> list[float]:
        study = optuna.create_study(directions=["minimize"] * num_objectives, sampler=sampler)
        found = []
        for _ in range(30):
            trial = study.ask()
            x, y = trial.suggest_float("x", 0, 1), trial.suggest_int("y", 1, 9)
            study.tell(trial, [x * (i + 1) + y for i in range(num_objectives)])
            found.append(x)
        return found

    ours = make_sampler("tpe", seed=5, startup_trials=4)
    assert isinstance(ours, FinishedTPESampler)
    assert proposals(ours) == proposals(TPESampler(seed=5, n_startup_trials=4))


def test_user_chooses_the_arguments() -> None:
    sampler = make_sampler("TPESampler", seed=1, startup_trials=2, arguments={"n_ei_candidates": 3})
    study = a_study(8, 8)
    study.sampler = sampler
    assert np.isfinite(study.ask({"x": optuna.distributions.FloatDistribution(0, 1)}).params["x"])
