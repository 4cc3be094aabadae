from __future__ import annotations

from pathlib import Path

import pytest

from hkd.data.sources.yolo.config import read_config


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("[person, car]", {0: "person", 1: "car"}),
        ("{0: person, 1: car}", {0: "person", 1: "car"}),
        ("{'0': person, '1': car}", {0: "person", 1: "car"}),
        ("{7: person}", {7: "person"}),
        ("person\nnc: 1", {0: "person"}),
        ("person", {0: "person"}),
        ("data/obj.names", {0: "person", 1: "traffic light"}),
        ("'no'", {0: "no"}),
    ],
)
def test_names_are_read_however_they_are_written(tmp_path: Path, names: str, expected: dict[int, str]) -> None:
    (tmp_path / "obj.names").write_bytes(b"\xef\xbb\xbfperson\r\ntraffic light\r\n\r\n")
    (tmp_path / "data.yaml").write_text(f"train: images\nnames: {names}\n")
    problems: list[str] = []
    config = read_config(tmp_path, problems)
    assert config is not None, problems
    assert config.names == expected


def test_missing_names_are_those_of_a_file_of_names(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("person\n")
    (tmp_path / "data.yaml").write_text("train: images\n")
    config = read_config(tmp_path, [])
    assert config is not None
    assert config.names == {0: "person"}


def test_darknet_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "obj.names").write_text("person\ncar\n")
    (tmp_path / "obj.data").write_text(
        "classes = 2\ntrain  = data/train.txt\nvalid=data/test.txt\nnames = data/obj.names\nbackup = backup/\n"
    )
    config = read_config(tmp_path, [])
    assert config is not None
    assert config.names == {0: "person", 1: "car"}
    assert config.splits == {"train": "data/train.txt", "validation": "data/test.txt"}


def test_hidden_configurations_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "._street.yaml").write_bytes(b"\0\5\x16\7")
    (tmp_path / "street.yaml").write_text("train: images\nnames: [person]\n")
    config = read_config(tmp_path, [])
    assert config is not None
    assert config.file == "street.yaml"


def test_all_wrong_names_are_reported(tmp_path: Path) -> None:
    (tmp_path / "data.yaml").write_text("train: images\nnames: [person, 2, no, null, true]\n")
    problems: list[str] = []
    assert read_config(tmp_path, problems) is None
    assert [problem.partition(",")[0] for problem in problems] == [
        "data.yaml: names[1] is 2",
        "data.yaml: names[3] is null",
        "data.yaml: names[4] is true",
    ]
