"""What is searched: from the study's ranges to Optuna's distributions and to trial configurations."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from hkd.config import TrialConfig
from hkd.config_io import ConfigError, allowed_values, apply_overrides, parse_config

if TYPE_CHECKING:
    from sweeps.settings.study import Parameter

SEARCHABLE = ("student.", "distillation.", "training.", "data.augmentation.")
"""Where searched settings and those of baselines may lie. The others are the task itself: trials that differ in them
are no rivals."""
GIVEN_BY_STUDY = ("training.device", "training.num_threads")
"""What trials compute with is the study's affair (resources), and the same for all."""

MAX_VALUES_CHECKED = 4096
"""Of one range; of a longer one only its ends and evenly spaced values are tried."""
MAX_COMBINATIONS = 64


def distributions(space: Mapping[str, Parameter]) -> dict[str, BaseDistribution]:
    """Optuna's form of the space, by dotted name."""
    return {key: _distribution(parameter) for key, parameter in space.items()}


def trial_config(base: TrialConfig, values: Mapping[str, object], *, source: str = "the trial") -> TrialConfig:
    """The base with values put at dotted names, checked anew.

    Raises:
        ConfigError: a name is unknown or a value is not allowed.
    """
    return parse_config(TrialConfig, apply_overrides(base.model_dump(mode="json"), values), source=source)


def space_problems(space: Mapping[str, Parameter], base: TrialConfig) -> list[str]:
    """Everything that would make a trial of this space impossible, as sentences; empty where all is well.

    Every choice and every value of a stepped range is tried (of a continuous one its ends and its middle), and every
    pair of ends of two settings, which finds the rules that tie two settings together.
    """
    problems = []
    sound: dict[str, Parameter] = {}
    for key, parameter in space.items():
        found = _name_problems(key, base) or _value_problems(key, parameter, base)
        problems += found
        if not found:
            sound[key] = parameter
    return problems + _rule_problems(sound, base)


def baseline_problems(baselines: Mapping[str, Mapping[str, object]], base: TrialConfig) -> list[str]:
    """Baselines that cannot be: settings that do not exist or values that are not allowed."""
    problems = []
    for name, changes in baselines.items():
        if not name or not all(character.isalnum() or character in "-_" for character in name):
            problems.append(f'baselines: the name "{name}" is not allowed; allowed: letters, digits, - and _')
        mistakes = list(_mistakes(base, changes))
        # Names that do not exist are among the mistakes.
        mistakes += [problem for key in changes if _exists(key) for problem in _place_problems(key, "differ from base")]
        problems += [f"baselines.{name}: {problem}" for problem in mistakes]
    return problems


def ends(parameter: Parameter) -> tuple[object, ...]:
    """The two ends of a range, or all choices."""
    return tuple(parameter.choices) if parameter.type == "categorical" else (parameter.low, parameter.high)


def extreme_students(space: Mapping[str, Parameter], base: TrialConfig) -> Iterator[tuple[TrialConfig, TrialConfig]]:
    """Candidates for the smallest and the largest student: numbers at their ends, each choice of what has no order.

    Numbers of a student's shape make it larger as they grow, so that no values in between need be tried.
    """
    student = {key: parameter for key, parameter in space.items() if key.startswith("student.")}
    low = {key: parameter.low for key, parameter in student.items() if parameter.type != "categorical"}
    high = {key: parameter.high for key, parameter in student.items() if parameter.type != "categorical"}
    choices = {key: parameter.choices for key, parameter in student.items() if parameter.type == "categorical"}
    for chosen in itertools.islice(itertools.product(*choices.values()), MAX_COMBINATIONS):
        named = dict(zip(choices, chosen, strict=True))
        yield trial_config(base, {**low, **named}), trial_config(base, {**high, **named})


def num_configurations(space: Mapping[str, Parameter]) -> int | None:
    """How many different trials the space holds; None for a continuous one."""
    counts = [_num_values(parameter) for parameter in space.values()]
    return None if None in counts else math.prod(count for count in counts if count is not None)


def num_proposals(space: Mapping[str, Parameter], num_trials: int) -> int:
    """How many trials are proposed where ``num_trials`` are asked for: no more than the space holds."""
    available = num_configurations(space)
    return num_trials if available is None else min(num_trials, available)


def _distribution(parameter: Parameter) -> BaseDistribution:
    if parameter.type == "float":
        return FloatDistribution(parameter.low, parameter.high, log=parameter.log, step=parameter.step)
    if parameter.type == "int":
        return IntDistribution(parameter.low, parameter.high, log=parameter.log, step=parameter.step)
    return CategoricalDistribution(parameter.choices)


def _num_values(parameter: Parameter) -> int | None:
    if parameter.type == "categorical":
        return len(parameter.choices)
    if parameter.step is None:
        return None
    return round((parameter.high - parameter.low) / parameter.step) + 1


def _values_to_try(parameter: Parameter) -> list[object]:
    """The ends first."""
    if parameter.type == "categorical":
        return list(parameter.choices)
    count = _num_values(parameter)
    if parameter.type == "float" and (parameter.step is None or count is None):
        middle = math.sqrt(parameter.low * parameter.high) if parameter.log else (parameter.low + parameter.high) / 2
        return [parameter.low, parameter.high, middle]
    assert count is not None
    assert parameter.step is not None
    stride = max(1, count // MAX_VALUES_CHECKED)
    return [
        parameter.low,
        parameter.high,
        *(parameter.low + i * parameter.step for i in range(stride, count - 1, stride)),
    ]


def _name_problems(key: str, base: TrialConfig) -> list[str]:
    try:
        allowed_values(TrialConfig, key)
    except ConfigError as error:
        return [f"space.{problem}" for problem in error.problems]
    if misplaced := _place_problems(key, "be searched"):
        return [f"space.{problem}" for problem in misplaced]
    if base.teacher is None and key.startswith("distillation."):
        return [
            f"space.{key}: base.teacher is null, so that nothing is distilled; describe a teacher or leave this out"
        ]
    return []


def _place_problems(key: str, wish: str) -> list[str]:
    """What keeps a setting from being different in different trials."""
    if key in GIVEN_BY_STUDY:
        return [f"{key}: cannot {wish}: all trials are given the same. Set it below base, or see resources, instead"]
    if f"{key}." in SEARCHABLE:
        return [f"{key}: cannot {wish} as a whole; name its settings one by one, as {key}.NAME"]
    if not key.startswith(SEARCHABLE):
        allowed = ", ".join(f"{place}*" for place in SEARCHABLE)
        reason = "it is part of the task, and trials that differ in it cannot be compared"
        return [f"{key}: cannot {wish}: {reason}; allowed: {allowed}. Set it below base instead"]
    return []


def _exists(key: str) -> bool:
    try:
        allowed_values(TrialConfig, key)
    except ConfigError:
        return False
    return True


def _value_problems(key: str, parameter: Parameter, base: TrialConfig) -> list[str]:
    """Values that the setting does not take, whatever the others are."""
    problems = []
    limits = ends(parameter)
    for value in _values_to_try(parameter):
        where = "choices" if parameter.type == "categorical" else "low" if value == limits[0] else "high"
        own = [mistake for mistake in _mistakes(base, {key: value}) if mistake.startswith(f"{key}: ")]
        for reason in (mistake.removeprefix(f"{key}: ") for mistake in own):
            if value in limits:
                problems.append(f"space.{key}.{where}: {reason}")
            elif not problems:
                return [
                    f"space.{key}: contains {value}, which is not allowed ({reason}); give a step or narrow the range"
                ]
    return problems


def _rule_problems(space: Mapping[str, Parameter], base: TrialConfig) -> list[str]:
    """Values that are allowed one by one but not with each other.

    Only whole trials are tried, with every searched setting at an end: the base's own values of searched settings
    never meet the values of others.
    """
    backgrounds = [{key: ends(parameter)[index] for key, parameter in space.items()} for index in (0, -1)]
    problems: list[str] = []
    blamed: set[tuple[str, object]] = set()
    for key, parameter in space.items():
        for value in ends(parameter):
            found = [set(_mistakes(base, {**background, key: value})) for background in backgrounds]
            for mistake in sorted(found[0] & found[1]):
                problems.append(f"space: {key} = {value}: {mistake}")
                blamed.add((key, value))
    together: dict[str, str] = {}
    for (first, one), (second, other) in _pairs_of_ends(space):
        if (first, one) in blamed or (second, other) in blamed:
            continue
        for background in backgrounds:
            for mistake in _mistakes(base, {**background, first: one, second: other}):
                sentence = f"space: {first} = {one} together with {second} = {other}: {mistake}"
                # Many pairs meet the same rule by way of their background; tell the pair that the rule speaks of.
                if all(name.rpartition(".")[2] in mistake for name in (first, second)):
                    together[mistake] = sentence
                together.setdefault(mistake, sentence)
    return list(dict.fromkeys([*problems, *together.values()]))


def _pairs_of_ends(space: Mapping[str, Parameter]) -> Iterator[tuple[tuple[str, object], tuple[str, object]]]:
    for (first, one), (second, other) in itertools.combinations(space.items(), 2):
        for value, other_value in itertools.product(ends(one), ends(other)):
            yield (first, value), (second, other_value)


def _mistakes(base: TrialConfig, values: Mapping[str, object]) -> tuple[str, ...]:
    try:
        trial_config(base, values)
    except ConfigError as error:
        return error.problems
    return ()
