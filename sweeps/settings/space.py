"""The searched space: its ranges, Optuna's distributions of them, and the configurations of its trials."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Literal, Self

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from pydantic import Field, model_validator

from hkd.config import Section, TrialConfig
from hkd.config_files.parsing import apply_overrides, parse_config

Scalar = bool | int | float | str | None

_MOST_STEPS = 2**53  # beyond which floating-point numbers skip some
MOST_CHOICES = 256
"""Of a categorical parameter."""


class PriorConfig(Section):
    """Where good values are expected; weighs less with each result. For sampler ``front``."""

    center: Scalar
    """The most probable value."""
    width: Annotated[float, Field(gt=0.0, le=10.0)]
    """Standard deviation as a share of the range; of its logarithm where log is true. Of choices: each other choice is
    exp(-1 / (2 width^2)) times as probable as the center."""


class FloatRange(Section):
    """A real number between two ends, both included."""

    type: Literal["float"]
    low: float
    high: float
    log: bool = False
    """Sample uniformly in the logarithm."""
    step: Annotated[float, Field(gt=0.0)] | None = None
    """Sample low, low + step, low + 2 step, ... only."""
    prior: PriorConfig | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        _check_range(self.low, self.high, log=self.log, step=self.step, prior=self.prior)
        return self


class IntegerRange(Section):
    """A whole number between two ends, both included."""

    type: Literal["int"]
    low: int
    high: int
    log: bool = False
    """Sample uniformly in the logarithm."""
    step: Annotated[int, Field(ge=1)] = 1
    """Sample low, low + step, low + 2 step, ... only."""
    prior: PriorConfig | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        _check_range(self.low, self.high, log=self.log, step=None if self.step == 1 else self.step, prior=self.prior)
        return self


class Choices(Section):
    """One of a list of unordered values."""

    type: Literal["categorical"]
    choices: Annotated[tuple[Scalar, ...], Field(max_length=MOST_CHOICES)]
    prior: PriorConfig | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.choices) < 2:
            raise ValueError("choices must be two or more; set a value that is not searched in base")
        repeated = [choice for index, choice in enumerate(self.choices) if choice in self.choices[:index]]
        if repeated:
            raise ValueError(f"choices must differ from each other; found {repeated[0]!r} more than once")
        if self.prior is not None and self.prior.center not in self.choices:
            raise ValueError(f"prior.center ({self.prior.center}) must be one of the choices")
        return self


Parameter = Annotated[FloatRange | IntegerRange | Choices, Field(discriminator="type")]
RANGE_FIELDS = frozenset({*FloatRange.model_fields, *IntegerRange.model_fields, *Choices.model_fields})


def distributions(space: Mapping[str, Parameter]) -> dict[str, BaseDistribution]:
    """Optuna's distributions by dotted name."""
    return {key: _distribution(parameter) for key, parameter in space.items()}


def trial_config(base: TrialConfig, values: Mapping[str, object], *, source: str = "the trial") -> TrialConfig:
    """The base with the values of some dotted names replaced.

    Raises:
        ConfigError: a name is unknown, a value is not allowed, or values contradict each other.
    """
    return parse_config(TrialConfig, apply_overrides(base.model_dump(mode="json"), values), source=source)


def ends(parameter: Parameter) -> tuple[object, ...]:
    """The two ends of a range, or all choices."""
    return tuple(parameter.choices) if parameter.type == "categorical" else (parameter.low, parameter.high)


def extreme_sizes(space: Mapping[str, Parameter]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Values of the searched settings of students, by dotted name, for the smallest and for the largest students.

    Numbers are at their lower and upper ends, with all combinations of choices: a student grows with each number of its
    shape, so that values between the ends need not be tried.
    """
    low, choices = _ends_of_students(space, largest=False), _choices_of_students(space)
    high = _ends_of_students(space, largest=True)
    for chosen in itertools.product(*choices.values()):
        named = dict(zip(choices, chosen, strict=True))
        yield {**low, **named}, {**high, **named}


def smallest_students(space: Mapping[str, Parameter], base: TrialConfig, most: int) -> Iterator[TrialConfig]:
    """Students with all numbers at their lower ends, for at most ``most`` combinations of choices."""
    for low, _ in itertools.islice(extreme_sizes(space), most):
        yield trial_config(base, low)


def num_combinations(space: Mapping[str, Parameter]) -> int:
    """How many combinations of choices the students of a space have."""
    return math.prod(len(choices) for choices in _choices_of_students(space).values())


def _ends_of_students(space: Mapping[str, Parameter], *, largest: bool) -> dict[str, float]:
    return {
        key: parameter.high if largest else parameter.low
        for key, parameter in space.items()
        if key.startswith("student.") and parameter.type != "categorical"
    }


def _choices_of_students(space: Mapping[str, Parameter]) -> dict[str, tuple[Scalar, ...]]:
    return {
        key: parameter.choices
        for key, parameter in space.items()
        if key.startswith("student.") and parameter.type == "categorical"
    }


def num_configurations(space: Mapping[str, Parameter]) -> int | None:
    """How many different trials the space holds; None for a continuous space."""
    counts = [num_values(parameter) for parameter in space.values()]
    return None if None in counts else math.prod(count for count in counts if count is not None)


def num_proposals(space: Mapping[str, Parameter], num_trials: int) -> int:
    """How many trials are proposed for ``search.num_trials``: no more than the space holds."""
    available = num_configurations(space)
    return num_trials if available is None else min(num_trials, available)


def _distribution(parameter: Parameter) -> BaseDistribution:
    if parameter.type == "float":
        return FloatDistribution(parameter.low, parameter.high, log=parameter.log, step=parameter.step)
    if parameter.type == "int":
        return IntDistribution(parameter.low, parameter.high, log=parameter.log, step=parameter.step)
    return CategoricalDistribution(parameter.choices)


def num_values(parameter: Parameter) -> int | None:
    """How many values a parameter takes; None for a continuous range."""
    if parameter.type == "categorical":
        return len(parameter.choices)
    if parameter.step is None:
        return None
    return round((parameter.high - parameter.low) / parameter.step) + 1


def _check_range(low: float, high: float, *, log: bool, step: float | None, prior: PriorConfig | None) -> None:
    problems = []
    if prior is not None and low < high:
        center = prior.center
        if isinstance(center, bool | str) or center is None or not low <= center <= high:
            problems.append(f"prior.center ({center}) must be a number from low ({low:g}) to high ({high:g})")
    if low >= high:
        problems.append(f"low ({low:g}) must be below high ({high:g}); set a value that is not searched in base")
    if log and low <= 0:
        problems.append(f"low ({low:g}) must be above 0 where log is true")
    if log and step is not None:
        problems.append("log and step exclude each other; remove one")
    elif step is not None and low < high:
        try:
            if (high - low) / step >= _MOST_STEPS:
                raise InvalidOperation
            remainder = (Decimal(str(high)) - Decimal(str(low))) % Decimal(str(step))
        except InvalidOperation:
            problems.append(f"step ({step:g}) is too small for a range from {low:g} to {high:g}")
        else:
            if remainder:
                problems.append(f"high ({high:g}) is not low ({low:g}) plus a whole number of steps of {step:g}")
    if problems:
        raise ValueError("; ".join(problems))
