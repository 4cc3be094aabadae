"""What the checks of annotations share."""

from __future__ import annotations

from typing import Any

from hkd.coco.values import shown


def test_what_is_wrong_is_quoted_shortly() -> None:
    # Of a text 80 characters, with its quotes and the three dots; of a list six values, and none of theirs.
    name, lists = f"'{'x' * 37}...{'x' * 38}'", ", ".join(["[...]"] * 6)
    value = {"id": 1, "name": "x" * 1000, "of": [[[1]]] * 1000}
    assert shown(value) == f"{{'id': 1, 'name': {name}, 'of': [{lists}, ...]}}"
    text: list[Any] = ["x"]
    for _ in range(40):  # two to the 40th texts, if all were written
        text = [text, text]
    assert shown(text) == "[[[...], [...]], [[...], [...]]]"
