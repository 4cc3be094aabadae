"""Optuna's samplers by name, and their seeds."""

from __future__ import annotations

import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import TrialState

from sweeps.settings.study import SearchConfig
from sweeps.trials.samplers import make_sampler, sampler_of_proposal


@pytest.mark.parametrize("name", ["tpe", "nsga2", "random", pytest.param("gp", marks=pytest.mark.end_to_end)])
def test_samplers_propose_for_several_objectives(name: str) -> None:
    # In memory: Optuna accepts each sampler for several objectives, with a failed trial in between.
    space: dict[str, BaseDistribution] = {"x": FloatDistribution(0.0, 1.0), "k": CategoricalDistribution(("a", "b"))}
    study = optuna.create_study(directions=["minimize", "minimize"])
    for number in range(7):
        study.sampler = make_sampler(name, seed=number, startup_trials=3)
        trial = study.ask(space)
        assert 0.0 <= trial.params["x"] <= 1.0
        if number == 2:
            study.tell(trial, state=TrialState.FAIL)
        else:
            study.tell(trial, [trial.params["x"], 1 - trial.params["x"]])
    # More than the random first trials.
    assert len({trial.params["x"] for trial in study.trials}) > 3


def test_sampler_class_of_each_name() -> None:
    kinds: list[type[BaseSampler]] = [
        type(make_sampler(name, seed=0, startup_trials=3)) for name in ("tpe", "nsga2", "gp", "random")
    ]
    samplers = optuna.samplers
    assert kinds == [samplers.TPESampler, samplers.NSGAIISampler, samplers.GPSampler, RandomSampler]


def test_proposal_depends_on_seed_and_number_alone() -> None:
    def drawn(seed: int, number: int) -> float:
        study = optuna.create_study(sampler=sampler_of_proposal(SearchConfig(sampler="random", seed=seed))(number))
        return float(study.ask({"x": FloatDistribution(0.0, 1.0)}).params["x"])

    assert drawn(0, 0) == drawn(0, 0)
    assert len({drawn(0, 0), drawn(0, 1), drawn(1, 0), drawn(1, 1)}) == 4


@pytest.mark.parametrize(
    ("name", "is_used"), [("tpe", True), ("nsga2", False), pytest.param("gp", False, marks=pytest.mark.end_to_end)]
)
def test_only_tpe_uses_parameters_of_stopped_trials(name: str, is_used: bool) -> None:
    def proposal(state: TrialState) -> float:
        space: dict[str, BaseDistribution] = {"x": FloatDistribution(0.0, 1.0)}
        study = optuna.create_study(
            directions=["minimize", "minimize"], sampler=make_sampler(name, seed=0, startup_trials=3)
        )
        for x in (0.1, 0.3, 0.5, 0.9):
            study.add_trial(optuna.create_trial(params={"x": x}, distributions=space, values=[x, 1 - x]))
        study.add_trial(optuna.create_trial(state=state, params={"x": 0.7}, distributions=space))
        return float(study.ask(space).params["x"])

    # No sampler uses failed trials.
    assert (proposal(TrialState.PRUNED) != proposal(TrialState.FAIL)) == is_used
