"""Commands run in their own process group, so that a test can interrupt or kill them with all that they started."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self

REPOSITORY = Path(__file__).parents[2]
MARK = "HKD_TEST_MARK"
PATIENCE_SECONDS = 400.0
"""Generous, because the machine may be busy."""


class Command:
    """A command in its own process group, whose output is collected line by line.

    Child processes inherit a mark in the environment, by which they are found and ended.

    Args:
        changes: Of environment variables.
    """

    def __init__(
        self, arguments: Sequence[str], folder: Path, changes: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        self.lines: list[str] = []
        self._mark = uuid.uuid4().hex
        environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
        self._process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=folder,
            env={**environment, MARK: self._mark, "COLUMNS": "200", **changes},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for pid in self.processes():
            os.kill(pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()

    @property
    def output(self) -> str:
        return "".join(self.lines)

    def wait_for(self, pattern: str) -> str:
        """Wait for a line that matches the pattern, and return it."""
        found: list[str] = []

        def is_found() -> bool:
            found[:] = [line for line in self.lines if re.search(pattern, line)]
            return bool(found) or not self._reader.is_alive()

        with self._news:
            self._news.wait_for(is_found, PATIENCE_SECONDS)
        assert found, f"no line with {pattern!r} in:\n{self.output}"
        return found[0]

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Poll until the condition is true."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            assert self._reader.is_alive(), self.output
            assert time.monotonic() < deadline, self.output
            time.sleep(0.05)

    def send(self, number: int, *, to_group: bool) -> None:
        """Send a signal to the command alone or, like Ctrl-C in a terminal, to its process group."""
        (os.killpg if to_group else os.kill)(self._process.pid, number)

    def end(self) -> int:
        """Wait for the command to end; returns its exit code."""
        code = self._process.wait(PATIENCE_SECONDS)
        self._reader.join(PATIENCE_SECONDS)
        return code

    def processes(self) -> list[int]:
        """Ids of the command and of all its descendants that are alive."""
        return processes_with(self._mark)

    def processes_after(self, seconds: float) -> list[int]:
        """Ids of the processes that are still alive after at most this time."""
        deadline = time.monotonic() + seconds
        while (alive := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.2)
        return alive

    def arguments(self) -> list[str]:
        """Arguments of the command and of all its descendants that are alive, as every user can list them."""
        return [text for pid in self.processes() for text in _file_of(pid, "cmdline").split("\0")]

    def secrets(self) -> set[str]:
        """Values of the environment variables of these processes whose names are those of secrets, as Ray's token."""
        entries = [text.partition("=") for pid in self.processes() for text in _file_of(pid, "environ").split("\0")]
        return {value for name, _, value in entries if value and name.endswith(("PASSWORD", "TOKEN", "SECRET", "KEY"))}

    def listening_addresses(self) -> set[str]:
        """Addresses, in hex as in /proc/net/tcp, on which the command and its descendants listen."""
        sockets = {
            row[9]: row[1].partition(":")[0]
            for table in ("tcp", "tcp6")
            for row in (line.split() for line in Path("/proc/net", table).read_text(encoding="utf-8").splitlines()[1:])
            if row[3] == "0A"
        }
        return {sockets[inode] for pid in self.processes() for inode in _socket_inodes(pid) if inode in sockets}

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._news:
                self.lines.append(line)
                self._news.notify_all()
        with self._news:
            self._news.notify_all()


def processes_with(text: str) -> list[int]:
    """Ids of the processes that are alive and have a text in their environment."""
    ids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    return [pid for pid in ids if text in _file_of(pid, "environ")]


def processes_titled(pattern: str, among: Sequence[int]) -> list[int]:
    """Those of these processes whose arguments, joined by spaces, start with a pattern; Ray's workers change them."""
    return [pid for pid in among if re.match(pattern, _file_of(pid, "cmdline").replace("\0", " "))]


def _file_of(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _socket_inodes(pid: int) -> list[str]:
    inodes = []
    try:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            target = str(link.readlink())
            if target.startswith("socket:["):
                inodes.append(target[8:-1])
    except OSError:
        pass
    return inodes
