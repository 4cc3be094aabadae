"""Checks that every trial of a searched space, and every baseline, is a valid configuration."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping

from hkd.config import TrialConfig
from hkd.config_files.parsing import allowed_values
from hkd.config_files.problems import ConfigError
from sweeps.settings.space import Parameter, ends, num_values, trial_config

SEARCHABLE = ("student.", "distillation.", "training.", "data.augmentation.")
"""Prefixes of the settings that may be searched or differ in baselines. The others define the task: trials that differ
in them cannot be compared."""
GIVEN_BY_STUDY = ("training.device", "training.num_threads")
"""Settings of the machine: the same for all trials, from the study's resources."""
SEED = "training.seed"
UNLABELLED_IMAGES = "data.unlabelled_images"
"""Labelled once per study; a baseline may do without them."""

MAX_VALUES_CHECKED = 512
"""Values of one range that are tried; of a longer range, its ends and evenly spaced values."""
MAX_CHOICES_PAIRED = 8
"""Choices of one list that are tried together with those of others; of a longer list, evenly spaced ones."""


def space_problems(space: Mapping[str, Parameter], base: TrialConfig) -> list[str]:
    """Every reason why a trial of this space may be invalid, as sentences; empty for a valid space.

    Every choice and every value of a stepped range is tried (of a continuous one its ends and its middle), and every
    pair of ends of two settings, which finds rules between two settings.
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
    """Unknown settings and invalid values of baselines, as sentences."""
    problems = []
    for name, changes in baselines.items():
        if not name or not all(character.isalnum() or character in "-_" for character in name):
            problems.append(f'baselines: the name "{name}" is not allowed; allowed: letters, digits, - and _')
        mistakes = list(_mistakes(base, changes))
        # Unknown names are among the mistakes already.
        mistakes += [
            problem
            for key, value in changes.items()
            if _exists(key) and not (key == UNLABELLED_IMAGES and value is None)
            for problem in _prefix_problems(key, "differ from base")
        ]
        problems += [f"baselines.{name}: {problem}" for problem in mistakes]
    return problems


def _values_to_try(parameter: Parameter) -> list[object]:
    """Values of a parameter that are checked, the ends first."""
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
    if key == SEED:
        reason = "the luckiest seed would be chosen, not the best settings"
        remedy = "Remove this; search.confirm_seeds trains the members of the front again with other seeds"
        return [f"space.{key}: cannot be searched: {reason}. {remedy}"]
    if misplaced := _prefix_problems(key, "be searched"):
        return [f"space.{problem}" for problem in misplaced]
    if base.teacher is None and key.startswith("distillation."):
        return [f"space.{key}: base.teacher is null, so that nothing is distilled; configure a teacher or remove this"]
    return []


def _prefix_problems(key: str, verb: str) -> list[str]:
    """Why a setting may not differ between trials."""
    if key in GIVEN_BY_STUDY:
        return [f"{key}: cannot {verb}: all trials have the same value. Set it in base, or see resources"]
    if f"{key}." in SEARCHABLE:
        return [f"{key}: cannot {verb} as a whole; name its settings one by one, as {key}.NAME"]
    if key == UNLABELLED_IMAGES:
        reason = "the teacher labels one folder for all trials"
        return [f"{key}: cannot {verb}: {reason}. Set it in base; a baseline may set it to null, to do without"]
    if not key.startswith(SEARCHABLE):
        allowed = ", ".join(f"{prefix}*" for prefix in SEARCHABLE)
        reason = "it is part of the task, and trials that differ in it cannot be compared"
        return [f"{key}: cannot {verb}: {reason}; allowed: {allowed}. Set it in base instead"]
    return []


def _exists(key: str) -> bool:
    try:
        allowed_values(TrialConfig, key)
    except ConfigError:
        return False
    return True


def _value_problems(key: str, parameter: Parameter, base: TrialConfig) -> list[str]:
    """Values that are invalid whatever the other settings are."""
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
    """Values that are valid one by one but not in combination.

    Complete trials are tried, with every searched setting at an end: no trial has the base's values of searched
    settings.
    """
    # For each pair, all other settings at their first and at their last end.
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
                # Many pairs break the same rule through their background; report the pair that the rule names.
                if all(name.rpartition(".")[2] in mistake for name in (first, second)):
                    together[mistake] = sentence
                together.setdefault(mistake, sentence)
    return list(dict.fromkeys([*problems, *together.values()]))


def _pairs_of_ends(space: Mapping[str, Parameter]) -> Iterator[tuple[tuple[str, object], tuple[str, object]]]:
    for (first, one), (second, other) in itertools.combinations(space.items(), 2):
        for value, other_value in itertools.product(_ends_to_pair(one), _ends_to_pair(other)):
            yield (first, value), (second, other_value)


def _ends_to_pair(parameter: Parameter) -> tuple[object, ...]:
    values = ends(parameter)
    return values[:: -(-len(values) // MAX_CHOICES_PAIRED)]


def _mistakes(base: TrialConfig, values: Mapping[str, object]) -> tuple[str, ...]:
    try:
        trial_config(base, values)
    except ConfigError as error:
        return error.problems
    return ()
