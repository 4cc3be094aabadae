"""Checks that every trial of a searched space, and every baseline, is a valid configuration."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping

from hkd.config import TrialConfig
from hkd.config_io import allowed_values
from hkd.config_problems import ConfigError
from sweeps.settings.space import Parameter, ends, num_values, trial_config

SEARCHABLE = ("student.", "distillation.", "training.", "data.augmentation.")
"""Where searched settings and those of baselines may lie. The others are the task itself: trials that differ in them
are no rivals."""
GIVEN_BY_STUDY = ("training.device", "training.num_threads")
"""What trials compute with is the study's affair (resources), and the same for all."""

MAX_VALUES_CHECKED = 4096
"""Of one range; of a longer one only its ends and evenly spaced values are tried."""


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


def _values_to_try(parameter: Parameter) -> list[object]:
    """The ends first."""
    if parameter.type == "categorical":
        return list(parameter.choices)
    count = num_values(parameter)
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
