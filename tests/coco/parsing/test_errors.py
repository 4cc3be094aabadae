"""Errors that list everything wrong with a user's files."""

from __future__ import annotations

import pickle

import pytest

from hkd.coco.parsing.errors import AnnotationError, InputError, collected_problems


def test_error_of_one_file_starts_with_it() -> None:
    assert str(AnnotationError(["first"], "file.json")) == "file.json: first"
    assert str(AnnotationError(["first", "second"], "file.json")) == "file.json: 2 problems:\n- first\n- second"


def test_error_of_several_files_has_a_line_for_each_problem() -> None:
    assert str(AnnotationError(["a.json: first", "b.json: second"])) == "a.json: first\nb.json: second"


@pytest.mark.parametrize(("source", "heading"), [("file.json", 1), ("", 0)])
def test_twenty_problems_are_listed_and_the_others_counted(source: str, heading: int) -> None:
    lines = str(AnnotationError([f"problem {number}" for number in range(31)], source)).splitlines()
    assert len(lines) == heading + 20 + 1
    assert lines[-1] == "- and 11 more"


def test_control_characters_are_escaped() -> None:
    assert str(AnnotationError(["image '\x1b[31m.png'"], "a\nb")) == "a\\nb: image '\\x1b[31m.png'"


def test_error_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(AnnotationError(["first", "second"], "file.json")))
    assert error.problems == ("first", "second")
    assert str(error) == "file.json: 2 problems:\n- first\n- second"


def test_problems_of_several_inputs_are_collected() -> None:
    def refuse(source: str) -> int:
        raise AnnotationError(["first", "second"], source)

    with pytest.raises(InputError) as caught, collected_problems(InputError) as collect:  # noqa: PT012
        assert collect(lambda: 3) == 3
        assert collect(lambda: refuse("a.json")) is None
        assert collect(lambda: refuse("b.json")) is None
    assert caught.value.problems == ("a.json: first", "a.json: second", "b.json: first", "b.json: second")


def test_other_errors_are_not_collected() -> None:
    def fail() -> None:
        raise KeyError("bug")

    with pytest.raises(KeyError), collected_problems() as collect:
        collect(fail)
