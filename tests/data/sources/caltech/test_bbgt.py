"""Text annotations of one image, as Dollar's bbGt.m writes them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hkd.data.sources.caltech.bbgt import LARGEST_FILE_BYTES, read_bbgt
from hkd.data.sources.caltech.vbb import VideoObject

_HEAD = "% bbGt version=3\n"


def _read(tmp_path: Path, content: str | bytes) -> tuple[tuple[VideoObject, ...], list[str]]:
    path = tmp_path / "set06_V000_I00029.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    problems: list[str] = []
    return read_bbgt(path, problems), problems


def test_every_column_is_read(tmp_path: Path) -> None:
    text = f"{_HEAD}person 1 2 3 4 1 5 6 7 8 0 0\r\nperson? 10.5 -2 30 40 0 0 0 0 0 1 0\n\n"
    assert _read(tmp_path, text) == (
        (
            VideoObject("person", (1, 2, 3, 4), occluded=True, visible_xywh=(5, 6, 7, 8), ignored=False),
            VideoObject("person?", (10.5, -2, 30, 40), occluded=False, visible_xywh=(0, 0, 0, 0), ignored=True),
        ),
        [],
    )


def test_file_without_objects_is_read(tmp_path: Path) -> None:
    assert _read(tmp_path, _HEAD) == ((), [])


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "line 1: found nothing; it must be '% bbGt version=3'"),
        ("person 1 2 3 4 0 0 0 0 0 0 0\n", "line 1: found 'person 1 2 3 4 0 0 0 0 0 0 0'; it must be"),
        ("% bbGt version=2\n", "line 1: found '% bbGt version=2'; it must be"),
        (b"\xff\xfe\x00", "it is not UTF-8 text"),
        (_HEAD + "person 1 2 3 4\n", "line 2: found 5 columns; it must be 12: label x y"),
        (_HEAD + "person 1 2 three 4 0 0 0 0 0 0 0\n", "line 2: found 'person 1 2 three 4 .*finite numbers"),
        (_HEAD + "person 1_0 2 3 4 0 0 0 0 0 0 0\n", "line 2: .*all but the label must be finite numbers"),
        (_HEAD + "person 1 2 1e10 4 0 0 0 0 0 0 0\n", "line 2: .*none beyond 1e9"),
        (_HEAD + "person 1 2 nan 4 0 0 0 0 0 0 0\n", "line 2: .*all but the label must be finite numbers"),
        (_HEAD + "person 1 2 inf 4 0 0 0 0 0 0 0\n", "line 2: .*all but the label must be finite numbers"),
        (_HEAD + "person 1 2 3 4 2 0 0 0 0 0 0\n", "line 2: occluded is 2 and ignore 0; each must be 0 or 1"),
        (_HEAD + "person 1 2 3 4 0 0 0 0 0 7 0\n", "line 2: occluded is 0 and ignore 7; each must be 0 or 1"),
        (_HEAD + "person 1 2 3 4 0 0 0 -1 0 0 0\n", "line 2: the visible part is -1 x 0"),
        (bytes(LARGEST_FILE_BYTES + 1), "it is larger than 1 MiB"),
    ],
)
def test_malformed_text_is_reported(tmp_path: Path, content: str | bytes, problem: str) -> None:
    objects, problems = _read(tmp_path, content)
    assert objects == ()
    (sentence,) = problems
    assert re.search(problem, sentence)
    assert sentence.startswith(str(tmp_path / "set06_V000_I00029.txt"))


def test_malformed_lines_are_reported_together(tmp_path: Path) -> None:
    objects, problems = _read(tmp_path, _HEAD + "person\nperson 1 2 3 4 0 0 0 0 0 0 0\npeople 1\n")
    assert [found.label for found in objects] == ["person"]
    assert len(problems) == 2


def test_missing_file_is_reported(tmp_path: Path) -> None:
    problems: list[str] = []
    assert read_bbgt(tmp_path / "none.txt", problems) == ()
    assert problems == [f"{tmp_path / 'none.txt'}: the file cannot be read (No such file or directory)"]
