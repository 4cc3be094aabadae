"""docs/security.md names tests that exist, and as many tries as they have."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

PAGE = (REPOSITORY / "docs" / "security.md").read_text()
_TEST = re.compile(r"`(tests/[^`]+)`")


def test_tests_of_promises_exist() -> None:
    named = _TEST.findall(PAGE)
    assert named
    for name in named:
        path, *functions = name.split("::")
        assert Path(REPOSITORY, path).is_file(), name
        for function in functions:
            assert f"def {function}(" in Path(REPOSITORY, path).read_text(), name


@pytest.mark.thorough  # collecting imports everything
def test_table_has_the_number_of_tries() -> None:
    rows = [line for line in PAGE.partition("## Hostile inputs")[2].splitlines() if _TEST.search(line)]
    tests = sorted({name for row in rows for name in _TEST.findall(row)})
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-m", "", "-p", "no:cacheprovider", *tests]
    listed = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    tries = [re.sub(r"\[.*", "", line) for line in listed.splitlines() if "::" in line]
    stated, counted = {}, {}
    for row in rows:
        entry_point, *_, number, handled = (cell.strip() for cell in row.strip("| ").split("|"))
        stated[entry_point] = (int(number), int(handled))
        names = _TEST.findall(row)
        count = sum(any(test == name or test.startswith(f"{name}::") for name in names) for test in tries)
        counted[entry_point] = (count, count)
    assert stated == counted
