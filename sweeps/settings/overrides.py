"""The command's ``--set dotted.key=value``, applied to a study as read. See :mod:`sweeps.settings.study`."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from hkd.config import TrialConfig
from hkd.config_files.parsing import apply_overrides, parse_override
from hkd.config_files.problems import ConfigError


def overridden(
    raw: Mapping[str, Any], overrides: Sequence[str], range_fields: Collection[str]
) -> tuple[dict[str, Any], list[str]]:
    """The raw study with the overrides applied in order, and their mistakes as sentences.

    Args:
        range_fields: Fields of searched ranges (``low``, ``high``, ...).
    """
    result = dict(raw)
    problems: list[str] = []
    for text in overrides:
        try:
            key, value = parse_override(text)
            result = _override(result, key, value, range_fields)
        except ConfigError as error:
            problems.extend(error.problems)
    return result, problems


def _override(raw: dict[str, Any], key: str, value: Any, range_fields: Collection[str]) -> dict[str, Any]:
    section, _, rest = key.partition(".")
    if section in TrialConfig.model_fields:
        raise ConfigError(f"{key}: unknown key; settings of a trial are in base: did you mean base.{key}?")
    if rest and section == "space":
        # The names of searched settings contain dots, too: the field comes last.
        setting, _, field = rest.rpartition(".")
        if value is None and not (field in range_fields and setting in _entries(raw, section)):
            return _without_entry(raw, section, rest)
        if setting.endswith(".prior"):
            range_of_prior = setting.removesuffix(".prior")
            entry = _entry(raw, section, range_of_prior)
            prior = entry.get("prior")
            fields = prior if isinstance(prior, Mapping) else {}
            return _with_entry(raw, section, range_of_prior, {**entry, "prior": {**fields, field: value}})
        if not setting or field not in range_fields:
            return _with_entry(raw, section, rest, value)
        return _with_entry(raw, section, setting, {**_entry(raw, section, setting), field: value})
    if rest and section == "baselines":
        name, _, setting = rest.partition(".")
        if setting:
            return _with_entry(raw, section, name, {**_entry(raw, section, name), setting: value})
        return _without_entry(raw, section, name) if value is None else _with_entry(raw, section, name, value)
    return apply_overrides(raw, {key: value})


def _entries(raw: Mapping[str, Any], section: str) -> dict[str, Any]:
    entries = raw.get(section)
    if entries is not None and not isinstance(entries, Mapping):
        raise ConfigError(f"{section}: found {entries!r}, which has no keys for --set to change")
    return dict(entries or {})


def _entry(raw: Mapping[str, Any], section: str, name: str) -> Mapping[str, Any]:
    inside = _entries(raw, section).get(name)
    if inside is not None and not isinstance(inside, Mapping):
        raise ConfigError(f"{section}.{name}: found {inside!r}, which has no keys for --set to change")
    return inside or {}


def _with_entry(raw: Mapping[str, Any], section: str, name: str, value: Any) -> dict[str, Any]:
    return {**raw, section: {**_entries(raw, section), name: value}}


def _without_entry(raw: Mapping[str, Any], section: str, name: str) -> dict[str, Any]:
    entries = _entries(raw, section)
    if name not in entries:
        close = difflib.get_close_matches(name, entries, n=1)
        suggestion = f"did you mean {close[0]}? " if close else ""
        available = ", ".join(entries) or "none"
        raise ConfigError(f"{section}.{name}: no such entry to omit; {suggestion}available: {available}")
    del entries[name]
    return {**raw, section: entries}
