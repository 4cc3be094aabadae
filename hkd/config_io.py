"""Reading configurations: YAML, dotted overrides, and all mistakes at once.

YAML is read by the 1.2 core schema: ``1e-3`` is a number, ``yes`` and ``no`` are text, ``010`` is ten.
Values are checked strictly: ``true`` is no integer and ``"8"`` is no number, but ``1`` is a float and text is a path.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from hkd.config import TrialConfig
from hkd.config_problems import allowed_at, describe_problem, describe_unknown_key, existing_path, shown, told_once

ConfigT = TypeVar("ConfigT", bound=BaseModel)


class ConfigError(ValueError):
    """A configuration cannot be used; lists every mistake found in it."""

    def __init__(self, problems: str | Iterable[str], source: str = "the configuration") -> None:
        self.problems = (problems,) if isinstance(problems, str) else tuple(problems)
        self.source = source
        # As arguments of the exception, so that it survives pickling on its way from a worker.
        super().__init__(self.problems, source)

    def __str__(self) -> str:
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        return "\n  ".join([f"{count} in {self.source}:", *self.problems])


class _Loader(yaml.SafeLoader):
    """Safe loader by YAML 1.2's core schema."""


class _Dumper(yaml.SafeDumper):
    """Quotes whatever a reader of YAML 1.1 or of 1.2 would not take for text."""


_CORE_SCHEMA = (
    ("tag:yaml.org,2002:null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""]),
    ("tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")),
    ("tag:yaml.org,2002:int", re.compile(r"^[-+]?[0-9]+$"), list("-+0123456789")),
    (
        "tag:yaml.org,2002:float",
        re.compile(
            r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
        ),
        list("-+.0123456789"),
    ),
    ("tag:yaml.org,2002:merge", re.compile(r"^<<$"), ["<"]),
)
_INTEGER = "tag:yaml.org,2002:int"
_TEXT_KEYS = ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge")
_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in _CORE_SCHEMA:
    _Loader.add_implicit_resolver(_tag, _pattern, _first)
    _Dumper.add_implicit_resolver(_tag, _pattern, _first)


def _construct_integer(loader: _Loader, node: yaml.ScalarNode) -> int:
    # YAML 1.1 takes 010 for eight.
    return int(loader.construct_scalar(node))


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    # Left to itself, PyYAML writes rare line breaks (\x85) in a style that loses them.
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if text.isprintable() else '"')


_Loader.add_constructor("tag:yaml.org,2002:int", _construct_integer)
_Dumper.add_representer(str, _represent_text)


def load_yaml(path: Path | str) -> dict[str, Any]:
    """Read a YAML file that holds one mapping; an empty file is an empty mapping.

    Raises:
        ConfigError: the file cannot be read or is not YAML, a key is given twice or is no text, or the file
            holds something else than a mapping. The message names the file and, where known, the line.
    """
    source = str(path)
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError:
        raise ConfigError("there is no such file", source) from None
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", source) from None
    raw = parse_yaml(content, source)
    if raw is None:
        return {}
    if not isinstance(raw, dict):
        raise ConfigError(f"found {shown(raw)}; allowed: a mapping of keys to values", source)
    return raw


def parse_yaml(content: bytes | str, source: str, *, integer_keys: bool = False) -> Any:
    """The one document of a YAML file; ``None`` for an empty one.

    Args:
        content: The file's.
        source: Names it in messages.
        integer_keys: Whether keys may be integers as well as text.

    Raises:
        ConfigError: it is not YAML, or a key is given twice or is of another kind.
    """
    try:
        loader = _Loader(content)
        try:
            root = loader.get_single_node()
            if root is None:
                return None
            problems = _node_problems(root, (*_TEXT_KEYS, _INTEGER) if integer_keys else _TEXT_KEYS)
            if problems:
                raise ConfigError(problems, source)
            return loader.construct_document(root)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        # Tags and aliases are quoted by PyYAML in the message itself.
        raise ConfigError(f"{where}not readable as YAML: {error.problem or error.context}", source) from None
    except yaml.YAMLError as error:
        raise ConfigError(f"not readable as YAML: {' '.join(str(error).split())}", source) from None
    except RecursionError:
        raise ConfigError("nested too deeply to be a configuration", source) from None
    except ValueError as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"not readable as YAML: {error}", source) from None
    except (LookupError, AttributeError):
        # What PyYAML's constructors raise on such as "!!bool maybe".
        raise ConfigError("not readable as YAML: a value is not what its tag (!!...) says", source) from None


def _node_problems(root: yaml.Node, key_tags: Collection[str]) -> list[str]:
    """What plain YAML allows and a configuration must not have: repeated keys, keys that are no text, cycles."""
    problems: list[str] = []
    finished: set[int] = set()

    def visit(node: yaml.Node, above: frozenset[int]) -> None:
        if id(node) in above:
            problems.append(f"line {node.start_mark.line + 1}: an alias that contains itself")
            return
        if id(node) in finished or isinstance(node, yaml.ScalarNode):
            return
        above |= {id(node)}
        if isinstance(node, yaml.MappingNode):
            lines: dict[str, int] = {}
            for key, value in node.value:
                line = key.start_mark.line + 1
                if key.tag not in key_tags:
                    shown = key.value if isinstance(key, yaml.ScalarNode) else "a list or mapping"
                    problems.append(f"line {line}: the key {shown} is not text; put it in quotes if it is meant")
                elif key.value in lines:
                    problems.append(f'line {line}: the key "{key.value}" is already given in line {lines[key.value]}')
                else:
                    lines[key.value] = line
                visit(value, above)
        else:
            for value in node.value:
                visit(value, above)
        finished.add(id(node))

    visit(root, frozenset())
    return problems


def dump_yaml(config: BaseModel) -> str:
    """Write a configuration as YAML that :func:`load_yaml` and :func:`parse_config` turn back into an equal one."""
    raw = config.model_dump(mode="json")
    return str(yaml.dump(raw, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False))


def load_config(path: Path | str | None, overrides: Sequence[str] = ()) -> TrialConfig:
    """Read a trial's configuration from a file (none: all defaults) and change it by ``a.b.c=value`` overrides.

    Values are read as YAML. Later overrides win over earlier ones.

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
    """Split ``a.b.c=value`` into the dotted name and the value, read as YAML.

    Raises:
        ConfigError: there is no name or no value, or the value is not YAML.
    """
    name, equals, value = text.partition("=")
    name, source = name.strip(), f"--set {text}"
    if not equals or not value.strip() or not all(name.split(".")):
        raise ConfigError(f'{source}: must read section.key=value, with null for "nothing"', source)
    try:
        return name, parse_yaml(value, source)
    except ConfigError as error:
        raise ConfigError([f"{name}: {problem}" for problem in error.problems], source) from None


def apply_overrides(raw: Mapping[str, Any], overrides: Mapping[str, object]) -> dict[str, Any]:
    """Return a copy of a raw configuration with values put at dotted names; absent or null sections are made.

    Raises:
        ConfigError: a name leads through something that is not a section.
    """
    result = dict(raw)
    problems = []
    for name, value in overrides.items():
        *sections, key = name.split(".")
        place, blocked = result, False
        for depth, section in enumerate(sections, start=1):
            below = place.get(section)
            if below is not None and not isinstance(below, Mapping):
                problems.append(f"{name}: {'.'.join(sections[:depth])} is {shown(below)}, which holds no keys")
                blocked = True
                break
            # Copied on the way down: the caller's mappings stay as they are.
            place[section] = dict(below or {})
            place = place[section]
        if not blocked:
            place[key] = value
    if problems:
        raise ConfigError(problems)
    return result


def parse_config(model: type[ConfigT], raw: Any, *, source: str) -> ConfigT:
    """Check a raw configuration against a model, strictly.

    Args:
        model: The tree to check against.
        raw: A mapping of plain mappings, lists and scalars; paths, tuples, numpy's scalars and sections do as well.
        source: Where ``raw`` comes from, for the message.

    Raises:
        ConfigError: listing every mistake with its dotted path, what was found and what is allowed.
    """
    remaining = _over_defaults(model, raw, None) if isinstance(raw, Mapping) else raw
    problems: dict[str, None] = {}
    left_out: set[tuple[str, ...]] = set()
    while True:
        try:
            # Through JSON, because there pydantic is strict about types, yet takes lists for tuples and text for paths.
            config = model.model_validate_json(json.dumps(remaining, default=_plain), strict=True)
        except ValidationError as error:
            details = told_once(error.errors(include_url=False))
        else:
            if problems:
                raise ConfigError(problems, source)
            return config
        schema = _schema(model)
        for detail in details:
            if not _follows_from(remaining, detail, left_out):
                problems.setdefault(describe_problem(schema, remaining, detail))
        # Rules between a section's keys are looked at only once each key is right by itself. Leave out what is
        # wrong and look again, so that they are told now and not in a second round.
        wrong = {_key_path(remaining, detail) for detail in details} - {()}
        if not wrong:
            raise ConfigError(problems, source)
        left_out |= wrong
        for path in wrong:
            remaining = _without(remaining, path)


def allowed_values(model: type[BaseModel], dotted: str) -> str:
    """Describe what a dotted name may hold, such as ``integer >= 1``.

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
    """Complete sections that are given in part by the section's own default (``distillation.embedding`` has one)."""
    completed = dict(raw)
    for name, field in model.model_fields.items():
        default = getattr(defaults, name) if defaults is not None else field.get_default(call_default_factory=True)
        if name not in raw:
            if defaults is not None:
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
    """What JSON does not know: sections, paths, numpy's numbers."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, PurePath):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if callable(item := getattr(value, "item", None)) and getattr(value, "ndim", None) == 0:
        return item()
    raise TypeError(f"{value!r} ({type(value).__name__}) has no place in a configuration")


def _key_path(raw: Any, detail: ErrorDetails) -> tuple[str, ...]:
    """Path of the key or section that is wrong; empty where leaving it out would not help."""
    if detail["type"] == "missing":
        return ()
    path = existing_path(raw, detail["loc"])
    # An item of a list goes with its whole list.
    return tuple(itertools.takewhile(lambda part: isinstance(part, str), path))  # type: ignore[arg-type]


def _follows_from(raw: Any, detail: ErrorDetails, left_out: set[tuple[str, ...]]) -> bool:
    """Whether a mistake may be there only because we left keys out ourselves."""
    if detail["type"] == "missing":
        *sections, key = detail["loc"]
        return (*existing_path(raw, sections), key) in left_out
    if detail["type"] == "value_error":
        return any(re.search(rf"\b{re.escape(path[-1])}\b", detail["msg"]) for path in left_out)
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
    """Write a configuration as dotted names with plain values; a section that is absent is its name with None."""
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
    """16 hexadecimal digits that tell configurations apart, whatever the order of their keys.

    Takes sections, dataclasses, mappings, lists and scalars; it is the beginning of the SHA-256 of their
    canonical JSON.
    """
    canonical = json.dumps(sections, default=_plain, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]
