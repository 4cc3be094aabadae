from __future__ import annotations

import os
from pathlib import Path

import pytest

from hkd.coco.reading import read_json
from hkd.evaluation import records
from hkd.evaluation.errors import EvaluationInputError


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "line 1, column 1"),
        (b'[{"image_id": 1,\n "sco', "line 2, column 2"),
        (b"\xff\xfe\xfa", "not valid JSON"),
        (
            b'[{"score": 1, "image_id": 3, "score": 2}]',
            'the key "score" stands twice in the object {"score": 1, "image',
        ),
        (b"[" * 100_000, "not valid JSON"),
        (b"9" * 10_000, "not valid JSON"),
    ],
    ids=["empty", "truncated", "no text", "key twice", "nested", "huge number"],
)
def test_files_that_hold_no_json(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.json"
    path.write_bytes(content)
    with pytest.raises(EvaluationInputError) as caught:
        read_json(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert words in str(caught.value)


@pytest.mark.parametrize("name", ["absent.json", "."])
def test_files_that_cannot_be_read(name: str, tmp_path: Path) -> None:
    with pytest.raises(EvaluationInputError, match=r"cannot be read \((No such file|Is a directory)"):
        read_json(tmp_path / name)


def test_files_beyond_any_sense_are_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "found.json"
    path.write_text("[1, 2]")
    monkeypatch.setattr(records, "LARGEST_FILE_BYTES", 5)
    with pytest.raises(EvaluationInputError, match="has 6 bytes, more than the 5 that are read"):
        read_json(path)


def test_pipes_are_read_but_not_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    # Opened for both, so that no one waits for the other end; it never ends.
    both_ends = os.open(path, os.O_RDWR)
    os.write(both_ends, b"[1, 2]")
    monkeypatch.setattr(records, "LARGEST_STREAM_BYTES", 5)
    with pytest.raises(EvaluationInputError, match="is no file, and more than the 5 bytes that are read; name a file"):
        read_json(path)
    os.close(both_ends)


def test_memory_that_runs_out_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run_out(*_: object) -> None:
        raise MemoryError

    path = tmp_path / "found.json"
    path.write_text("[]")
    monkeypatch.setattr(records, "load_json", run_out)
    with pytest.raises(EvaluationInputError, match="takes more memory than there is"):
        read_json(path)
    monkeypatch.setattr(Path, "read_bytes", run_out)
    with pytest.raises(EvaluationInputError, match="takes more memory than there is"):
        read_json(path)


def test_a_byte_order_mark_is_no_error(tmp_path: Path) -> None:
    path = tmp_path / "found.json"
    path.write_bytes(b"\xef\xbb\xbf[]")
    assert read_json(path) == []
