"""The sampler ``front`` in Optuna studies of an invented task."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import Trial

from hkd.dominance import hypervolume
from sweeps.search.candidates import NoCandidateError
from sweeps.search.encoding import Prior, Space
from sweeps.search.sampler import FrontSampler

SPACE: dict[str, BaseDistribution] = {
    "width": FloatDistribution(0.125, 0.5, step=0.125),
    "channels": IntDistribution(16, 128, step=8),
    "rate": FloatDistribution(1e-4, 1e-1, log=True),
    "weight": FloatDistribution(0.1, 10.0, log=True),
    "loss": CategoricalDistribution(("a", "b", "c")),
}
OBJECTIVES = ("miss_rate", "size")
REFERENCE = {"miss_rate": 1.0, "size": 1.0}


BEST: dict[str, Any] = {"width": 0.125, "channels": 24, "rate": 0.01, "weight": 1.0, "loss": "b"}


def cost(params: Mapping[str, Any]) -> dict[str, float]:
    return {"size": params["width"] * params["channels"] / 64, "time": params["channels"]}


def miss_rate(params: Mapping[str, Any]) -> float:
    """Falls with the size; lowest at a rate of 0.01, a weight of 1 and loss b."""
    detuned = 0.1 * math.log10(params["rate"] / 0.01) ** 2 + 0.1 * math.log10(params["weight"]) ** 2
    return 0.15 * float(cost(params)["size"] ** -0.3) + detuned + {"a": 0.05, "b": 0.0, "c": 0.1}[params["loss"]]


def front_sampler(objectives: Sequence[str] = OBJECTIVES, **arguments: Any) -> FrontSampler:
    given = {"reference": REFERENCE, "cost_settings": ("width", "channels"), "startup_trials": 8, "seed": 0}
    return FrontSampler(SPACE, objectives, "miss_rate", cost, **{**given, **arguments})


def study_of(sampler: BaseSampler, objectives: Sequence[str] = OBJECTIVES) -> optuna.Study:
    return optuna.create_study(directions=["minimize"] * len(objectives), sampler=sampler)


def finish(study: optuna.Study, trial: Trial, objectives: Sequence[str] = OBJECTIVES) -> None:
    values = {"miss_rate": miss_rate(trial.params), **cost(trial.params)}
    study.tell(trial, [values[name] for name in objectives])


def run(study: optuna.Study, count: int, objectives: Sequence[str] = OBJECTIVES) -> list[dict[str, Any]]:
    for _ in range(count):
        finish(study, study.ask(SPACE), objectives)
    return [trial.params for trial in study.trials]


def volume(study: optuna.Study) -> float:
    return hypervolume(np.array([trial.values for trial in study.trials]), np.ones(2))


def test_better_front_than_random_sampling() -> None:
    reached = []
    for seed in range(2):
        modelled, random = study_of(front_sampler(seed=seed)), study_of(RandomSampler(seed=seed))
        run(modelled, 40)
        run(random, 64)
        reached.append(volume(modelled))
        # Not even in twice as many.
        assert volume(modelled) > volume(random)
    # The best front of the task: tuned settings at every size.
    sizes = np.unique([w * c / 64 for w in np.arange(0.125, 0.51, 0.125) for c in range(16, 129, 8)])
    best = hypervolume(np.column_stack([0.15 * sizes**-0.3, sizes]), np.ones(2))
    assert min(reached) > 0.98 * best


@pytest.mark.parametrize("objectives", [("miss_rate",), ("size", "miss_rate"), ("miss_rate", "size", "time")])
@pytest.mark.parametrize("cost_scale", ["linear", "log"])
def test_proposals_are_made_for_one_to_three_objectives_in_any_order(
    objectives: Sequence[str], cost_scale: str
) -> None:
    # Without a reference, which is then that of the candidates.
    study = study_of(front_sampler(objectives, cost_scale=cost_scale, reference=None), objectives)
    proposed = run(study, 12, objectives)
    assert len({tuple(params.items()) for params in proposed}) == 12


def test_one_objective_is_minimised() -> None:
    study = study_of(front_sampler(("miss_rate",)), ("miss_rate",))
    # The lowest of all: 0.15 at a size of 1.
    assert min(map(miss_rate, run(study, 24, ("miss_rate",)))) < 0.16


def test_limits_are_never_violated() -> None:
    # 3 of 60 shapes: width 0.125 with 16 to 32 channels.
    study = study_of(front_sampler(limits={"size": 0.0625, "time": 1000}))
    for params in run(study, 16):
        assert params["width"] * params["channels"] <= 4.0


def test_limits_that_no_configuration_meets_name_the_nearest() -> None:
    study = study_of(front_sampler(limits={"size": 0.03}))
    with pytest.raises(NoCandidateError, match="width = 0.125, channels = 16|channels = 16, width = 0.125"):
        study.ask(SPACE)


def test_proposals_depend_on_seed_and_results_alone() -> None:
    one = run(study_of(front_sampler()), 14)
    assert run(study_of(front_sampler()), 14) == one
    assert run(study_of(front_sampler(seed=1)), 14) != one
    # A new sampler for each trial, as a resumed study has.
    study = study_of(front_sampler())
    for _ in range(14):
        study.sampler = front_sampler()
        run(study, 1)
    assert [trial.params for trial in study.trials] == one


def test_no_configuration_is_proposed_twice() -> None:
    space: dict[str, BaseDistribution] = {"x": IntDistribution(1, 4), "y": CategoricalDistribution(("a", "b", "c"))}

    def size(params: Mapping[str, Any]) -> dict[str, float]:
        return {"size": params["x"]}

    study = study_of(FrontSampler(space, OBJECTIVES, "miss_rate", size, startup_trials=3, seed=0))
    for _ in range(12):
        trial = study.ask(space)
        study.tell(trial, [1 / trial.params["x"], trial.params["x"]])
    assert len({(trial.params["x"], trial.params["y"]) for trial in study.trials}) == 12
    # None is left: one is repeated.
    assert study.ask(space).params["x"] in range(1, 5)


@pytest.mark.parametrize("is_finished", [False, True])
@pytest.mark.parametrize("most", [12, 100])
def test_all_configurations_within_the_limits_are_proposed_once(most: int, is_finished: bool) -> None:
    # 12 x 12 x 2 shapes are all compared with the limits; 100 x 100 x 2 are too many for that.
    space: dict[str, BaseDistribution] = {
        "width": IntDistribution(1, most),
        "depth": IntDistribution(1, most, log=True),
        "kind": CategoricalDistribution(("b", "a")),
        "loss": CategoricalDistribution(("x", "y")),
    }

    def size(params: Mapping[str, Any]) -> dict[str, float]:
        return {"size": params["width"] * params["depth"] * (1 if params["kind"] == "a" else 2)}

    sampler = FrontSampler(
        space, OBJECTIVES, "miss_rate", size, limits={"size": 10}, cost_settings=("width", "depth", "kind"), seed=0
    )
    study = study_of(sampler)
    # Pairs with a product of at most 10: 10 + 5 + 3 + 2 + 2 + 5 x 1 = 27; of at most 5: 5 + 2 + 1 + 1 + 1 = 10.
    count = (27 + 10) * 2
    for _ in range(count):
        trial = study.ask(space)
        assert size(trial.params)["size"] <= 10
        if is_finished:
            study.tell(trial, [1 / size(trial.params)["size"], size(trial.params)["size"]])
    assert len({tuple(sorted(trial.params.items())) for trial in study.trials}) == count


def test_concurrent_proposals_differ() -> None:
    def next_two(is_running_known: bool) -> Any:
        """Points of two proposals, the second with or without the first as a running trial."""
        study = study_of(front_sampler())
        run(study, 30)
        first = study.ask(SPACE)
        if not is_running_known:
            study.tell(first, state=optuna.trial.TrialState.FAIL)
        return Space(SPACE, {}).units([first.params, study.ask(SPACE).params])

    known, unknown = next_two(True), next_two(False)
    assert (known[0] == unknown[0]).all()
    # A failed trial is not modelled: the same optimum is proposed again, as near as a configuration can be.
    assert np.abs(known[1] - known[0]).max() > 2 * np.abs(unknown[1] - unknown[0]).max()


def test_trial_stopped_early_shifts_later_proposals_away() -> None:
    def proposed_near(value: float) -> float:
        """Distance of the next proposal to a trial that was stopped with this miss rate at half of its epochs."""
        study = study_of(front_sampler(curve=lambda trial: trial.user_attrs.get("curve", {})))
        for _ in range(20):
            trial = study.ask(SPACE)
            trial.set_user_attr("curve", {0.5: miss_rate(trial.params) + 0.1})
            finish(study, trial)
        study.enqueue_trial(BEST)
        trial = study.ask(SPACE)
        trial.set_user_attr("curve", {0.5: value})
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        points = Space(SPACE, {}).units([BEST, study.ask(SPACE).params])
        return float(np.abs(points[1] - points[0]).max())

    # As good as the model expects, against far worse.
    assert proposed_near(miss_rate(BEST) + 0.1) < proposed_near(0.9)


def test_prior_draws_first_trials_and_is_outweighed_by_results() -> None:
    # Wrong: the best rate is 0.01.
    wrong = {"rate": Prior(center=1e-4, width=0.1), "loss": Prior(center="c", width=0.3)}
    study = study_of(front_sampler(priors=wrong))
    proposed = run(study, 40)
    early, late = proposed[:8], proposed[-10:]
    # Every second of the first trials is within two widths (0.2 of three decades) of the centre.
    assert sum(params["rate"] < 1e-4 * 10 ** (0.2 * 3) for params in early) >= 3
    assert np.median([params["rate"] for params in late]) > 1e-3
    assert [params["loss"] for params in late].count("b") >= 5


def test_right_prior_finds_the_optimum_sooner() -> None:
    right = {"rate": Prior(0.01, 0.1), "weight": Prior(1.0, 0.1), "loss": Prior("b", 0.3)}
    informed, uninformed = study_of(front_sampler(priors=right)), study_of(front_sampler())
    run(informed, 10)
    run(uninformed, 10)
    assert volume(informed) > volume(uninformed)


def test_suggested_settings_beside_the_space_are_sampled_at_random() -> None:
    def objective(trial: Trial) -> tuple[float, float]:
        width = trial.suggest_float("width", 0.125, 0.5, step=0.125)
        other = trial.suggest_float("other", 0.0, 1.0)
        return other, width

    space = {"width": SPACE["width"]}
    sampler = FrontSampler(space, OBJECTIVES, "miss_rate", lambda params: {"size": params["width"]}, startup_trials=2)
    study = study_of(sampler)
    study.optimize(objective, n_trials=5)
    assert len({trial.params["other"] for trial in study.trials}) == 5


@pytest.mark.parametrize(
    ("arguments", "facts"),
    [
        ({"objectives": ("size", "time")}, ("measured", "miss_rate")),
        ({"objectives": ("miss_rate", "size", "time", "more")}, ("objectives", "2 costs")),
        ({"cost_scale": "square"}, ("cost_scale", "square", "linear", "log")),
        ({"startup_trials": 0}, ("startup_trials", "0")),
    ],
)
def test_invalid_arguments(arguments: dict[str, Any], facts: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="found") as error:
        front_sampler(**arguments)
    assert all(fact in str(error.value) for fact in facts)


@pytest.mark.parametrize("lowest", [0.0, -1.0])
def test_logarithmic_scale_needs_costs_above_zero(lowest: float) -> None:
    space: dict[str, BaseDistribution] = {"width": FloatDistribution(0.0, 1.0, step=0.25)}

    def proposals(cost_scale: str) -> list[float]:
        def size(params: Mapping[str, Any]) -> dict[str, float]:
            return {"size": params["width"] + lowest}

        sampler = FrontSampler(
            space,
            OBJECTIVES,
            "miss_rate",
            size,
            startup_trials=2,
            seed=0,
            cost_scale=cost_scale,  # type: ignore[arg-type]
        )
        study = study_of(sampler)
        for _ in range(4):
            trial = study.ask(space)
            study.tell(trial, [1 - trial.params["width"], size(trial.params)["size"]])
        return [trial.params["width"] for trial in study.trials]

    assert len(set(proposals("linear"))) == 4
    with pytest.raises(ValueError, match="cost size of a trial is .*linear"):
        proposals("log")


@pytest.mark.parametrize("directions", [["minimize"], ["minimize", "maximize"]])
def test_studies_of_other_objectives_are_refused(directions: list[Any]) -> None:
    with pytest.raises(ValueError, match="objective"):
        optuna.create_study(directions=directions, sampler=front_sampler()).ask(SPACE)
