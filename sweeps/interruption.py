"""Ctrl-C, SIGTERM and the end of a time budget as KeyboardInterrupt, deferred while files are being written."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)


class Interruption:
    """Context in which SIGINT and SIGTERM raise KeyboardInterrupt.

    Within :meth:`deferred`, the first signal only sets ``is_requested``; a second one raises. Enter it after
    ``ray.init``, which installs its own SIGTERM handler.

    Args:
        deadline: Of ``time.monotonic``; it then acts like a first signal, and is ignored after one. None: no time
            limit.
    """

    def __init__(self, deadline: float | None = None) -> None:
        self.is_requested = False
        self.is_time_over = False
        """Whether the deadline is the reason."""
        self._deadline = deadline
        self._is_deferred = False
        self._is_pending = False
        """Whether a signal was deferred."""

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        if self._deadline is not None:
            # 0 would disarm the timer.
            signal.setitimer(signal.ITIMER_REAL, max(1e-3, self._deadline - time.monotonic()))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._deadline is not None:
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Defer the first signal: the caller polls ``is_requested`` and raises where it is safe."""
        self._is_deferred, self._is_pending = True, False
        try:
            yield
        finally:
            self._is_deferred = False

    def raise_if_requested(self) -> None:
        """Raise KeyboardInterrupt if a signal was received."""
        if self.is_requested:
            raise KeyboardInterrupt

    def _handle(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 (Python's signature)
        if number == signal.SIGALRM:
            if self.is_requested:  # the study is being interrupted already; a second signal would abort that
                return
            self.is_time_over = True
        self.is_requested = True
        if not self._is_deferred or self._is_pending:
            raise KeyboardInterrupt
        self._is_pending = True
