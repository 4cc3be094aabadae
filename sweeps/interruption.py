"""Ctrl-C and SIGTERM as KeyboardInterrupt, deferred while files are being written."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Self


class Interruption:
    """Context in which SIGINT and SIGTERM raise KeyboardInterrupt.

    Within :meth:`deferred`, the first signal only sets ``is_requested``; a second one raises. Enter it after
    ``ray.init``, which installs its own SIGTERM handler.
    """

    def __init__(self) -> None:
        self.is_requested = False
        self._is_deferred = False
        self._is_pending = False
        """Whether a signal was deferred."""

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
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
        self.is_requested = True
        if not self._is_deferred or self._is_pending:
            raise KeyboardInterrupt
        self._is_pending = True
