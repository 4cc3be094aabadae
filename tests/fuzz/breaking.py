"""Ways to break a file, as hypothesis strategies that start from a valid file."""

from __future__ import annotations

import copy
import json
import re
import struct
from typing import Any

from hypothesis import strategies as st

Bytes = st.SearchStrategy[bytes]

NUMBERS = (
    *("NaN", "nan", "Infinity", "-Infinity", "inf", ".inf", "1e400", "-1e400", "1e308", "1e-400", "-5", "-0.0", "0"),
    *(
        "1e9",
        "1000000001",
        "9" * 25,
        "-" + "9" * 25,
        "9" * 400,
        "1" + "0" * 5000,
        "0.5",
        "1.5",
        "3",
        "17",
        "0x10",
        "1_0",
        "010",
    ),
    *("\u0661", '"7"', '""', "null", "true", "[1]", "{}", "!!bool x", "!!int ''"),
)
"""Replacements of a number in text; those that are numbers must be read as written."""
VALUES: tuple[Any, ...] = (
    *(float("nan"), float("inf"), -float("inf"), 1e308, -1e308, 1e9 + 1, 10**400, 2**63, -(2**63) - 1, -1, 0, -0.0),
    *(0.5, 1, 1.0, 2, 3.5, 17, "7", "", "x" * 300, "\ud800", "a/../../b", "/etc", "\0", None, True, False),
    *([], [1], [1, 2, 3], [1, 2, 3, 4, 5], ["a", 1, 2, 3], [[1, 2, 3, 4]], {}, {"a": 1}),
)
"""Replacements of a value of JSON."""

_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
_MEMBER = re.compile(r'"(\w+)": (-?[0-9.]+|"[^"]*"|\[[-0-9., ]*\])')


def broken_bytes(content: bytes) -> Bytes:
    """Truncated anywhere; bits flipped, bytes inserted, removed or repeated."""
    positions = st.integers(0, len(content) - 1)
    return st.one_of(
        positions.map(lambda end: content[:end]),
        st.lists(st.tuples(positions, st.integers(0, 7)), min_size=1, max_size=3).map(lambda f: _flipped(content, f)),
        st.tuples(positions, st.binary(min_size=1, max_size=4)).map(lambda p: content[: p[0]] + p[1] + content[p[0] :]),
        st.tuples(positions, st.integers(1, 40)).map(lambda p: content[: p[0]] + content[p[0] + p[1] :]),
        st.tuples(positions, st.integers(1, 40)).map(lambda p: content[: p[0] + p[1]] + content[p[0] :]),
    )


def replaced_words(content: bytes) -> Bytes:
    """A word of four bytes replaced: sizes, types and counts in binary formats are such words."""
    words = st.tuples(
        st.integers(0, len(content) // 4 - 1),
        st.sampled_from((0, 0, 1, 2, 3, 6, 8, 9, 14, 15, 64, 1 << 16, 1 << 30, (1 << 31) - 1, (1 << 32) - 1)),
    )
    return words.map(lambda w: content[: 4 * w[0]] + struct.pack("<I", w[1]) + content[4 * w[0] + 4 :])


def broken_text(content: bytes) -> Bytes:
    """As :func:`broken_bytes`; or a number replaced, or columns or lines changed."""
    # What is drawn from is one flat list of ways: numbers would be one of ten.
    return st.one_of(broken_bytes(content), *[replaced_numbers(content)] * 4, changed_lines(content))


def replaced_numbers(content: bytes) -> Bytes:
    """One or two numbers replaced by other text or other numbers."""
    spans = [match.span() for match in _NUMBER.finditer(content)]

    def replaced(changes: list[tuple[tuple[int, int], str]]) -> bytes:
        text = content
        for (start, end), number in sorted(changes, reverse=True):
            text = text[:start] + number.encode() + text[end:]
        return text

    if not spans:
        return st.nothing()
    change = st.tuples(st.sampled_from(spans), st.sampled_from(NUMBERS))
    return st.lists(change, min_size=1, max_size=2, unique_by=lambda c: c[0]).map(replaced)


def changed_lines(content: bytes) -> Bytes:
    """A line deleted or repeated elsewhere; a column of a line deleted or repeated."""
    lines = content.split(b"\n")
    numbers = st.integers(0, len(lines) - 1)

    def with_columns(choice: tuple[int, int, bool]) -> bytes:
        number, column, is_repeated = choice
        separator = b"," if b"," in lines[number] else b" "
        columns = lines[number].split(separator)
        at = column % len(columns)
        columns[at : at + 1] = [columns[at]] * 2 if is_repeated else []
        return b"\n".join([*lines[:number], separator.join(columns), *lines[number + 1 :]])

    return st.one_of(
        numbers.map(lambda at: b"\n".join([*lines[:at], *lines[at + 1 :]])),
        st.tuples(numbers, numbers).map(lambda p: b"\n".join([*lines[: p[0]], lines[p[1]], *lines[p[0] :]])),
        st.tuples(numbers, st.integers(0, 20), st.booleans()).map(with_columns),
    )


def broken_json(document: Any) -> Bytes:
    """As :func:`broken_text`; or a value replaced, a key or record deleted or repeated."""
    text = json.dumps(document, indent=1)
    members = list(_MEMBER.finditer(text))

    def with_repeated_key(choice: tuple[re.Match[str], str]) -> bytes:
        member, value = choice
        return f'{text[: member.start()]}"{member[1]}": {value}, {text[member.start() :]}'.encode()

    paths = list(_paths(document))
    return st.one_of(
        broken_text(text.encode()),
        *[st.tuples(st.sampled_from(paths), st.sampled_from(VALUES)).map(lambda c: _dumped(_with(document, *c)))] * 4,
        st.sampled_from(paths).map(lambda path: _dumped(_without(document, path))),
        st.sampled_from([path for path in paths if isinstance(path[-1], int)]).map(
            lambda path: _dumped(_with_repeated(document, path))
        ),
        st.tuples(st.sampled_from(members), st.sampled_from(("1", "2", "[1, 2, 30, 60]", '"a"'))).map(
            with_repeated_key
        ),
    )


def _flipped(content: bytes, flips: list[tuple[int, int]]) -> bytes:
    changed = bytearray(content)
    for position, bit in flips:
        changed[position] ^= 1 << bit
    return bytes(changed)


def _paths(value: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Keys and positions that lead to each value below this one."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path for key, below in items for path in [(*above, key), *_paths(below, (*above, key))]]


def _at(document: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        document = document[key]
    return document


def _with(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    changed = copy.deepcopy(document)
    _at(changed, path[:-1])[path[-1]] = value
    return changed


def _without(document: Any, path: tuple[Any, ...]) -> Any:
    changed = copy.deepcopy(document)
    del _at(changed, path[:-1])[path[-1]]
    return changed


def _with_repeated(document: Any, path: tuple[Any, ...]) -> Any:
    changed = copy.deepcopy(document)
    records = _at(changed, path[:-1])
    records.append(copy.deepcopy(records[path[-1]]))
    return changed


def _dumped(document: Any) -> bytes:
    return json.dumps(document).encode()
