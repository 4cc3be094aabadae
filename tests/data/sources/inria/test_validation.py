"""Which photographs of INRIA are for validation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hkd.data.sources.inria.validation import is_validation


@pytest.mark.parametrize(
    ("stem", "expected"),
    [
        ("crop001102", False),
        ("crop001103", True),
        ("crop001150", True),
        ("crop001151", False),
        ("crop_001103", False),  # another series, whose numbers start again
        ("person_281", True),
        ("person_and_bike_281", False),
        ("person_and_bike_074", True),
        ("person_074", False),
        ("00001281a", False),
        ("", False),
    ],
)
def test_runs_include_their_ends_and_belong_to_one_series(stem: str, expected: bool) -> None:
    assert is_validation(stem) is expected


def test_a_fifth_of_the_real_photographs_is_for_validation(shared_data: Path) -> None:
    path = shared_data / "inria" / "train.json"
    if not path.is_file():
        pytest.skip(f"no INRIA photographs at {path}")
    stems = [Path(image["file_name"]).stem for image in json.loads(path.read_text())["images"]]
    assert (sum(map(is_validation, stems)), len(stems)) == (128, 612)
