"""How messages quote values of files."""

from __future__ import annotations

import math
from typing import Any

import pytest

from hkd.coco.parsing.values import ABSENT, shown


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (math.nan, "NaN"),
        (-math.inf, "-Infinity"),
        ("Zoë", '"Zoë"'),
        ([1, 2.5, "a"], '[1, 2.5, "a"]'),
        ({"id": 1, "of": {}}, '{"id": 1, "of": {}}'),
        (ABSENT, "none"),
        ({1, 2}, "a value of type set"),
    ],
)
def test_values_are_shown_as_json_writes_them(value: object, text: str) -> None:
    assert shown(value) == text


def test_long_values_are_shortened() -> None:
    # 38 characters from both ends of a text; six items of a list or object.
    name, lists = f'"{"x" * 38}...{"x" * 38}"', ", ".join(["[...]"] * 6)
    value = {"id": 1, "name": "x" * 1000, "of": [[[1]]] * 1000}
    assert shown(value) == f'{{"id": 1, "name": {name}, "of": [{lists}, ...]}}'
    assert shown(dict.fromkeys(range(8))).endswith("5: null, ...}")
    assert shown(10**400) == f"1{'0' * 37}...{'0' * 38}"
    assert "int" in shown(10**5000)  # longer than Python writes
    text: list[Any] = ["x"]
    for _ in range(40):  # two to the 40th texts, if all were written
        text = [text, text]
    assert shown(text) == "[[[...], [...]], [[...], [...]]]"
