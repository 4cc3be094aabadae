"""JSON as every reader of files takes it."""

from __future__ import annotations

import json

import pytest

from hkd.coco.reading import RepeatedKeyError, load_json


def test_what_is_json_reads_as_python_has_it() -> None:
    text = b'{"a": [1, 2.5, {"a": null}], "b": {"a": "x"}}'
    assert load_json(text) == json.loads(text)


def test_a_key_that_stands_twice_is_named_with_its_object() -> None:
    long = json.dumps("x" * 100)
    with pytest.raises(RepeatedKeyError) as caught:
        load_json(f'[{{"id": 1, "name": {long}, "boxes": [1, 2, 3, 4, 5], "id": 1}}]'.encode())
    # 40 characters of a value are shown at most; lists of more than four not at all.
    beginning = f'"id": 1, "name": \'{"x" * 36}..., "boxes": [...], "id": 1'
    assert str(caught.value) == f'the key "id" stands twice in the object {{{beginning}}}'
