"""How a study searches: its sampler, and the limits on the costs of its students."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from hkd.config import Section, Seed
from hkd.metric_names import COSTS, FLOPS, LATENCY_MS, MISS_RATES, NUM_PARAMS
from sweeps.search.improvement import COST_SCALES, MOST_COSTS
from sweeps.search.optuna_samplers import SHORT_NAMES, sampler_names, sampler_problems
from sweeps.settings.space import Parameter, distributions

FRONT = "front"
DEFAULT_CONFIRM_SEEDS = 2
"""Where there are test images, and of --confirm."""
LARGEST_ARGUMENT = 100_000
"""Number among the arguments of a sampler: some are sizes of arrays."""


def _check_sampler(name: str) -> str:
    allowed = [*SHORT_NAMES, FRONT, *sampler_names()]
    if name not in allowed:
        by_lower_case = {each.lower(): each for each in allowed}
        close = difflib.get_close_matches(name.lower(), by_lower_case, n=1)
        hint = f"did you mean {by_lower_case[close[0]]}? " if close else ""
        raise ValueError(f'found "{name}"; {hint}allowed: {", ".join(allowed)}')
    return name


def _check_arguments(arguments: dict[str, Any]) -> dict[str, Any]:
    for key, value in arguments.items():
        if isinstance(value, int | float) and abs(value) > LARGEST_ARGUMENT:
            raise ValueError(f"found {value} for {key}; allowed: numbers up to {LARGEST_ARGUMENT:,}")
    return arguments


class SearchConfig(Section):
    """The sampler and the number of its proposals."""

    sampler: Annotated[str, Field(max_length=64), AfterValidator(_check_sampler)] = FRONT
    """``front``: a Gaussian process on the miss rate, with exact costs, limits and priors. Optuna's: ``tpe`` (Parzen
    estimators), ``nsga2`` (genetic algorithm), ``gp`` (Gaussian processes), ``random``, or a class of
    ``optuna.samplers`` by its name."""
    sampler_arguments: Annotated[dict[str, Any], Field(max_length=50), AfterValidator(_check_arguments)] = Field(
        default_factory=dict
    )
    """Of the constructor of Optuna's sampler; of ``front``: ``cost_scale`` (linear or log)."""
    num_trials: Annotated[int, Field(ge=1, le=1_000_000)] = 50
    """Proposed trials, without the baselines. A larger number continues a finished study with --resume."""
    patience: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """The search ends once this many proposals in a row left the hypervolume of the front as it was: each was stopped,
    or an earlier trial is at most equal in every objective. Those after the first that still runs do not count yet.
    null: it runs all trials."""
    warm_start: Annotated[str, Field(min_length=1, max_length=4096)] | None = None
    """Name of a study in the same storage_path, or the folder of one: the sampler starts with its finished trials, as
    far as this study would train and evaluate the same students in the same way. They are not part of this study's
    front."""
    startup_trials: Annotated[int, Field(ge=2, le=100_000)] = 10
    """Trials before the sampler uses results, random or of a Sobol sequence; for nsga2, the population size."""
    max_params: Annotated[int, Field(ge=1, le=10**12)] | None = None
    """Most parameters of a proposed student; sampler ``front`` only. Baselines may have more."""
    max_flops: Annotated[int, Field(ge=1, le=10**18)] | None = None
    """Most floating-point operations of a proposed student for one image; sampler ``front`` only."""
    max_latency_ms: Annotated[float, Field(gt=0.0, le=1e9)] | None = None
    """Highest latency of a proposed student, milliseconds; sampler ``front`` only, with base.evaluation.latency."""
    confirm_seeds: Annotated[int, Field(ge=0, le=100)] | None = None
    """How often the members of the front, and the baselines, are trained again after the search, each time with another
    seed, and evaluated on base.data.test_annotations, or without these on the validation images. 0: not. null: 2 with
    test images, 0 without."""
    seed: Seed = 0

    @property
    def limits(self) -> dict[str, float]:
        """Highest allowed cost by metric name."""
        limits = {NUM_PARAMS: self.max_params, FLOPS: self.max_flops, LATENCY_MS: self.max_latency_ms}
        return {name: float(limit) for name, limit in limits.items() if limit is not None}


def search_problems(search: SearchConfig, objectives: Sequence[str], space: Mapping[str, Parameter]) -> list[str]:
    """Why the sampler cannot search this space for these objectives, as sentences."""
    if search.sampler == FRONT:
        return list(_front_problems(search, objectives))
    problems = [
        f"search.{name}: {search.sampler} may exceed it; set search.sampler to {FRONT}, or remove this"
        for name in ("max_params", "max_flops", "max_latency_ms")
        if getattr(search, name) is not None
    ]
    problems += [
        f"space.{key}.prior: {search.sampler} uses no priors; set search.sampler to {FRONT}, or remove this"
        for key, parameter in space.items()
        if parameter.prior is not None
    ]
    return problems + sampler_problems(search.sampler, search.sampler_arguments, len(objectives), distributions(space))


def _front_problems(search: SearchConfig, objectives: Sequence[str]) -> Iterator[str]:
    measured = [name for name in objectives if name in MISS_RATES]
    costs = [name for name in objectives if name in COSTS]
    if len(measured) > 1 or len(costs) > MOST_COSTS:
        yield (
            f"objectives: found {', '.join(objectives)}; sampler {FRONT} allows one miss rate, with at most "
            f"{MOST_COSTS} of {', '.join(COSTS)}; remove some, or set search.sampler to another, such as tpe"
        )
    for key, value in search.sampler_arguments.items():
        if key != "cost_scale":
            yield f"search.sampler_arguments.{key}: {FRONT} has no such argument; available: cost_scale"
        elif value not in COST_SCALES:
            yield f"search.sampler_arguments.cost_scale: found {value!r}; allowed: {', '.join(COST_SCALES)}"
