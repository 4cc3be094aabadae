"""Atomic writing: complete or unchanged, with nothing left beside it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from hkd.files import replace_atomically, write_all_atomically, write_atomically, write_json
from tests.conftest import REPOSITORY


@dataclass(frozen=True)
class Point:
    x: float
    name: str


def names_in(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_text_is_written_as_utf8_and_bytes_unchanged_in_new_folders(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a" / "b" / "text", "ü\r\n")
    write_atomically(tmp_path / "a" / "bytes", b"\r\n\x00", durable=True)
    assert (tmp_path / "a" / "b" / "text").read_bytes() == b"\xc3\xbc\r\n"
    assert (tmp_path / "a" / "bytes").read_bytes() == b"\r\n\x00"
    assert names_in(tmp_path / "a") == ["b", "bytes"]


def test_destination_changes_only_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with replace_atomically(path) as partial:
        assert partial.parent == tmp_path
        partial.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert names_in(tmp_path) == ["file"]


def test_error_leaves_old_content_and_no_partial_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), replace_atomically(path) as partial:
        partial.write_text("ne" + str(1 / partial.write_text("")))
    assert path.read_text() == "old"
    assert names_in(tmp_path) == ["file"]


def test_concurrent_writers_use_different_partial_paths(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with replace_atomically(path) as first, replace_atomically(path) as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"  # the outer one ends last


def test_given_partial_path_overwrites_leftovers_of_killed_process(tmp_path: Path) -> None:
    (tmp_path / "partial").write_text("left by a killed process")
    with replace_atomically(tmp_path / "file", partial=tmp_path / "partial") as partial:
        assert partial == tmp_path / "partial"
        partial.write_text("new")
    assert (tmp_path / "file").read_text() == "new"
    assert names_in(tmp_path) == ["file"]


def test_symbolic_link_is_replaced_and_its_target_unchanged(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("target")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    write_atomically(tmp_path / "link", "new")
    assert not (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "target"


def test_pipe_is_written_directly_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit(pipe.read_bytes)
        write_atomically(pipe, "text")
        assert read.result(timeout=60) == b"text"
    assert pipe.is_fifo()
    assert list(tmp_path.iterdir()) == [pipe]


def test_standard_output_redirected_to_a_file_and_devices_count_as_devices(tmp_path: Path) -> None:
    # Only the decision is tested: wrong code that wrote there as root would replace the machine's devices.
    program = (
        "import sys; from pathlib import Path; from hkd.files import _is_device_or_pipe as check; "
        "print([check(Path(name)) for name in ('/dev/stdout', '/dev/null', '/dev', '/dev/absent', sys.executable)])"
    )
    out = tmp_path / "out"
    with out.open("wb") as file:
        subprocess.run([sys.executable, "-c", program], stdout=file, check=True, cwd=REPOSITORY)
    assert out.read_text() == "[True, True, False, False, False]\n"


def test_file_has_permissions_of_any_new_file(tmp_path: Path) -> None:
    # In a new process, because the umask is a setting of the process.
    code = (
        "import os, sys; from pathlib import Path; from hkd.files import write_atomically; os.umask(0o027);"
        "write_atomically(Path(sys.argv[1]), 'text')"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "file")], check=True)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("durable", [True, False])
def test_only_durable_content_is_flushed_before_renaming(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durable: bool
) -> None:
    flushed: list[int] = []

    def fsync(descriptor: int) -> None:
        assert not (tmp_path / "file").exists()
        flushed.append(os.fstat(descriptor).st_size)

    monkeypatch.setattr(os, "fsync", fsync)
    write_atomically(tmp_path / "file", "text", durable=durable)
    assert flushed == ([4] if durable else [])


@pytest.mark.parametrize("is_disk_full", [True, False], ids=["full disk", "folder in the way"])
def test_error_in_one_of_several_files_leaves_all_unchanged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_disk_full: bool
) -> None:
    write_bytes = Path.write_bytes

    def fail_for_last(path: Path, data: bytes) -> int:
        if len(names_in(tmp_path)) == 2:  # an old file, and one partial file
            raise OSError(28, "No space left on device")
        return write_bytes(path, data)

    (tmp_path / "first").write_text("old")
    if is_disk_full:
        monkeypatch.setattr(Path, "write_bytes", fail_for_last)
    else:
        (tmp_path / "second").mkdir()
    before = names_in(tmp_path)
    with pytest.raises(OSError, match=r"No space left|Is a directory"):
        write_all_atomically({tmp_path / "first": "new", tmp_path / "second": "new"})
    assert (tmp_path / "first").read_text() == "old"
    assert names_in(tmp_path) == before


def test_several_files_are_renamed_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    renamed: list[str] = []
    replace = Path.replace

    def record(path: Path, target: Path) -> Path:
        renamed.append(target.name)
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", record)
    write_all_atomically({tmp_path / "a": "1", tmp_path / "b": b"2"})
    assert renamed == ["a", "b"]
    assert [(tmp_path / name).read_text() for name in "ab"] == ["1", "2"]


def test_json_of_dataclass_and_of_plain_value(tmp_path: Path) -> None:
    write_json(tmp_path / "point.json", Point(1.5, "p"))
    assert (tmp_path / "point.json").read_text() == '{\n  "name": "p",\n  "x": 1.5\n}\n'
    write_json(tmp_path / "list.json", [{"b": 1, "a": None}], indent=None)
    assert (tmp_path / "list.json").read_text() == '[{"a": null, "b": 1}]\n'


def test_json_with_nan_is_refused_and_keeps_previous_file(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    write_json(path, {"ap": 0.5})
    with pytest.raises(ValueError, match="Out of range float"):
        write_json(path, {"ap": float("nan")})
    assert json.loads(path.read_text(encoding="utf-8")) == {"ap": 0.5}
    assert names_in(tmp_path) == ["summary.json"]
