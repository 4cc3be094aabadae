"""Configurations from YAML files and dotted overrides, with all mistakes reported at once.

Types are strict: ``true`` is not an integer and ``"8"`` is not a number, but ``1`` is a float and text is a path.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from hkd.config import TrialConfig
from hkd.config_files.problems import (
    ConfigError,
    allowed_at,
    describe_problem,
    describe_unknown_key,
    drop_consequent_problems,
    existing_path,
    format_value,
)
from hkd.config_files.yaml_format import LONGEST_KEY, load_yaml, parse_yaml, shortened

MOST_PROBLEMS = 100
"""Mistakes after which validation ends: the time of describing them all would grow with the size of the file."""

ConfigT = TypeVar("ConfigT", bound=BaseModel)


def load_config(path: Path | str | None, overrides: Sequence[str] = ()) -> TrialConfig:
    """Read a trial's configuration and apply ``a.b.c=value`` overrides in order.

    Args:
        path: YAML file; ``None`` for the defaults.
        overrides: Their values are YAML; a later one replaces an earlier one.

    Raises:
        ConfigError: listing every mistake in the file and in the overrides.
    """
    raw = {} if path is None else load_yaml(path)
    schema = _schema(TrialConfig)
    problems: list[str] = []
    for override in overrides:
        try:
            name, value = parse_override(override)
            if allowed_at(schema, name.split(".")):
                raw = apply_overrides(raw, {name: value})
            else:
                problems.append(describe_unknown_key(schema, name.split(".")))
        except ConfigError as error:
            problems.extend(error.problems)
    source = " and ".join(filter(None, ["" if path is None else str(path), "the --set overrides" if overrides else ""]))
    try:
        config = parse_config(TrialConfig, raw, source=source)
    except ConfigError as error:
        problems.extend(error.problems)
    if problems:
        raise ConfigError(problems, source)
    return config


def parse_override(text: str) -> tuple[str, Any]:
    """Split ``a.b.c=value`` into the dotted name and the parsed YAML value.

    Raises:
        ConfigError: the name or the value is missing, or the value is not YAML.
    """
    name, equals, value = text.partition("=")
    name, source = name.strip(), f"--set {shortened(text)}"
    if len(name) > LONGEST_KEY:
        raise ConfigError(f"{source}: a name of {len(name)} characters; write section.key=value", source)
    if not equals or not value.strip() or not all(name.split(".")):
        raise ConfigError(f"{source}: write section.key=value (null for no value)", source)
    try:
        return name, parse_yaml(value, source)
    except ConfigError as error:
        raise ConfigError([f"{name}: {problem}" for problem in error.problems], source) from None


def apply_overrides(raw: Mapping[str, Any], overrides: Mapping[str, object]) -> dict[str, Any]:
    """Return a copy of a raw configuration with values set at dotted names, creating absent or null sections.

    Raises:
        ConfigError: part of a dotted name is a value, not a section.
    """
    result = dict(raw)
    problems = []
    for name, value in overrides.items():
        *sections, key = name.split(".")
        place, blocked = result, False
        for depth, section in enumerate(sections, start=1):
            below = place.get(section)
            if below is not None and not isinstance(below, Mapping):
                problems.append(f"{name}: {'.'.join(sections[:depth])} is {format_value(below)}, not a section")
                blocked = True
                break
            # A copy, so that the caller's mappings do not change.
            place[section] = dict(below or {})
            place = place[section]
        if not blocked:
            place[key] = value
    if problems:
        raise ConfigError(problems)
    return result


def parse_config(model: type[ConfigT], raw: Any, *, source: str) -> ConfigT:
    """Validate a raw configuration strictly.

    Args:
        model: Root section of the tree.
        raw: A mapping of mappings, lists and scalars; paths, tuples, NumPy scalars and sections are accepted too.
        source: Origin of ``raw``, for the message.

    Raises:
        ConfigError: listing every mistake with its dotted path, the value found and the values allowed.
    """
    remaining = _over_defaults(model, raw, None) if isinstance(raw, Mapping) else raw
    problems: dict[str, None] = {}
    removed: set[tuple[str, ...]] = set()
    while True:
        try:
            # From JSON, pydantic's strict mode still converts lists to tuples and text to paths.
            config = model.model_validate_json(json.dumps(remaining, default=_plain), strict=True)
        except ValidationError as error:
            details = drop_consequent_problems(error.errors(include_url=False))
        else:
            if problems:
                raise ConfigError(problems, source)
            return config
        schema = _schema(model)
        for detail in details:
            if not _follows_from(remaining, detail, removed):
                problems.setdefault(describe_problem(schema, remaining, detail))
            if len(problems) == MOST_PROBLEMS:
                raise ConfigError([*problems, "there may be more; correct these first"], source)
        # pydantic checks rules between keys only when every key is valid. Remove invalid keys and validate again, so
        # that one error reports both kinds of mistakes.
        wrong = {_key_path(remaining, detail) for detail in details} - {()}
        if not wrong:
            raise ConfigError(problems, source)
        removed |= wrong
        for path in wrong:
            remaining = _without(remaining, path)


def allowed_values(model: type[BaseModel], dotted: str) -> str:
    """Describe the values that a dotted name accepts, such as ``integer >= 1``.

    Raises:
        ConfigError: there is no such name; the message suggests the nearest.
    """
    schema = _schema(model)
    path = tuple(dotted.split("."))
    allowed = allowed_at(schema, path)
    if not allowed:
        raise ConfigError(describe_unknown_key(schema, path), "the name of a setting")
    return allowed


@functools.cache
def _schema(model: type[BaseModel]) -> dict[str, Any]:
    return model.model_json_schema()


def _over_defaults(model: type[BaseModel], raw: Mapping[str, Any], defaults: BaseModel | None) -> dict[str, Any]:
    """Complete partial sections by their field's default where it differs from its class's (distillation.embedding).

    Other settings stay unset, so that a section can distinguish what a user set.
    """
    completed = dict(raw)
    for name, field in model.model_fields.items():
        default = getattr(defaults, name) if defaults is not None else field.get_default(call_default_factory=True)
        if name not in raw:
            if defaults is not None and name in defaults.model_fields_set:
                completed[name] = default
        elif isinstance(raw[name], Mapping):
            if isinstance(default, BaseModel):
                completed[name] = _over_defaults(type(default), raw[name], default)
            elif section := _section_type(field.annotation):
                completed[name] = _over_defaults(section, raw[name], None)
    return completed


def _section_type(annotation: Any) -> type[BaseModel] | None:
    found = [
        kind for kind in (annotation, *get_args(annotation)) if isinstance(kind, type) and issubclass(kind, BaseModel)
    ]
    return found[0] if len(found) == 1 else None


def _plain(value: Any) -> Any:
    """Convert sections, paths, dataclasses and NumPy scalars for JSON."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, PurePath):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if callable(item := getattr(value, "item", None)) and getattr(value, "ndim", None) == 0:
        return item()
    raise TypeError(f"{value!r} ({type(value).__name__}) cannot be part of a configuration")


def _key_path(raw: Any, detail: ErrorDetails) -> tuple[str, ...]:
    """Path of the invalid key or section; empty if removing it would not help."""
    if detail["type"] == "missing":
        return ()
    path = existing_path(raw, detail["loc"])
    # An invalid item removes its whole list.
    return tuple(map(str, itertools.takewhile(lambda part: isinstance(part, str), path)))


def _follows_from(raw: Any, detail: ErrorDetails, removed: set[tuple[str, ...]]) -> bool:
    """Whether a mistake may be only a consequence of the keys that were removed."""
    if detail["type"] == "missing":
        *sections, key = detail["loc"]
        return (*existing_path(raw, sections), key) in removed
    if detail["type"] == "value_error":
        return any(re.search(rf"\b{re.escape(path[-1])}\b", detail["msg"]) for path in removed)
    return False


def _without(raw: Mapping[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    result = dict(raw)
    key, *below = path
    if not below:
        result.pop(key, None)
    elif isinstance(result.get(key), Mapping):
        result[key] = _without(result[key], tuple(below))
    return result


def flatten(config: BaseModel) -> dict[str, Any]:
    """Convert a configuration to dotted names with plain values; an absent section becomes its name with ``None``."""
    flat: dict[str, Any] = {}

    def visit(prefix: str, values: Mapping[str, Any]) -> None:
        for key, value in values.items():
            if isinstance(value, Mapping):
                visit(f"{prefix}{key}.", value)
            else:
                flat[prefix + key] = value

    visit("", config.model_dump(mode="json"))
    return flat


def config_hash(*sections: object) -> str:
    """First 16 hexadecimal digits of the SHA-256 of the sections' canonical JSON; the order of keys does not matter.

    Accepts sections, dataclasses, mappings, lists and scalars.
    """
    canonical = json.dumps(sections, default=_plain, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]
