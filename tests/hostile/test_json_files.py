"""Hostile JSON and files that are no files, at every command that reads annotations or detections."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from hkd import bounded_files
from hkd.cli import main
from tests.hostile.refusing import refusal

IMAGE = {"id": 1, "file_name": "a.png", "height": 64, "width": 96}
TRUTH = {
    "images": [IMAGE],
    "categories": [{"id": 1, "name": "pedestrian"}],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 10, 20, 50]}],
}
CONTENTS: dict[str, bytes] = {
    "empty": b"",
    "blanks": b" " * 1_000_000,
    "deep lists": b"[" * 1_000_000,
    "deep lists that end": b"[" * 100_000 + b"]" * 100_000,
    "deep objects": b'{"a":' * 100_000,
    "deep images": b'{"images": ' + b"[" * 50_000 + b"]" * 50_000 + b', "annotations": []}',
    "number of 10,000 digits": b"9" * 10_000,
    "number of 10,000 digits inside": b'{"images": [{"id": ' + b"9" * 10_000 + b"}]}",
    "NaN": b'{"images": NaN, "annotations": NaN}',
    "infinity": b"-Infinity",
    "beyond floats": b'{"images": 1e999, "annotations": 1e999}',
    "repeated key": b'{"images": [], "images": [], "annotations": []}',
    "repeated key of a megabyte": b'{"%s": 1, "%s": 2}' % (b"k" * 1_000_000, b"k" * 1_000_000),
    "a hundred thousand keys": json.dumps({f"k{i}": i for i in range(100_000)}).encode(),
    "a hundred thousand lists": b"[" + b"[]," * 100_000 + b"[]]",
    "key of a megabyte": json.dumps({"k" * 1_000_000: 1}).encode(),
    "text of a megabyte": json.dumps("x" * 1_000_000).encode(),
    "no UTF-8": b'{"images": "\xff\xfe\xfd"}',
    "Latin-1": '{"é": 1}'.encode("latin-1"),
    "truncated UTF-16": b"\xff\xfe{\x00\x00",
    "half a surrogate": b'{"\\ud800": 1}',
    "null characters": b'{"images": \0\0}',
    "control characters": b'{"\\u001b[2J": 1}',
    "two documents": b"[] []",
    "comment": b"/* */ []",
    "scalar": b"1",
    "null": b"null",
    "pickle": b"\x80\x04K\x01.",
    "archive": b"PK\x03\x04" + bytes(100),
    "compressed": b"\x1f\x8b\x08" + bytes(100),
    "binary": bytes(range(256)),
}  # fmt: skip


@pytest.fixture(autouse=True)
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bounded_files, "SECONDS_TO_OPEN", 0.05)
    monkeypatch.setattr(bounded_files, "SECONDS_TO_END", 0.2)
    # Endless devices are read up to the limit: less of it takes less time.
    monkeypatch.setattr(bounded_files, "LARGEST_STREAM_BYTES", 1 << 22)
    Path("good.json").write_text(json.dumps(TRUTH))
    Path("found.json").write_text("[]")
    return tmp_path


ENTRY_POINTS: dict[str, tuple[str, Sequence[str]]] = {
    "ground truth": ("bad.json", ["evaluate", "--ground-truth", "bad.json", "--detections", "found.json"]),
    "detections": ("bad.json", ["evaluate", "--ground-truth", "good.json", "--detections", "bad.json"]),
    "annotations of a training": ("bad.json", ["train", "trial.yaml"]),
    "COCO data set": ("root/annotations/instances_val.json", ["data", "coco", "--root", "root", "--out", "out"]),
}


def place(entry_point: str) -> tuple[Path, Sequence[str]]:
    """The file to be read, and the command that reads it."""
    name, arguments = ENTRY_POINTS[entry_point]
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    Path("trial.yaml").write_text(
        "teacher: null\ndata: {train_annotations: bad.json, validation_annotations: bad.json}\n"
    )
    return path, arguments


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
@pytest.mark.parametrize("name", CONTENTS)
def test_json(name: str, entry_point: str, capsys: pytest.CaptureFixture[str]) -> None:
    path, arguments = place(entry_point)
    path.write_bytes(CONTENTS[name])
    assert path.name in refusal(main, arguments, capsys)
    assert not Path("out").exists()


def listening(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


NOT_FILES: dict[str, Callable[[Path], object]] = {
    "pipe": os.mkfifo,
    "socket": listening,
    "folder": Path.mkdir,
    "endless device": lambda path: path.symlink_to("/dev/zero"),
    "random device": lambda path: path.symlink_to("/dev/urandom"),
    "empty device": lambda path: path.symlink_to("/dev/null"),
    "link to itself": lambda path: path.symlink_to(path.name),
    "link to nothing": lambda path: path.symlink_to("nothing"),
    "memory of the process": lambda path: path.symlink_to("/proc/self/mem"),
}


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
@pytest.mark.parametrize("name", NOT_FILES)
def test_what_is_no_file(name: str, entry_point: str, capsys: pytest.CaptureFixture[str]) -> None:
    path, arguments = place(entry_point)
    NOT_FILES[name](path)
    refusal(main, arguments, capsys)


READ_BY_DATA_SETS = {
    "citypersons": "anno_val.mat",
    "crowdhuman": "annotation_val.odgt",
    "caltech": "set06/V000.vbb",
    "pennfudan": "Annotation/FudanPed00001.txt",
    "inria": "Train/annotations/person_044.txt",
    "yolo": "data.yaml",
}


@pytest.mark.parametrize("source", READ_BY_DATA_SETS)
@pytest.mark.parametrize("name", NOT_FILES)
def test_what_is_no_file_of_a_data_set(name: str, source: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path("root", READ_BY_DATA_SETS[source])
    path.parent.mkdir(parents=True)
    NOT_FILES[name](path)
    refusal(main, ["data", source, "--root", "root", "--out", "out"], capsys)
    assert not Path("out").exists()
