"""Notices that a cluster is lost, before Ray ends this process from C++ without a word."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sweeps.execution.cluster.address import answers

SECONDS_BETWEEN_PROBES = 5.0
NUM_FAILED_PROBES = 3
"""In a row. Ray ends the process after a minute without the head's service (GCS)."""


class ClusterLostError(Exception):
    """The head of the Ray cluster does not answer any more."""


class ClusterWatch:
    """Context in which a thread connects to the head of a cluster every few seconds.

    Args:
        address: ``host:port`` of Ray's global control service (GCS).
        answers: Whether it accepts a connection.
    """

    def __init__(self, address: str, answers: Callable[[str], bool] = answers) -> None:
        self._address, self._answers = address, answers
        self._num_failed = 0
        self._is_ended = threading.Event()

    def raise_if_lost(self) -> None:
        """Raise an error if the head did not answer several times in a row.

        Raises:
            ClusterLostError: naming its address.
        """
        if self._num_failed >= NUM_FAILED_PROBES:
            raise ClusterLostError(
                f"the head of the Ray cluster ({self._address}) does not answer for "
                f"{NUM_FAILED_PROBES * SECONDS_BETWEEN_PROBES:.0f} s"
            )

    def __enter__(self) -> ClusterWatch:
        self._thread = threading.Thread(target=self._work, name="cluster-watch", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_ended.set()

    def _work(self) -> None:
        while not self._is_ended.wait(SECONDS_BETWEEN_PROBES):
            self._num_failed = 0 if self._answers(self._address) else self._num_failed + 1


@contextmanager
def last_words(text: str) -> Iterator[None]:
    """Print a text to stderr if this process ends within the context without leaving it: killed, or ended from C++.

    A shell waits at a pipe that the system closes with this process.
    """
    command = 'read -r ended || printf "%s\\n" "$1" >&2'
    shell = subprocess.Popen(["/bin/sh", "-c", command, "sh", text], stdin=subprocess.PIPE, start_new_session=True)
    try:
        yield
    finally:
        shell.communicate(b"ended\n")
