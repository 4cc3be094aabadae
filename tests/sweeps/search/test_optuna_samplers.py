"""Optuna's samplers by name, and the check of their arguments."""

from __future__ import annotations

from typing import Any

import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import TrialState

from sweeps.search.optuna_samplers import make_sampler, sampler_names, sampler_problems
from sweeps.search.stopped_trials import FinishedTPESampler


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
    assert kinds == [FinishedTPESampler, samplers.NSGAIISampler, samplers.GPSampler, RandomSampler]


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


SPACE: dict[str, BaseDistribution] = {"x": FloatDistribution(0.0, 1.0), "k": CategoricalDistribution(("a", "b"))}


def test_any_sampler_of_optuna_by_its_class_name() -> None:
    assert {"TPESampler", "NSGAIIISampler", "QMCSampler", "CmaEsSampler"} <= set(sampler_names())
    # Abstract, those that end a study by themselves, and one that needs another sampler.
    assert not {"BaseSampler", "GridSampler", "BruteForceSampler", "PartialFixedSampler"} & set(sampler_names())
    made = make_sampler("NSGAIIISampler", seed=0, startup_trials=7, arguments={"mutation_prob": 0.5})
    assert isinstance(made, optuna.samplers.NSGAIIISampler)
    assert made.population_size == 7
    replaced = make_sampler("NSGAIIISampler", seed=0, startup_trials=7, arguments={"population_size": 9})
    assert isinstance(replaced, optuna.samplers.NSGAIIISampler)
    assert replaced.population_size == 9


@pytest.mark.parametrize(
    ("name", "arguments", "num_objectives", "facts"),
    [
        ("tpe", {"multivariat": True}, 2, ("sampler_arguments.multivariat", "did you mean multivariate?")),
        ("tpe", {"seed": 1}, 2, ("sampler_arguments.seed", "search.seed")),
        ("tpe", {"n_startup_trials": -3}, 2, ("sampler_arguments.n_startup_trials", "-3", "0 or more")),
        ("QMCSampler", {"scramble": True}, 2, ("sampler_arguments.scramble", "false")),
        ("nsga2", {"population_size": 1}, 2, ("nsga2", "population_size: 1")),
        # Found by a proposal only.
        ("TPESampler", {"n_ei_candidates": "many"}, 2, ("TPESampler", "n_ei_candidates: many")),
        ("PartialFixedSampler", {}, 2, ("PartialFixedSampler", "TypeError")),
        ("CmaEsSampler", {}, 2, ("CmaEsSampler", "2 objectives")),
    ],
)
def test_unusable_samplers_are_found_before_a_study(
    name: str, arguments: dict[str, Any], num_objectives: int, facts: tuple[str, ...]
) -> None:
    (problem,) = sampler_problems(name, arguments, num_objectives, SPACE)
    assert all(fact in problem for fact in facts), problem


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("tpe", {"multivariate": True, "n_startup_trials": 50}),
        ("NSGAIIISampler", {"mutation_prob": 0.1}),
        ("QMCSampler", {}),
        ("random", {}),
    ],
)
def test_usable_samplers_have_no_problem(name: str, arguments: dict[str, Any]) -> None:
    assert sampler_problems(name, arguments, 3, SPACE) == []
