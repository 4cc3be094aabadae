"""Optuna's samplers by name, and whether one can be used in a study."""

from __future__ import annotations

import difflib
import inspect
import warnings
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, TPESampler

from sweeps.search.stopped_trials import FinishedTPESampler

SHORT_NAMES = {"tpe": "TPESampler", "nsga2": "NSGAIISampler", "gp": "GPSampler", "random": "RandomSampler"}
"""Of samplers that need no arguments."""
_ENDING_STUDIES = ("GridSampler", "BruteForceSampler")
"""They call ``Study.stop`` when every configuration was tried, which only ``Study.optimize`` allows."""
_WITHOUT_SETTINGS = ("PartialFixedSampler",)
"""They need arguments that a file of settings cannot contain: another sampler."""


def sampler_names() -> list[str]:
    """Optuna's samplers that can be used, by their class names."""
    found = {name: getattr(optuna.samplers, name) for name in optuna.samplers.__all__}
    return sorted(
        name
        for name, kind in found.items()
        if inspect.isclass(kind)
        and issubclass(kind, BaseSampler)
        and not inspect.isabstract(kind)
        and name not in (*_ENDING_STUDIES, *_WITHOUT_SETTINGS)
    )


def make_sampler(
    name: str, *, seed: int, startup_trials: int, arguments: Mapping[str, Any] | None = None
) -> BaseSampler:
    """One of Optuna's samplers.

    Args:
        name: A class of ``optuna.samplers``, or ``tpe`` (Bergstra et al., 2011; multi-objective: Ozaki et al., 2022),
            ``nsga2`` (Deb et al., 2002), ``gp`` (Gaussian processes, expected hypervolume improvement) or ``random``.
        startup_trials: For samplers with such an argument: random trials before results are used, or the population
            size, whose first generation is random.
        arguments: Of its constructor; they replace the above.
    """
    kind = _sampler_class(name)
    # tpe: its constant liar counts running trials as bad ones, so that two concurrent proposals differ.
    known = {"seed": seed, "n_startup_trials": startup_trials, "population_size": startup_trials}
    accepted = inspect.signature(kind).parameters
    given = {key: value for key, value in known.items() if key in accepted}
    kind = FinishedTPESampler if kind is TPESampler else kind
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler: BaseSampler = kind(**{**given, **(arguments or {})})
    return sampler


def sampler_problems(
    name: str, arguments: Mapping[str, Any], num_objectives: int, space: Mapping[str, BaseDistribution]
) -> list[str]:
    """Why a sampler cannot be used with these arguments, as sentences.

    A few trials are proposed in memory: many arguments are not checked before, and some samplers have one objective
    only or need a package that is not installed.
    """
    accepted = [key for key in inspect.signature(_sampler_class(name)).parameters if key != "seed"]
    problems = []
    for key in arguments:
        if key == "seed":
            problems.append("search.sampler_arguments.seed: each proposal has its own seed; set search.seed instead")
        elif key not in accepted:
            close = difflib.get_close_matches(key, accepted, n=1)
            hint = f"did you mean {close[0]}? " if close else ""
            problems.append(
                f"search.sampler_arguments.{key}: {name} has no such argument; {hint}available: {', '.join(accepted)}"
            )
    num_first = arguments.get("n_startup_trials")
    if "n_startup_trials" in accepted and isinstance(num_first, int) and num_first < 0:
        problems.append(f"search.sampler_arguments.n_startup_trials: found {num_first}; allowed: 0 or more")
    if _sampler_class(name) is optuna.samplers.QMCSampler and arguments.get("scramble"):
        problems.append(
            "search.sampler_arguments.scramble: each proposal has its own seed, so that scrambled points are those of "
            "different sequences; allowed: false"
        )
    # The samplers that need no arguments are known to work, by either of their names.
    if problems or (name in (*SHORT_NAMES, *SHORT_NAMES.values()) and not arguments):
        return problems
    try:
        _propose_some(name, arguments, num_objectives, space)
    except (
        ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RuntimeError, ImportError, AssertionError
    ) as error:  # fmt: skip
        shown = ", ".join(f"{key}: {value}" for key, value in arguments.items()) or "none"
        reason = f"{type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else ''}"
        problems.append(
            f"search.sampler: {name} cannot propose trials with {num_objectives} objectives and these arguments "
            f"({shown}): {reason}; change search.sampler_arguments, or choose another sampler"
        )
    return problems


def _sampler_class(name: str) -> Any:
    return getattr(optuna.samplers, SHORT_NAMES.get(name, name))


def _propose_some(
    name: str, arguments: Mapping[str, Any], num_objectives: int, space: Mapping[str, BaseDistribution]
) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    # Few results are enough to leave the random phase, unless its length is wrong itself.
    if isinstance(arguments.get("n_startup_trials"), int):
        arguments = {key: value for key, value in arguments.items() if key != "n_startup_trials"}
    study = optuna.create_study(directions=["minimize"] * num_objectives)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number in range(4):
            study.sampler = make_sampler(name, seed=number, startup_trials=2, arguments=arguments)
            trial = study.ask(dict(space))
            study.tell(trial, [float(number + index) for index in range(num_objectives)])
