"""YAML of configurations, read and written by YAML 1.2's core schema.

``1e-3`` is a number, ``yes`` and ``no`` are text, ``010`` is ten. A key may appear once in its mapping. Reading is
bounded: a document has at most so many bytes, values and levels, aliases (``*name``) counted as what they stand for.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import BaseModel

from hkd.bounded_files import read_bounded
from hkd.config_files.problems import ConfigError, format_value

LARGEST_BYTES: Final = 1 << 20
"""Of a YAML file; the largest of ours has two thousand."""
MOST_VALUES: Final = 50_000
"""Scalars, lists and mappings of a document."""
MOST_CHARACTERS: Final = 1 << 20
"""Characters of all scalars of a document together."""
MOST_LEVELS: Final = 50
"""Lists and mappings inside each other."""
LONGEST_KEY: Final = 200
"""Characters of a key."""
LONGEST_INTEGER: Final = 100
"""Digits of an integer."""


class _TooLargeError(ValueError):
    """A document exceeds one of the limits above."""


class _Loader(yaml.SafeLoader):
    """Safe loader with the scalar types of YAML 1.2's core schema, which stops where a document exceeds the limits."""

    def __init__(self, content: bytes | str) -> None:
        super().__init__(content)
        self._num_values = 0
        self._level = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Compose one value; called for every value of the document before its parts are read."""
        self._num_values += 1
        if self._num_values > MOST_VALUES:
            raise _TooLargeError(_too_many_values())
        if self._level > MOST_LEVELS:
            line = self.line + 1
            raise _TooLargeError(f"line {line}: nested too deeply; allowed: {MOST_LEVELS} levels")
        self._level += 1
        node = super().compose_node(parent, index)
        self._level -= 1
        return node


def _too_many_values() -> str:
    return f"holds more than {MOST_VALUES} values, each alias (*name) counted as the values that it stands for"


class _Dumper(yaml.SafeDumper):
    """Safe dumper that quotes text which YAML 1.1 or 1.2 would read as another type."""


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
_INTEGER_TAG = "tag:yaml.org,2002:int"
_TEXT_KEY_TAGS = ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge")
_LEADING_ZEROS = re.compile(r"^\+?0*(?=[0-9])")
_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in _CORE_SCHEMA:
    _Loader.add_implicit_resolver(_tag, _pattern, _first)
    _Dumper.add_implicit_resolver(_tag, _pattern, _first)


def _construct_integer(loader: _Loader, node: yaml.ScalarNode) -> int:
    # PyYAML follows YAML 1.1, where 010 is octal.
    text = loader.construct_scalar(node)
    if len(text) > LONGEST_INTEGER:
        raise _TooLargeError(
            f"line {node.start_mark.line + 1}: an integer of {len(text)} digits; allowed: {LONGEST_INTEGER}"
        )
    return int(text)


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    # PyYAML's default style loses rare line breaks such as \x85.
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if text.isprintable() else '"')


# Only the core schema: !!timestamp, !!binary, !!set and others make values that no setting has.
_CORE_TAGS = {*(tag for tag, _, _ in _CORE_SCHEMA), *(f"tag:yaml.org,2002:{kind}" for kind in ("str", "seq", "map"))}
_Loader.yaml_constructors = {
    tag: construct for tag, construct in yaml.SafeLoader.yaml_constructors.items() if tag is None or tag in _CORE_TAGS
}
_Loader.add_constructor(_INTEGER_TAG, _construct_integer)
_Dumper.add_representer(str, _represent_text)


def load_yaml(path: Path | str) -> dict[str, Any]:
    """Read a YAML file that holds one mapping; an empty file is an empty mapping.

    Raises:
        ConfigError: the file cannot be read, is too large, is not YAML, repeats a key, has a key that is not text, or
            does not hold a mapping. The message names the file and, where known, the line.
    """
    source = str(path)
    try:
        content = read_bounded(Path(path), LARGEST_BYTES)
    except FileNotFoundError:
        raise ConfigError("no such file", source) from None
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", source) from None
    raw = parse_yaml(content, source)
    if raw is None:
        return {}
    if not isinstance(raw, dict):
        raise ConfigError(f"found {format_value(raw)}; allowed: a mapping of keys to values", source)
    return raw


def parse_yaml(content: bytes | str, source: str, *, integer_keys: bool = False) -> Any:
    """Parse YAML text that holds one document; ``None`` for empty text.

    Args:
        content: YAML text.
        source: Name of the text's origin, for messages.
        integer_keys: Allow integer keys as well as text.

    Raises:
        ConfigError: the text is not YAML, a key is repeated or has another type, or the document exceeds a limit.
    """
    if len(content) > LARGEST_BYTES:
        raise ConfigError(f"longer than {LARGEST_BYTES >> 20} MiB", source)
    try:
        loader = _Loader(content)
        try:
            root = loader.get_single_node()
            if root is None:
                return None
            problems = _node_problems(root, (*_TEXT_KEY_TAGS, _INTEGER_TAG) if integer_keys else _TEXT_KEY_TAGS)
            if problems:
                raise ConfigError(problems, source)
            return loader.construct_document(root)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ConfigError(f"{where}not valid YAML: {shortened(error.problem or error.context)}", source) from None
    except yaml.YAMLError as error:
        raise ConfigError(f"not valid YAML: {shortened(error)}", source) from None
    except _TooLargeError as error:
        raise ConfigError(str(error), source) from None
    except ValueError as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"not valid YAML: {shortened(error)}", source) from None
    except (LookupError, AttributeError):
        # PyYAML's constructors raise these for text such as "!!bool maybe".
        raise ConfigError("not valid YAML: a value does not match its tag (!!...)", source) from None


def shortened(quoted: object) -> str:
    """A text for a message, on one line: names in a document or an override may be of any length."""
    text = " ".join(str(quoted).split())
    return text if len(text) <= LONGEST_KEY else f"{text[:LONGEST_KEY]}..."


def _node_problems(root: yaml.Node, key_tags: Collection[str]) -> list[str]:
    """Problems that PyYAML accepts: repeated keys, keys whose tag is not in ``key_tags``, cycles.

    Raises:
        _TooLargeError: with its aliases replaced by what they stand for, the document exceeds a limit.
    """
    problems: list[tuple[int, str]] = []
    # Values, characters and levels of each node that was visited, by its identity: an alias is its target's node.
    extents: dict[int, tuple[int, int, int]] = {}

    def visit(node: yaml.Node, above: frozenset[int]) -> tuple[int, int, int]:
        if id(node) in above:
            problems.append((node.start_mark.line + 1, "an alias that contains itself"))
            return 1, 0, 0
        if id(node) not in extents:
            extents[id(node)] = _limited(extent(node, above | {id(node)}))
        return extents[id(node)]

    def extent(node: yaml.Node, above: frozenset[int]) -> tuple[int, int, int]:
        if isinstance(node, yaml.ScalarNode):
            if not _is_plain_text(node.value):
                problems.append((node.start_mark.line + 1, "text with a null character, or that is not valid Unicode"))
            return 1, len(node.value), 0
        if isinstance(node, yaml.MappingNode):
            problems.extend(_key_problems(node, key_tags))
            parts = [visit(value, above) for _, value in node.value]
            names = sum(len(key.value) for key, _ in node.value)
        else:
            parts, names = [visit(value, above) for value in node.value], 0
        if not parts:
            return 1, 0, 1
        values, characters, levels = zip(*parts, strict=True)
        return 1 + sum(values), names + sum(characters), 1 + max(levels)

    visit(root, frozenset())
    return [f"line {line}: {problem}" for line, problem in sorted(problems)]


def _is_plain_text(text: str) -> bool:
    """Whether text can be written to a file, and be part of a file's name."""
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, "\\ud800" in double quotes
        return False
    return "\0" not in text


def _limited(extent: tuple[int, int, int]) -> tuple[int, int, int]:
    values, characters, levels = extent
    if values > MOST_VALUES:
        raise _TooLargeError(_too_many_values())
    if characters > MOST_CHARACTERS:
        raise _TooLargeError(
            f"holds more than {MOST_CHARACTERS} characters, those of aliases (*name) counted each time"
        )
    if levels > MOST_LEVELS:
        raise _TooLargeError(f"nested too deeply; allowed: {MOST_LEVELS} levels")
    return extent


def _key_problems(node: yaml.MappingNode, key_tags: Collection[str]) -> list[tuple[int, str]]:
    problems = []
    lines: dict[str, int] = {}
    for key, _ in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            problems.append((line, "the key a list or mapping is not text; put it in quotes"))
            continue
        if len(key.value) > LONGEST_KEY:
            problems.append((line, f"a key of {len(key.value)} characters; allowed: {LONGEST_KEY}"))
            continue
        if key.tag not in key_tags:
            problems.append((line, f"the key {key.value} is not text; put it in quotes"))
            continue
        # 0, 00 and +0 are the same integer, hence the same key.
        name = _LEADING_ZEROS.sub("", key.value) if key.tag == _INTEGER_TAG else key.value
        if name in lines:
            problems.append((line, f'duplicate key "{name}", first given in line {lines[name]}'))
        else:
            lines[name] = line
    return problems


def dump_yaml(config: BaseModel) -> str:
    """Format a configuration as YAML, which :func:`load_yaml` followed by ``parse_config`` restores exactly."""
    raw = config.model_dump(mode="json")
    return str(yaml.dump(raw, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False))
