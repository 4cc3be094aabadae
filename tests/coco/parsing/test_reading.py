"""Reading of JSON files: bounded, without repeated keys."""

from __future__ import annotations

import gzip
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from hkd import bounded_files
from hkd.coco.parsing import reading
from hkd.coco.parsing.errors import AnnotationError
from hkd.coco.parsing.reading import RepeatedKeyError, load_json, parse_json, read_input, read_json


@pytest.mark.parametrize("read", [read_input, read_json])
def test_too_large_files_are_rejected_without_reading(
    read: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "found.json"
    path.write_text("[1, 2]")
    monkeypatch.setattr(bounded_files, "LARGEST_FILE_BYTES", 5)
    with pytest.raises(AnnotationError, match=r"found.json: cannot be read .*larger than 5 bytes.*; name "):
        read(path)


def test_pipes_are_read_up_to_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    # Opened for reading and writing, so that opening does not block; reading reaches no end.
    both_ends = os.open(path, os.O_RDWR)
    os.write(both_ends, b"[1, 2]")
    monkeypatch.setattr(bounded_files, "LARGEST_STREAM_BYTES", 5)
    with pytest.raises(AnnotationError, match=r"pipe: cannot be read .*larger than 5 bytes"):
        read_json(path)
    os.close(both_ends)


@pytest.mark.parametrize("name", ["absent.json", "."])
def test_unreadable_files_are_reported(name: str, tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=r"cannot be read \((No such file|Is a directory)"):
        read_json(tmp_path / name)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "line 1, column 1: not valid JSON (Expecting value); the file is empty"),
        (
            b'[{"image_id": 1,\n "sco',
            "line 2, column 2: not valid JSON (Unterminated string starting at); it ends before",
        ),
        (b'[{"image_id": 1},\n', "it ends before its last bracket is closed"),
        (
            b'[{"image_id": 1,}]',
            "; correct it there",
        ),
        (
            b'{"ID": 1, "gtboxes": []}\n{"ID": 2}',
            "JSON lines), and must be one; these are CrowdHuman's annotations, which",
        ),
        (b'{"ID": 1, "dtboxes": []}\n{"ID": 2}', "these are CrowdDet's detections, which `hkd evaluate --detections`"),
        (b'{"id": 1}\n{"id": 2}', "several objects (JSON lines), and must be one"),
        (b"[1] [2]", "(Extra data); correct it there"),
        (b"\xff\xfe\xfa", "not valid JSON (UnicodeDecodeError"),
        (
            b'[{"score": 1, "image_id": 3, "score": 2}]',
            'the key "score" is repeated in the object {"score": 1, "image',
        ),
        (b"[" * 100_000, "not valid JSON (RecursionError"),
        (b"9" * 10_000, "not valid JSON (ValueError"),
    ],
    ids=[
        "empty",
        "truncated",
        "truncated between",
        "comma",
        "odgt",
        "dump",
        "lines",
        "lists",
        "no text",
        "key twice",
        "nested",
        "huge number",
    ],
)
def test_invalid_json_is_reported(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.json"
    path.write_bytes(content)
    with pytest.raises(AnnotationError) as caught:
        read_json(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert words in str(caught.value)


def test_exhausted_memory_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run_out(*_: object) -> None:
        raise MemoryError

    path = tmp_path / "found.json"
    path.write_text("[]")
    monkeypatch.setattr(reading, "load_json", run_out)
    with pytest.raises(AnnotationError, match=r"found.json: .*more memory"):
        read_json(path)
    with pytest.raises(AnnotationError, match=r"a.json: .*more memory"):
        parse_json(b"[]", "a.json")
    monkeypatch.setattr(reading, "read_bounded", run_out)
    with pytest.raises(AnnotationError, match=r"found.json: .*more memory"):
        read_json(path)


def test_byte_order_mark_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "found.json"
    path.write_bytes(b"\xef\xbb\xbf[]")
    assert read_json(path) == []


def test_json_is_read_as_by_python() -> None:
    text = b'{"a": [1, 2.5, {"a": null}], "b": {"a": "x"}}'
    assert load_json(text) == json.loads(text)


def test_repeated_key_is_named_with_its_object() -> None:
    long = json.dumps("x" * 100)
    with pytest.raises(RepeatedKeyError) as caught:
        load_json(f'[{{"id": 1, "name": {long}, "boxes": [1, 2, 3, 4, 5], "id": 1}}]'.encode())
    # 40 characters of a value are shown at most; lists of more than four not at all.
    start = f'"id": 1, "name": \'{"x" * 36}..., "boxes": [...], "id": 1'
    assert str(caught.value) == f'the key "id" is repeated in the object {{{start}}}'


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (gzip.compress(b"[]"), "gzip; decompress"),
        (b"PK\x03\x04 and more", "ZIP archive; extract"),
        (pickle.dumps([{"image_id": 1}]), "pickle, which is never read"),
    ],
)
def test_binary_formats_are_named(content: bytes, words: str) -> None:
    with pytest.raises(AnnotationError) as caught:
        parse_json(content, "found.json")
    (problem,) = caught.value.problems
    assert words in problem
