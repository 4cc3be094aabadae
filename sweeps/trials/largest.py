"""The largest students that a study may propose: at the upper ends of its space, or at its limits on costs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from sweeps.settings.space import FloatRange, IntegerRange, extreme_sizes, trial_config
from sweeps.settings.study import StudyConfig
from sweeps.trials.cost import student_cost

MOST_COMBINATIONS = 64
"""Of choices; of more, the first ones."""
_HALVINGS = 16


def largest_sizes(study: StudyConfig) -> Iterator[dict[str, Any]]:
    """Values of the searched settings of students, by dotted name: those of the largest students.

    Costs grow with each number of a student's shape. For each combination of choices whose student of the upper ends
    exceeds a limit, these are the largest student with all numbers at the same share of their ranges, and for each
    number the student with the highest value of it, the others at their lower ends. Combinations without any student
    within the limits are left out.
    """
    numbers = {
        key: parameter
        for key, parameter in study.space.items()
        if key.startswith("student.") and isinstance(parameter, FloatRange | IntegerRange)
    }
    for low, high in itertools.islice(extreme_sizes(study.space), MOST_COMBINATIONS):
        if _is_within(study, high):
            yield high
        elif _is_within(study, low):
            yield from _at_limits(study, numbers, low)


def _at_limits(
    study: StudyConfig, numbers: Mapping[str, FloatRange | IntegerRange], low: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    groups = [tuple(numbers), *((key,) for key in numbers)]
    for keys in groups:

        def sizes(share: float, keys: tuple[str, ...] = keys) -> dict[str, Any]:
            return {**low, **{key: _value(numbers[key], share) for key in keys}}

        def is_within(share: float, sizes: Callable[[float], dict[str, Any]] = sizes) -> bool:
            return _is_within(study, sizes(share))

        yield sizes(_largest_share(is_within))


def _largest_share(is_within: Callable[[float], bool]) -> float:
    """By bisection, of a function that is true at 0."""
    if is_within(1.0):
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if is_within(middle) else (low, middle)
    return low


def _value(parameter: FloatRange | IntegerRange, share: float) -> float:
    """The value at a share of the range, rounded down to the grid."""
    value = parameter.low + share * (parameter.high - parameter.low)
    if parameter.step is None:
        return value
    # Of a share that stands for a grid point, rounding errors would lose this point.
    return parameter.low + math.floor((value - parameter.low) / parameter.step + 1e-9) * parameter.step


def _is_within(study: StudyConfig, sizes: Mapping[str, Any]) -> bool:
    limits = study.search.limits
    if not limits:
        return True
    costs = student_cost(trial_config(study.base, sizes)).as_metrics()
    # Before it is measured, a student has no latency.
    return all(costs[name] <= limit for name, limit in limits.items() if name in costs)
