"""Atomic writing: complete or unchanged, with nothing left beside it."""

from __future__ import annotations

import errno
import json
import os
import secrets
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from hkd import files
from hkd.files import (
    is_leftover,
    open_replacement,
    partial_folder,
    read_record,
    remove_leftovers,
    replace_atomically,
    write_all_atomically,
    write_atomically,
    write_json,
)
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


def test_leftovers_of_killed_processes_are_removed_and_nothing_else(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys; from pathlib import Path; from hkd.files import partial_folder, open_replacement\n"
        "path = Path(sys.argv[1])\n"
        "with open_replacement(path), partial_folder(path) as folder:\n"
        "    (folder / 'inside').touch()\n"
        "    os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "file")], check=False, cwd=REPOSITORY)
    left = names_in(tmp_path)
    assert len(left) == 2
    assert all(is_leftover(Path(name), tmp_path / "file") for name in left)
    others = [".file", ".file.1-x", ".filee.1-00ff", "file.1-00ff"]
    for name in others:
        (tmp_path / name).touch()
    remove_leftovers(tmp_path / "file", min_age_seconds=60)
    assert names_in(tmp_path) == sorted([*left, *others])
    remove_leftovers(tmp_path / "file")
    assert names_in(tmp_path) == sorted(others)


def test_leftover_that_is_a_link_is_removed_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "kept").touch()
    (tmp_path / ".file.1-00ff").symlink_to(tmp_path / "target")
    remove_leftovers(tmp_path / "file")
    assert names_in(tmp_path) == ["target"]
    assert names_in(tmp_path / "target") == ["kept"]


@pytest.mark.parametrize(
    "write", [lambda path: write_atomically(path, "new"), lambda path: write_all_atomically({path: "new"})]
)
def test_link_at_the_temporary_name_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path], None]
) -> None:
    # The attack needs the name, which is random: 64 bits.
    monkeypatch.setattr(secrets, "token_hex", lambda length: "0" * 2 * length)
    (tmp_path / "target").write_text("target")
    (tmp_path / f".file.{os.getpid()}-{'0' * 16}").symlink_to(tmp_path / "target")
    with pytest.raises(FileExistsError):
        write(tmp_path / "file")
    assert (tmp_path / "target").read_text() == "target"


def test_folder_at_the_temporary_name_is_neither_used_nor_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secrets, "token_hex", lambda length: "0" * 2 * length)
    name = f".file.{os.getpid()}-{'0' * 16}"
    (tmp_path / name).mkdir()
    (tmp_path / name / "kept").touch()
    with pytest.raises(FileExistsError), partial_folder(tmp_path / "file"):
        pass
    assert names_in(tmp_path / name) == ["kept"]


def test_replacement_takes_the_place_of_a_pipe(tmp_path: Path) -> None:
    # In a cache, where another process may have put it: opening a pipe would block.
    os.mkfifo(tmp_path / "file")
    with open_replacement(tmp_path / "file") as file:
        file.write(b"new")
    assert (tmp_path / "file").read_bytes() == b"new"


def test_record_is_read_up_to_a_size_and_only_from_regular_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "record.json"
    write_json(path, {"a": 1})
    assert read_record(path) == {"a": 1}
    path.write_text("[" * 100_000)
    with pytest.raises(ValueError, match="nested"):
        read_record(path)
    monkeypatch.setattr(files, "MAX_RECORD_BYTES", 99_999)
    with pytest.raises(OSError, match=str(path)) as caught:
        read_record(path)
    assert caught.value.errno == errno.EFBIG
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(FileNotFoundError):
        read_record(path)


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
        "import sys; from pathlib import Path; from hkd.files import is_device_or_pipe as check; "
        "print([check(Path(name)) for name in ('/dev/stdout', '/dev/null', '/dev', '/dev/absent', sys.executable)])"
    )
    out = tmp_path / "out"
    with out.open("wb") as file:
        subprocess.run([sys.executable, "-c", program], stdout=file, check=True, cwd=REPOSITORY)
    assert out.read_text() == "[True, True, False, False, False]\n"


@pytest.mark.parametrize("is_file", [True, False])
def test_standard_output_is_continued_where_it_is(is_file: bool, tmp_path: Path) -> None:
    program = (
        "from pathlib import Path; from hkd.files import write_atomically\n"
        "print('before'); write_atomically(Path('/dev/stdout'), 'written\\n'); print('after')"
    )
    command = [sys.executable, "-c", program]
    if is_file:
        with (tmp_path / "out.txt").open("wb") as file:
            subprocess.run(command, stdout=file, check=True, cwd=REPOSITORY)
        shown = (tmp_path / "out.txt").read_text()
    else:
        shown = subprocess.run(command, capture_output=True, text=True, check=True, cwd=REPOSITORY).stdout
    assert shown == "before\nwritten\nafter\n"


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
    encoded = files._encoded

    def fail_for_last(content: str | bytes) -> bytes:
        if len(names_in(tmp_path)) == 3:  # an old file, and two partial ones
            raise OSError(28, "No space left on device")
        return encoded(content)

    (tmp_path / "first").write_text("old")
    if is_disk_full:
        monkeypatch.setattr(files, "_encoded", fail_for_last)
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
