"""TPE in studies that stop trials early, or have many: good trials are finished ones, and few enter a proposal."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.samplers import TPESampler
from optuna.study import StudyDirection
from optuna.trial import TrialState

from sweeps.search import stopped_trials
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


@pytest.mark.parametrize("direction", [StudyDirection.MINIMIZE, StudyDirection.MAXIMIZE])
def test_of_many_trials_the_front_and_evenly_spaced_ones_are_used(
    monkeypatch: pytest.MonkeyPatch, direction: StudyDirection
) -> None:
    monkeypatch.setattr(stopped_trials, "MOST_ENDED", 10)
    study = optuna.create_study(directions=[direction] * 2)
    sign = 1.0 if direction == StudyDirection.MINIMIZE else -1.0
    for number in range(40):
        trial = study.ask({"x": optuna.distributions.FloatDistribution(0, 1)})
        # (0, 3), (3, 0) and (1, 1) dominate all others.
        values = {7: (0.0, 3.0), 20: (3.0, 0.0), 33: (1.0, 1.0)}.get(number, (4.0, 4.0 + number))
        study.tell(trial, [sign * value for value in values])
    study.ask()  # runs
    good, bad = groups(study)
    # A tenth of ten is good: one of the front. Of the 37 others, seven, the first and the last included.
    assert set(good) < {7, 20, 33}
    assert len(good) == 1
    assert {7, 20, 33} < {*good, *bad}
    assert {0, 39} < set(bad)
    assert len(good) + len([number for number in bad if number < 40]) == 10


def test_of_a_long_front_half_of_the_used_trials_are_members(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopped_trials, "MOST_ENDED", 10)
    study = optuna.create_study(directions=["minimize"] * 2)
    for number in range(60):
        trial = study.ask({"x": optuna.distributions.FloatDistribution(0, 1)})
        study.tell(trial, [float(number), -float(number)] if number < 30 else [100.0, 100.0])
    good, bad = groups(study)
    used = {*good, *bad} - {60}
    assert len(used) == 10
    assert {0, 29, 59} <= used
    # The front is evenly spaced, and so are the others, which include members that are not used as such.
    assert len([number for number in used if number < 30]) >= 5
