"""Columns of records: values, positions and names of those that are wrong."""

from __future__ import annotations

from hkd.coco.parsing.records import Records
from hkd.coco.parsing.values import is_integer


def test_column_has_a_value_for_each_object() -> None:
    problems: list[str] = []
    records = Records([{"a": 1}, "text", {"a": None}, {}], "items", problems)
    assert problems == ['each record must be an object in braces, but items[1] has "text"; correct or remove it']
    assert records.column("a", is_integer, "an integer", "correct it", default=7) == [1, 7, 7]
    assert len(problems) == 1
    records.column("a", is_integer, "an integer", "correct it")
    assert problems[1] == '"a" must be an integer, but items[2] has null, items[3] has none; correct it'


def test_records_are_named_by_position_and_keys() -> None:
    problems: list[str] = []
    values = [{"id": 4, "image_id": 1, "a": "x"}, {"image_id": 2, "a": "y"}]
    Records(values, "items", problems, named_by=("id", "image_id")).column("a", is_integer, "an integer", "correct it")
    (problem,) = problems
    assert 'items[0] (id 4, image_id 1) has "x", items[1] (image_id 2) has "y"' in problem


def test_chosen_rows_keep_their_positions_and_problems() -> None:
    problems: list[str] = []
    chosen = Records([3, {"a": 0}, {"a": "x"}], "items", problems).selected([False, True])
    assert chosen.column("a", is_integer, "an integer", "correct it") == ["x"]
    assert [problem for problem in problems if 'items[2] has "x"' in problem] == problems[1:]
    assert len(problems) == 2
