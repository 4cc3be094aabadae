"""Settings that a study tries before those of its sampler: a YAML list, checked like the space."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution

from hkd.bounded_files import read_bounded
from hkd.config_files.problems import ConfigError, format_value
from hkd.config_files.yaml_format import LARGEST_BYTES, parse_yaml
from sweeps.settings.space import distributions, trial_config
from sweeps.settings.study import StudyConfig

MOST_ENTRIES = 10_000
_EXAMPLE = "a list of mappings, such as  - {student.head_channels: 64}"


def read_enqueued(path: Path, study: StudyConfig) -> tuple[dict[str, Any], ...]:
    """Read the settings to try first. A searched setting that an entry does not name is proposed by the sampler.

    Returns:
        For each entry, the values by dotted name, in the types of the space.

    Raises:
        ConfigError: listing every mistake: unknown or unsearched settings, values outside their ranges, settings that
            contradict each other.
    """
    source = f"--enqueue {path}"
    try:
        raw = parse_yaml(read_bounded(path, LARGEST_BYTES), source)
    except FileNotFoundError:
        raise ConfigError("no such file", source) from None
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", source) from None
    if not isinstance(raw, list) or not raw or len(raw) > MOST_ENTRIES:
        raise ConfigError(f"found {format_value(raw)}; allowed: {_EXAMPLE}, with at most {MOST_ENTRIES:,}", source)
    space = distributions(study.space)
    problems: list[str] = []
    settings: list[dict[str, Any]] = []
    for number, entry in enumerate(raw, start=1):
        if not isinstance(entry, Mapping) or not entry:
            problems.append(f"entry {number}: found {format_value(entry)}; allowed: {_EXAMPLE}")
            continue
        values = dict(_flat(entry))
        mistakes = [mistake for key, value in values.items() if (mistake := value_mistake(key, value, space))]
        if not mistakes:
            settings.append({key: _typed(value, space[key]) for key, value in values.items()})
            mistakes = _rule_mistakes(study, settings[-1])
        problems += [f"entry {number}: {mistake}" for mistake in mistakes]
    if problems:
        raise ConfigError(problems, source)
    return tuple(settings)


def _flat(entry: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and their values, whether written as such or as sections."""
    for key, value in entry.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def value_mistake(key: str, value: object, space: Mapping[str, BaseDistribution]) -> str | None:
    """Why a value is none of a searched setting; None if it is one."""
    if key not in space:
        close = difflib.get_close_matches(key, space, n=1)
        hint = f"did you mean {close[0]}?" if close else f"searched: {', '.join(space) or 'none'}"
        return f"{key}: is not searched by this study; {hint}"
    distribution = space[key]
    if isinstance(distribution, CategoricalDistribution):
        # True equals 1 in Python.
        if not any(value == choice and type(value) is type(choice) for choice in distribution.choices):
            return f"{key}: found {format_value(value)}; allowed: {', '.join(map(str, distribution.choices))}"
        return None
    kinds = int if isinstance(distribution, IntDistribution) else (int, float)
    is_number = isinstance(value, kinds) and not isinstance(value, bool)
    if not is_number or not distribution._contains(distribution.to_internal_repr(value)):
        step = getattr(distribution, "step", None)
        steps = f" in steps of {step:g}" if step else ""
        low, high = (getattr(distribution, end) for end in ("low", "high"))
        return f"{key}: found {format_value(value)}; allowed: {low:g} to {high:g}{steps}"
    return None


def _typed(value: Any, distribution: BaseDistribution) -> Any:
    return distribution.to_external_repr(distribution.to_internal_repr(value))


def _rule_mistakes(study: StudyConfig, values: Mapping[str, Any]) -> list[str]:
    """Rules between settings; those of the base stand for searched ones that are not given."""
    try:
        trial_config(study.base, values)
    except ConfigError as error:
        return list(error.problems)
    return []
