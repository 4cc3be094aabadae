"""Reading of files, pipes and devices: bounded in bytes and time."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import pytest

from hkd import bounded_files
from hkd.bounded_files import read_bounded


def test_endless_and_too_large_files_are_rejected(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(bytes(5))
    assert read_bounded(tmp_path / "a.json", 5) == bytes(5)
    with pytest.raises(OSError, match="larger than 4 bytes"):
        read_bounded(tmp_path / "a.json", 4)
    # A device states no size and has no end.
    with pytest.raises(OSError, match="larger than 1 MiB"):
        read_bounded(Path("/dev/zero"), 1 << 20)


def test_file_of_several_chunks_is_read_completely(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded_files, "_CHUNK_BYTES", 3)
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = Thread(target=path.write_bytes, args=[b"0123456789"])
    writer.start()
    assert read_bounded(path) == b"0123456789"
    writer.join()
    # A regular file that states no size, as those of the kernel do.
    assert read_bounded(Path("/proc/self/status")).startswith(b"Name:")


@pytest.fixture
def pipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A named pipe, and limits of time that a test can wait for."""
    monkeypatch.setattr(bounded_files, "SECONDS_TO_OPEN", 0.05)
    monkeypatch.setattr(bounded_files, "SECONDS_TO_END", 0.2)
    path = tmp_path / "pipe"
    os.mkfifo(path)
    return path


def test_pipe_without_a_writer_is_rejected(pipe: Path) -> None:
    with pytest.raises(OSError, match="nothing was written for") as caught:
        read_bounded(pipe)
    assert (caught.value.errno, caught.value.filename) == (errno.ETIMEDOUT, str(pipe))


@pytest.mark.parametrize("written", [b"", b"a: 1"], ids=["silent", "after the first bytes"])
def test_pipe_that_stays_open_is_rejected(pipe: Path, written: bytes) -> None:
    # Opened for reading and writing, so that opening does not wait.
    both_ends = os.open(pipe, os.O_RDWR)
    os.write(both_ends, written)
    with pytest.raises(OSError, match="no end after") as caught:
        read_bounded(pipe)
    assert caught.value.errno == errno.ETIMEDOUT
    os.close(both_ends)


def test_pipe_that_never_pauses_is_rejected(pipe: Path) -> None:
    # Each byte comes in time; together they have no end.
    both_ends = os.open(pipe, os.O_RDWR)
    stop = time.monotonic() + 5

    def drip() -> None:
        while time.monotonic() < stop and not done:
            os.write(both_ends, b"x")
            time.sleep(0.01)

    done: list[bool] = []
    writer = Thread(target=drip)
    writer.start()
    with pytest.raises(OSError, match="no end after"):
        read_bounded(pipe)
    done.append(True)
    writer.join()
    os.close(both_ends)
    assert time.monotonic() < stop


@pytest.mark.parametrize("pause", [0.0, 0.1], ids=["at once", "later than the limit for opening"])
def test_process_substitution_of_a_shell_is_read(pipe: Path, pause: float) -> None:
    # The pipe exists and has a writer before the command starts; its content may take a while.
    script = (
        "import pathlib, sys; from hkd import bounded_files; bounded_files.SECONDS_TO_OPEN = 0.05;"
        "print(bounded_files.read_bounded(pathlib.Path(sys.argv[1])))"
    )
    command = ["bash", "-c", f'"$0" -c "$1" <(sleep {pause}; printf "a: 1")', sys.executable, script]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    assert found.stdout == "b'a: 1'\n"


def test_empty_pipe_is_an_empty_file(pipe: Path) -> None:
    writer = Thread(target=pipe.write_bytes, args=[b""])
    writer.start()
    assert read_bounded(pipe) == b""
    writer.join()


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


@pytest.mark.parametrize(
    ("make", "code"),
    [(make_socket, errno.ENXIO), (Path.mkdir, errno.EISDIR), (lambda path: path.symlink_to(path), errno.ELOOP)],
    ids=["socket", "folder", "link to itself"],
)
def test_what_has_no_content_is_rejected_by_name(
    make: Callable[[Path], None], code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path has at most 108 characters
    make(Path("there"))
    with pytest.raises(OSError, match="there") as caught:
        read_bounded(Path("there"))
    assert (caught.value.errno, caught.value.filename) == (code, "there")
