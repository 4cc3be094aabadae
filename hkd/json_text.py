"""JSON as every reader of files takes it: an object whose key stands twice says two things, and is refused."""

from __future__ import annotations

import json
from typing import Any


class RepeatedKeyError(ValueError):
    """An object of a JSON file has a key twice; Python's reader would keep the last and say nothing."""


def load_json(content: bytes) -> object:
    """What JSON says.

    Raises:
        json.JSONDecodeError: it is none, or cut off.
        RepeatedKeyError: naming the key and the object's beginning.
        ValueError: it is no text, or has a number of thousands of digits.
        RecursionError: its brackets are nested without end.
    """
    return json.loads(content, object_pairs_hook=_object)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        keys = [key for key, _ in pairs]
        repeated = next(key for key in record if keys.count(key) > 1)
        beginning = ", ".join(f"{json.dumps(key)}: {_shortened(value)}" for key, value in pairs[:6])
        raise RepeatedKeyError(f"the key {json.dumps(repeated[:60])} stands twice in the object {{{beginning}}}")
    return record


def _shortened(value: object) -> str:
    if isinstance(value, dict | list) and len(value) > 4:
        return "{...}" if isinstance(value, dict) else "[...]"
    text = ascii(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
