"""Rules for single values of a JSON file, and how messages quote them."""

from __future__ import annotations

import json
import re
import sys
from itertools import islice
from typing import Final, TypeGuard

LARGEST_COORDINATE: Final = 1e9
"""Boxes reach at most this far, pixels: beyond any image, and far from where areas lose precision or overflow."""
_ROUNDING: Final = 1e-6
"""A ratio of two areas may pass 1 by this much."""

BOX_REQUIREMENT: Final = (
    "[x, y, width, height] in pixels (four finite numbers up to 1e9, x and y at least -1e9, the last two at least 0)"
)
VISIBLE_BOX_REQUIREMENT: Final = (
    "[x, y, width, height] in pixels (four finite numbers up to 1e9, the last two at least 0)"
)
COORDINATES_REQUIREMENT: Final = "[x, y, width, height] in pixels (four finite numbers from -1e9 to 1e9)"
FLAG_REQUIREMENT: Final = "0 or 1 (or false or true)"

_NUMERIC_TEXT: Final = re.compile(r"\s*[-+]?[0-9]{1,40}(\.0*)?\s*", re.ASCII)
_ITEMS_SHOWN: Final = 6
_LETTERS_SHOWN: Final = 76


class Absent:
    """The type of :data:`ABSENT`."""


ABSENT: Final = Absent()
"""Value of a key that is missing in a record."""


def is_integer(value: object) -> TypeGuard[int | float]:
    """Whether it is a whole number that an int64 holds; some tools write 3.0 for 3."""
    # JSON's true and false are no numbers, though Python's bool is an int.
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not -(2**63) <= value < 2**63:
        return False
    return value == int(value)


def as_id(value: object) -> object:
    """An id as an int: 1, 1.0, "1", "000001" and "1.0" are 1. Any other value is returned as it is."""
    if is_integer(value):
        return int(value)
    if isinstance(value, str) and _NUMERIC_TEXT.fullmatch(value):
        number = int(value.partition(".")[0])
        return number if is_integer(number) else value
    return value


def is_number(value: object, low: float, high: float) -> TypeGuard[float]:
    """Whether it is a number from ``low`` to ``high``; NaN is in no range."""
    # NaN fails every comparison, and unlike math.isfinite they take integers of any length.
    return isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high


def is_finite(value: object) -> bool:
    """Whether it is a number other than NaN and the infinities."""
    return is_number(value, -sys.float_info.max, sys.float_info.max)


def is_size(value: object) -> TypeGuard[float]:
    """Whether it is a length in pixels above 0."""
    return is_number(value, 0, LARGEST_COORDINATE) and value > 0


def is_pixel_count(value: object) -> bool:
    """Whether it is a whole number of at least 1."""
    return is_integer(value) and value >= 1


def is_fraction(value: object) -> bool:
    """Whether it is a fraction from 0 to 1."""
    return is_number(value, 0, 1 + _ROUNDING)


def is_flag(value: object) -> bool:
    """Whether it is 0, 1, false or true."""
    return isinstance(value, (int, float)) and value in (0, 1)


def is_coordinates(value: object) -> TypeGuard[list[float]]:
    """Whether it is [x, y, width, height] of any sign, finite."""
    if not isinstance(value, list) or len(value) != 4:
        return False
    return all(is_number(number, -LARGEST_COORDINATE, LARGEST_COORDINATE) for number in value)


def is_box(value: object) -> TypeGuard[list[float]]:
    """Whether it is [x, y, width, height], finite and with an area."""
    return is_coordinates(value) and value[2] > 0 and value[3] > 0


def is_empty_box(value: object) -> bool:
    """Whether it is [x, y, width, height], finite, without an area; negative sizes are no box at all."""
    return is_visible_box(value) and not is_box(value)


def is_visible_box(value: object) -> bool:
    """Whether it is [x, y, width, height], finite, with or without an area."""
    return is_coordinates(value) and value[2] >= 0 and value[3] >= 0


def is_text(value: object) -> bool:
    """Whether it is a string."""
    return isinstance(value, str)


def kind_of(value: object) -> str:
    """The JSON name of a value's type."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    return "a string" if isinstance(value, str) else shown(value)


def shown(value: object, depth: int = 2) -> str:
    """A value of a file as JSON writes it, shortened; "none" for :data:`ABSENT`.

    Time and length are bounded whatever the value holds: YAML's aliases can turn a hundred bytes into a list of
    gigabytes. Of values in lists and objects ``depth`` levels are shown.
    """
    if value is ABSENT:
        return "none"
    if isinstance(value, dict):
        items = islice(value.items(), _ITEMS_SHOWN if depth > 0 else 0)
        return _enclosed("{", [f"{shown(key)}: {shown(item, depth - 1)}" for key, item in items], len(value), "}")
    if isinstance(value, list):
        return _enclosed(
            "[", [shown(item, depth - 1) for item in value[: _ITEMS_SHOWN if depth > 0 else 0]], len(value), "]"
        )
    if isinstance(value, str):
        return json.dumps(_shortened(value), ensure_ascii=False)
    try:
        return _shortened(json.dumps(value))
    except (TypeError, ValueError):  # not from JSON, or an integer longer than Python writes
        return f"a value of type {type(value).__name__}"


def _shortened(text: str) -> str:
    half = _LETTERS_SHOWN // 2
    return text if len(text) <= _LETTERS_SHOWN else f"{text[:half]}...{text[-half:]}"


def _enclosed(opening: str, parts: list[str], count: int, closing: str) -> str:
    return opening + ", ".join(parts + ["..."] * (count > len(parts))) + closing
