"""Writes to MLflow in order, in a thread of its own: a store that is slow or away does not slow the study."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable

from sweeps.tracking.store import is_transient, short_message

RETRY_SECONDS = 15.0
"""Between attempts while the store cannot be reached."""
MAX_ATTEMPTS = 4
"""Number of transient failures, while the store answers other requests, after which a write is dropped."""
BATCH_SECONDS = 1.0
"""Pause after the pending writes were executed, in which epochs of fast trials collect in one request."""
_POLL_SECONDS = 0.2

Write = Callable[[], None]


class BackgroundWriter:
    """Executes writes in the order in which they are added.

    A write that the store rejects is logged and dropped. If the store cannot be reached, writes stay pending.

    Args:
        uri: Of the store; its password is removed from messages.
        answers: Whether the store answers a request now.
    """

    def __init__(self, uri: str, answers: Callable[[], bool]) -> None:
        self.last_error: str | None = None
        """Message of the last failed write; None after a successful one."""
        self.rejections: list[str] = []
        """Messages of the dropped writes, one each."""
        self._uri = uri
        self._answers = answers
        self._pending: deque[Write] = deque()
        self._attempts = 0
        """Failed ones of the first pending write, in a row, after each of which the store answered another request."""
        self._failed_at = -math.inf
        self._is_urgent = False
        """Whether a caller waits: no pause between batches."""
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    @property
    def num_pending(self) -> int:
        """Number of writes that were not executed."""
        return len(self._pending)

    def add(self, write: Write) -> None:
        """Add a write; returns at once."""
        with self._changed:
            self._pending.append(write)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="mlflow-writer", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def flush(self, *, is_retried: bool = False, on_wait: Callable[[int], None] = lambda _: None) -> None:
        """Wait until no write is pending, or the store cannot be reached.

        Args:
            is_retried: Whether to try once more without a pause, if the store could not be reached just now.
            on_wait: Called several times a second with the number of pending writes.
        """
        with self._changed:
            if is_retried:
                self._failed_at = -math.inf
            self._is_urgent = True
            self._changed.notify_all()
            # With a timeout, so that signals are handled.
            while self._pending and not self._is_paused():
                self._changed.wait(_POLL_SECONDS)
                on_wait(len(self._pending))
            self._is_urgent = False

    def _is_paused(self) -> bool:
        return time.monotonic() - self._failed_at < RETRY_SECONDS

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._pending or self._is_paused():
                    self._changed.wait(_POLL_SECONDS if self._pending else None)
                write = self._pending[0]
            is_done = self._try(write)
            with self._changed:
                if is_done:
                    self._pending.popleft()
                    self._attempts = 0
                else:
                    self._failed_at = time.monotonic()
                self._changed.notify_all()
                if not self._pending and not self._is_urgent:
                    self._changed.wait_for(lambda: self._is_urgent, BATCH_SECONDS)

    def _try(self, write: Write) -> bool:
        """Execute a write; returns whether it is done or dropped."""
        try:
            write()
        # Tracking and artifact stores are plug-ins and can raise anything, ImportError included.
        except Exception as error:  # noqa: BLE001
            self.last_error = short_message(error, self._uri)
            if is_transient(error):
                # A store that is away fails every write: that is no reason to drop this one.
                self._attempts = self._attempts + 1 if self._answers() else 0
                if self._attempts < MAX_ATTEMPTS:
                    return False
            if self.last_error not in self.rejections:
                logging.getLogger(__name__).warning("MLflow rejected a write: %s", self.last_error)
            self.rejections.append(self.last_error)
        else:
            self.last_error = None
        return True
