"""Ctrl-C and SIGTERM, at a moment when nothing is half written."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Self


class Interruption:
    """While entered, SIGINT and SIGTERM raise KeyboardInterrupt: at once, or within :meth:`deferred` when asked for.

    A second signal raises at once even there. To be entered after ``ray.init``, which takes SIGTERM for itself.
    """

    def __init__(self) -> None:
        self.is_requested = False
        self._is_deferred = False
        self._is_held = False
        """Whether a signal came since it is deferred."""

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
        """Only note a first signal; who runs here looks at ``is_requested`` and raises when it is safe."""
        self._is_deferred, self._is_held = True, False
        try:
            yield
        finally:
            self._is_deferred = False

    def raise_if_requested(self) -> None:
        """Raise KeyboardInterrupt if a signal came so far."""
        if self.is_requested:
            raise KeyboardInterrupt

    def _handle(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 (Python's signature)
        self.is_requested = True
        if not self._is_deferred or self._is_held:
            raise KeyboardInterrupt
        self._is_held = True
