"""Error messages for configurations: dotted path, value found, values allowed.

Allowed values are derived from the JSON schema of the configuration, so that messages cannot differ from validation.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pydantic_core import ErrorDetails

from hkd.text.escaping import LinesError, printable

Schema = Mapping[str, Any]

MAX_SHOWN_CHARACTERS = 60
MAX_SUGGESTIONS = 3
MAX_PROBLEMS_SHOWN = 20
MAX_DEPTH = 8
"""Depth of nested sections in which a misplaced key is searched."""


class ConfigError(LinesError):
    """A configuration is invalid; ``problems`` lists every mistake in it, ``str()`` the first 20."""

    def __init__(self, problems: str | Iterable[str], source: str = "the configuration") -> None:
        self.problems = (problems,) if isinstance(problems, str) else tuple(problems)
        self.source = source
        # Passed as arguments, so that the exception can be pickled by a worker.
        super().__init__(self.problems, source)

    def __str__(self) -> str:
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        lines = [f"{count} in {self.source}:", *self.problems[:MAX_PROBLEMS_SHOWN]]
        if len(self.problems) > MAX_PROBLEMS_SHOWN:
            lines.append(f"and {len(self.problems) - MAX_PROBLEMS_SHOWN} more")
        return "\n  ".join(map(printable, lines))


def describe_problem(schema: Schema, raw: Any, detail: ErrorDetails) -> str:
    """Format an error of pydantic as ``training.total_epochs: found "x" (str); allowed: integer >= 1``.

    Args:
        schema: JSON schema of the root section.
        raw: The validated input.
        detail: One of ``ValidationError.errors()``.
    """
    kind = detail["type"]
    path = existing_path(raw, detail["loc"])
    if kind == "missing":
        path = (*path, detail["loc"][-1])
        return f"{dotted(path)}: missing; allowed: {allowed_at(schema, path)}"
    where = dotted(path) or "top level"
    if kind == "extra_forbidden":
        return describe_unknown_key(schema, path)
    if kind == "value_error":
        return f"{where}: {detail['ctx']['error']}"
    if kind == "json_invalid":
        return "text that is not valid Unicode"
    allowed = allowed_at(schema, path) or detail["msg"]
    return f"{where}: found {format_value(detail['input'])}; allowed: {allowed}"


def describe_unknown_key(schema: Schema, path: Sequence[int | str]) -> str:
    """Format the message for a dotted name that does not exist, with the most similar names that do."""
    known = next(depth for depth in range(len(path) - 1, -1, -1) if _places(schema, path[:depth]))
    section, key = path[:known], str(path[known])
    where = dotted(path[: known + 1])
    siblings = list(_properties_at(schema, section))
    if not siblings:
        return f"{where}: unknown key; {dotted(section)} is not a section; allowed: {allowed_at(schema, section)}"
    everywhere = list(_dotted_names(schema))
    leaf = key.rpartition(".")[2]
    suggestion = ""
    if key in everywhere:
        suggestion = f"write {leaf} below {key.rpartition('.')[0]}; "
    elif close := (
        difflib.get_close_matches(key, siblings, n=1)
        # An existing key in the wrong section.
        or [name for name in everywhere if name.rpartition(".")[2] == leaf]
        or [name for name in everywhere if difflib.get_close_matches(leaf, [name.rpartition(".")[2]], cutoff=0.8)]
    ):
        suggestion = f"did you mean {' or '.join(close[:MAX_SUGGESTIONS])}? "
    return f"{where}: unknown key; {suggestion}allowed{' here' if section else ''}: {', '.join(siblings)}"


def drop_consequent_problems(details: Sequence[ErrorDetails]) -> list[ErrorDetails]:
    """Drop "too few items" of lists that are too short only because some of their items are invalid."""
    locations = [detail["loc"] for detail in details]

    def has_wrong_items(location: tuple[int | str, ...]) -> bool:
        return any(len(other) > len(location) and other[: len(location)] == location for other in locations)

    return [detail for detail in details if not (detail["type"] == "too_short" and has_wrong_items(detail["loc"]))]


def allowed_at(schema: Schema, path: Sequence[int | str]) -> str:
    """Describe the values allowed at a path; empty if there is no such path."""
    return " or ".join(dict.fromkeys(_describe(place, schema) for place in _places(schema, path)))


def existing_path(raw: Any, location: Sequence[int | str]) -> tuple[int | str, ...]:
    """Drop the parts of pydantic's location that are not in the input: branches of a union, missing keys."""
    path: list[int | str] = []
    for part in location:
        has_key = isinstance(raw, Mapping) and part in raw
        has_item = isinstance(raw, list | tuple) and isinstance(part, int) and part < len(raw)
        if has_key or has_item:
            raw = raw[part]
            path.append(part)
    return tuple(path)


def dotted(path: Sequence[int | str]) -> str:
    """Format a path as ``student.anchor_sizes[2]``."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def format_value(value: Any) -> str:
    """Format a value as in YAML, with its type, in at most about 60 characters."""
    if value is None:
        return "null"
    try:
        text = json.dumps(value, default=str, ensure_ascii=False)
    except (TypeError, ValueError):
        text = str(value)
    if len(text) > MAX_SHOWN_CHARACTERS:
        text = text[:MAX_SHOWN_CHARACTERS] + "..."
    return f"{text} ({type(value).__name__})"


def _resolve(place: Schema, schema: Schema) -> Iterator[Schema]:
    """The alternatives of a schema node, with references followed."""
    if "$ref" in place:
        yield from _resolve(schema["$defs"][place["$ref"].rpartition("/")[2]], schema)
    elif branches := place.get("anyOf") or place.get("oneOf"):
        for branch in branches:
            yield from _resolve(branch, schema)
    else:
        yield place


def _places(schema: Schema, path: Sequence[int | str]) -> list[Schema]:
    """The schema nodes at a path, one for each alternative; empty if there is no such path."""
    places: list[Schema] = list(_resolve(schema, schema))
    for part in path:
        below: list[Schema] = []
        for place in places:
            if isinstance(part, int):
                # A list of fixed length has a schema for each item.
                fixed = place.get("prefixItems", [])
                found = fixed[part] if part < len(fixed) else place.get("items")
            else:
                found = place.get("properties", {}).get(part)
            if found is None and (others := place.get("additionalProperties")):
                found = others if isinstance(others, Mapping) else {}
            if found is not None:
                below.extend(_resolve(found, schema))
        places = below
    return places


def _properties_at(schema: Schema, path: Sequence[int | str]) -> dict[str, Any]:
    return {name: below for place in _places(schema, path) for name, below in place.get("properties", {}).items()}


def _dotted_names(schema: Schema, path: tuple[str, ...] = ()) -> Iterator[str]:
    for name in _properties_at(schema, path):
        yield ".".join((*path, name))
        if len(path) < MAX_DEPTH:
            yield from _dotted_names(schema, (*path, name))


def _describe(place: Schema, schema: Schema) -> str:
    """Describe the values that one schema node allows."""
    if "const" in place or "enum" in place:
        choices = place.get("enum", [place.get("const")])
        return ", ".join(choice if isinstance(choice, str) else json.dumps(choice) for choice in choices)
    kind = place.get("type")
    if kind in ("integer", "number"):
        return f"{kind}{_bounds(place)}"
    if kind == "string":
        return "text" + (f" matching {place['pattern']}" if "pattern" in place else "")
    if kind == "array" and "prefixItems" in place:
        fixed = [
            " or ".join(_describe(item, schema) for item in _resolve(each, schema)) for each in place["prefixItems"]
        ]
        return f"list of {len(fixed)} x {fixed[0]}" if len(set(fixed)) == 1 else f"[{', '.join(fixed)}]"
    if kind == "array":
        smallest, largest = place.get("minItems", 0), place.get("maxItems")
        count = f"{smallest} " if smallest == largest else f"at least {smallest} " if smallest else ""
        if largest is not None and largest != smallest:
            count = f"{smallest} to {largest} "
        items = " or ".join(_describe(item, schema) for item in _resolve(place.get("items", {}), schema))
        return f"list of {count}x {items}" if count else f"list of {items}"
    if kind == "object":
        return f"a section with keys {', '.join(place['properties'])}" if "properties" in place else _mapping(place)
    return {"boolean": "true, false", "null": "null"}.get(str(kind), "any value")


def _mapping(place: Schema) -> str:
    return f"a mapping of at most {place['maxProperties']} keys" if "maxProperties" in place else "a mapping"


def _bounds(place: Schema) -> str:
    signs = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    bounds = [f"{sign} {_number(place[name])}" for name, sign in signs.items() if name in place]
    multiple = f", a multiple of {_number(place['multipleOf'])}" if "multipleOf" in place else ""
    return (f" {' and '.join(bounds)}" if bounds else "") + multiple


def _number(value: float) -> str:
    return re.sub(r"\.0$", "", str(value))
