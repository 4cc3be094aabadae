"""YAML of configurations, read and written by YAML 1.2's core schema.

``1e-3`` is a number, ``yes`` and ``no`` are text, ``010`` is ten. A key may appear once in its mapping.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from hkd.config_files.problems import ConfigError, format_value


class _Loader(yaml.SafeLoader):
    """Safe loader with the scalar types of YAML 1.2's core schema."""


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
    return int(loader.construct_scalar(node))


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    # PyYAML's default style loses rare line breaks such as \x85.
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if text.isprintable() else '"')


_Loader.add_constructor(_INTEGER_TAG, _construct_integer)
_Dumper.add_representer(str, _represent_text)


def load_yaml(path: Path | str) -> dict[str, Any]:
    """Read a YAML file that holds one mapping; an empty file is an empty mapping.

    Raises:
        ConfigError: the file cannot be read, is not YAML, repeats a key, has a key that is not text, or does not
            hold a mapping. The message names the file and, where known, the line.
    """
    source = str(path)
    try:
        content = Path(path).read_bytes()
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
        ConfigError: the text is not YAML, or a key is repeated or has another type.
    """
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
        raise ConfigError(f"{where}not valid YAML: {error.problem or error.context}", source) from None
    except yaml.YAMLError as error:
        raise ConfigError(f"not valid YAML: {' '.join(str(error).split())}", source) from None
    except RecursionError:
        raise ConfigError("nested too deeply", source) from None
    except ValueError as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"not valid YAML: {error}", source) from None
    except (LookupError, AttributeError):
        # PyYAML's constructors raise these for text such as "!!bool maybe".
        raise ConfigError("not valid YAML: a value does not match its tag (!!...)", source) from None


def _node_problems(root: yaml.Node, key_tags: Collection[str]) -> list[str]:
    """Problems that PyYAML accepts: repeated keys, keys whose tag is not in ``key_tags``, cycles."""
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
                    found = key.value if isinstance(key, yaml.ScalarNode) else "a list or mapping"
                    problems.append(f"line {line}: the key {found} is not text; put it in quotes")
                    visit(value, above)
                    continue
                # 0, 00 and +0 are the same integer, hence the same key.
                name = _LEADING_ZEROS.sub("", key.value) if key.tag == _INTEGER_TAG else key.value
                if name in lines:
                    problems.append(f'line {line}: duplicate key "{name}", first given in line {lines[name]}')
                else:
                    lines[name] = line
                visit(value, above)
        else:
            for value in node.value:
                visit(value, above)
        finished.add(id(node))

    visit(root, frozenset())
    return problems


def dump_yaml(config: BaseModel) -> str:
    """Format a configuration as YAML, which :func:`load_yaml` followed by ``parse_config`` restores exactly."""
    raw = config.model_dump(mode="json")
    return str(yaml.dump(raw, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False))
