"""Settings of the search: samplers, their arguments, limits and priors."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweeps.settings.space import Choices, FloatRange, PriorConfig
from sweeps.settings.study import load_study
from tests.sweeps.settings.test_study import problems_of, read

LIMITS = "max_params: 1000000, max_flops: 1000000000"
FRONT = f"name: x\nsearch: {{sampler: front, {LIMITS}, sampler_arguments: {{cost_scale: log}}}}"
RATE = "training.learning_rate: {type: float, low: 0.0001, high: 0.01, log: true"
LOSS = "distillation.pyramid.loss: {type: categorical, choices: [pearson, mse]"


def test_settings_of_front(tmp_path: Path) -> None:
    study = read(
        tmp_path,
        f"{FRONT}\nspace:\n  {RATE}, prior: {{center: 0.001, width: 0.1}}}}\n  {LOSS}}}",
        "space.training.learning_rate.prior.width=0.3",
        "space.distillation.pyramid.loss.prior={center: mse, width: 0.5}",
    )
    assert study.search.limits == {"num_params": 1e6, "flops": 1e9}
    rate, loss = study.space["training.learning_rate"], study.space["distillation.pyramid.loss"]
    assert isinstance(rate, FloatRange)
    assert isinstance(loss, Choices)
    assert rate.prior == PriorConfig(center=0.001, width=0.3)
    assert loss.prior == PriorConfig(center="mse", width=0.5)


def test_prior_and_step_can_be_removed_on_the_command_line(tmp_path: Path) -> None:
    study = read(
        tmp_path,
        f"name: x\nspace:\n  {RATE}, prior: {{center: 0.001, width: 0.1}}}}\n"
        "  training.momentum: {type: float, low: 0.1, high: 0.5, step: 0.1}",
        "space.training.learning_rate.prior=null",
        "space.training.momentum.step=null",
    )
    rate, momentum = study.space["training.learning_rate"], study.space["training.momentum"]
    assert rate == FloatRange(type="float", low=1e-4, high=1e-2, log=True)
    assert momentum == FloatRange(type="float", low=0.1, high=0.5)
    # A setting that is not searched is omitted whole.
    assert not read(tmp_path, f"name: x\nspace:\n  {RATE}}}", "space.training.learning_rate=null").space


def test_sampler_of_optuna_with_arguments(tmp_path: Path) -> None:
    text = "name: x\nsearch: {sampler: NSGAIIISampler, sampler_arguments: {population_size: 20}}"
    study = read(tmp_path, text, "search.sampler_arguments.mutation_prob=0.1")
    assert study.search.sampler_arguments == {"population_size": 20, "mutation_prob": 0.1}
    # A resolved study, as in study.yaml, reads back.
    assert load_study(tmp_path / "study.yaml").search.sampler == "NSGAIIISampler"


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("search: {sampler: TPE}", ("search.sampler", "did you mean tpe?")),
        ("search: {sampler: NSGAIISampeler}", ("search.sampler", "did you mean NSGAIISampler?")),
        ("search: {sampler: tpe, max_params: 5}", ("search.max_params", "tpe", "front")),
        (
            f"search: {{sampler: tpe}}\nspace: {{{RATE}, prior: {{center: 0.001, width: 0.1}}}}}}",
            ("space.training.learning_rate.prior", "front"),
        ),
        ("search: {sampler: front, sampler_arguments: {scale: 1}}", ("search.sampler_arguments.scale", "cost_scale")),
        (
            "search: {sampler: front, sampler_arguments: {cost_scale: square}}",
            ("search.sampler_arguments.cost_scale", "square", "linear, log"),
        ),
        ("search: {sampler: front}\nobjectives: [mr2_all, mr2_small, flops]", ("objectives", "one miss rate")),
        ("search: {sampler: front}\nobjectives: [mr2_all, gmacs, num_params, flops]", ("objectives", "at most 2")),
        ("search: {sampler: tpe, sampler_arguments: {gama: 1}}", ("sampler_arguments.gama", "did you mean gamma?")),
        (f"search: {{sampler: CmaEsSampler}}\nspace: {{{RATE}}}}}", ("search.sampler", "CmaEsSampler", "3 objectives")),
        ("search: {sampler: tpe, sampler_arguments: {n_ei_candidates: 1000000}}", ("n_ei_candidates", "100,000")),
        ("search: {sampler: front, max_flops: 0}", ("search.max_flops", "0")),
        (
            f"search: {{sampler: front}}\nspace: {{{RATE}, prior: {{center: 1, width: 0.1}}}}}}",
            ("prior.center (1)", "0.01"),
        ),
        (f"search: {{sampler: front}}\nspace: {{{RATE}, prior: {{center: a, width: 0.1}}}}}}", ("prior.center (a)",)),
        (f"search: {{sampler: front}}\nspace: {{{LOSS}, prior: {{center: kl, width: 0.1}}}}}}", ("prior.center (kl)",)),
        (f"search: {{sampler: front}}\nspace: {{{RATE}, prior: {{center: 0.001, width: 0}}}}}}", ("prior.width", "0")),
    ],
)
def test_mistakes(tmp_path: Path, text: str, facts: tuple[str, ...]) -> None:
    (problem,) = problems_of(tmp_path, f"name: x\n{text}")
    assert all(fact in problem for fact in facts), problem
