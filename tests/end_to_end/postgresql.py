"""A PostgreSQL server on loopback, where its programs are installed."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

USER = "tester"
DATABASE = "postgres"
"""Which every server has."""


def programs() -> Path | None:
    """The folder of ``initdb`` and ``pg_ctl``: on PATH, or Debian's, of the newest version; None without."""
    if found := shutil.which("pg_ctl"):
        return Path(found).parent
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda each: int(each.parent.name))
    return folders[-1] if folders else None


class PostgresServer:
    """Context in which the server has an empty database and one user, who needs a password."""

    def __init__(self, password: str) -> None:
        found = programs()
        assert found is not None, "callers check it"
        self._programs = found
        self._password = password
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]

    @property
    def uri(self) -> str:
        """For MLflow, without the password."""
        return f"postgresql+psycopg://{USER}@127.0.0.1:{self._port}/{DATABASE}"

    def __enter__(self) -> Self:
        # The server refuses to run as root, and other users cannot enter pytest's folders.
        self._account = "nobody" if os.geteuid() == 0 else None
        self._folder = Path(tempfile.mkdtemp(prefix="hkd-postgres-"))
        password = self._folder / "password"
        password.write_text(self._password, encoding="ascii")
        if self._account is not None:
            account = pwd.getpwnam(self._account)
            for path in (self._folder, password):
                os.chown(path, account.pw_uid, account.pw_gid)
        data = ["-D", str(self._folder / "data")]
        self._run("initdb", *data, f"--username={USER}", "--auth=scram-sha-256", f"--pwfile={password}", "--no-sync")
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
        shutil.rmtree(self._folder)

    def start(self) -> None:
        """Start the server, and wait until it accepts connections."""
        options = f"-p {self._port} -c listen_addresses=127.0.0.1 -k {self._folder} -F"
        self._run(
            "pg_ctl", "-D", str(self._folder / "data"), "-w", "-o", options, "-l", str(self._folder / "log"), "start"
        )

    def stop(self) -> None:
        """Cut all connections, without writing what is in memory: as a crash."""
        self._run("pg_ctl", "-D", str(self._folder / "data"), "-w", "-m", "immediate", "stop", check=False)

    def _run(self, program: str, *arguments: str, check: bool = True) -> None:
        # Not captured by pipes, which the server would keep open.
        with (self._folder / "output").open("a+", encoding="utf-8") as output:
            done = subprocess.run(
                [str(self._programs / program), *arguments],
                user=self._account,
                cwd=self._folder,
                env={**os.environ, "PGPASSWORD": self._password},
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
            )
            output.seek(0)
            assert done.returncode == 0 or not check, output.read()
