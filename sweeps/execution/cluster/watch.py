"""Ends a study whose cluster is lost with a message, before Ray ends this process from C++ without a word."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from sweeps.execution.cluster.address import answers

SECONDS_BETWEEN_PROBES = 5.0
NUM_FAILED_PROBES = 3
"""In a row. Ray ends the process after a minute without the head's service (GCS)."""
EXIT_CLUSTER_LOST = 3


class ClusterWatch:
    """Context in which a thread connects to the head of a cluster every few seconds; if it is lost, this process ends.

    The thread ends it, because the main thread may be blocked: without the head's service, Ray's calls neither return
    nor let Python handle signals.

    Args:
        address: ``host:port`` of Ray's global control service (GCS).
        last_words: Printed to stderr if this process is killed, or ended from C++.
        on_lost: Called in the thread with the reason, before the process ends.
        answers: Whether the address accepts a connection.
    """

    def __init__(
        self,
        address: str,
        last_words: str,
        on_lost: Callable[[str], None],
        answers: Callable[[str], bool] = answers,
    ) -> None:
        self._address, self._last_words, self._on_lost, self._answers = address, last_words, on_lost, answers
        self._is_ended = threading.Event()
        self._stack = ExitStack()

    def __enter__(self) -> ClusterWatch:
        self._stack.enter_context(last_words(self._last_words))
        self._thread = threading.Thread(target=self._work, name="cluster-watch", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_ended.set()
        self._thread.join()  # which does not return if it is ending the process
        self._stack.close()

    def _work(self) -> None:
        num_failed = 0
        while num_failed < NUM_FAILED_PROBES:
            if self._is_ended.wait(SECONDS_BETWEEN_PROBES):
                return
            num_failed = 0 if self._answers(self._address) else num_failed + 1
        try:
            self._on_lost(
                f"The head of the Ray cluster ({self._address}) does not answer ({NUM_FAILED_PROBES} attempts, "
                f"{SECONDS_BETWEEN_PROBES:.0f} s apart)"
            )
            self._stack.close()
        finally:
            # Ray's own shutdown would wait for the lost cluster for a minute.
            os._exit(EXIT_CLUSTER_LOST)


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
