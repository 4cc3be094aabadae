"""The machine of a user, with a checkout, beside the hosts of a cluster."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import yaml

from tests.cluster.on_hosts.hosts import REPOSITORY, show, stand_in_for_uv

PATIENCE_SECONDS = 300.0


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Poll until the condition is true."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"not within {PATIENCE_SECONDS:g} s: {what}"
        time.sleep(0.5)


class User:
    """Executes commands in a checkout whose environment is active, without the variables of the tests."""

    def __init__(self, folder: Path) -> None:
        self.home, self.checkout = folder / "home", folder / "home" / "hkd"
        self.checkout.mkdir(parents=True)
        mounts = yaml.safe_load((REPOSITORY / "ray_cluster.yaml").read_text(encoding="utf-8"))["file_mounts"]
        for name in mounts.values():
            (self.checkout / name).symlink_to(REPOSITORY / name)
        tools = folder / "bin"
        stand_in_for_uv(tools)
        self._environment = {
            "HOME": str(self.home),
            "PATH": f"{tools}:{os.environ['PATH']}",
            "TERM": "xterm",
            # Of Ray's launcher: its cache and the state of the cluster.
            "TMPDIR": str(folder),
            "RAY_TMPDIR": str(folder),
        }
        # In place of `make install`.
        for command in ("uv venv .venv", "uv pip install --python .venv/bin/python -e ."):
            subprocess.run(shlex.split(command), cwd=self.checkout, env=self._environment, check=True)

    def arguments(self, lines: list[str]) -> list[str]:
        """Of a shell that executes the lines."""
        return ["bash", "-ec", "\n".join(["source .venv/bin/activate", *lines])]

    def run(self, *lines: str) -> str:
        """Output of lines of a shell; their failure is an error."""
        show(f"user: {lines[-1]}")
        done = subprocess.run(
            self.arguments(list(lines)), cwd=self.checkout, env=self._environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{lines[-1]}: exit code {done.returncode}\n{done.stdout}"
        return done.stdout

    def terminal(self, line: str) -> Terminal:
        """Start a command that stays open, in a terminal of its own."""
        show(f"user, in another terminal: {line}")
        shell = shlex.join(self.arguments(["stty rows 50 cols 200", f"exec {line}"]))
        return Terminal(["script", "-qefc", shell, "/dev/null"], self.checkout, self._environment)


class Terminal:
    """A command in a terminal. It is killed at the end of the context."""

    def __init__(self, arguments: list[str], folder: Path, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            arguments, cwd=folder, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        self._shown = b""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    @property
    def shown(self) -> str:
        """Everything that the terminal has shown."""
        return self._shown.decode("utf-8", errors="replace")

    def wait_for(self, pattern: str) -> None:
        """Wait until the terminal shows the pattern."""
        wait_until(lambda: re.search(pattern, self.shown) is not None or self.is_ended, pattern)
        assert re.search(pattern, self.shown), f"ended without {pattern!r}:\n{self.shown}"

    def press(self, keys: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(keys)
        self._process.stdin.flush()

    def end(self) -> int:
        """Wait for the end of the command; returns its exit code."""
        return self._process.wait(PATIENCE_SECONDS)

    @property
    def is_ended(self) -> bool:
        return self._process.poll() is not None and not self._reader.is_alive()

    def _read(self) -> None:
        assert self._process.stdout is not None
        while data := os.read(self._process.stdout.fileno(), 2**16):
            self._shown += data
