"""Workers that Ray kills because the memory of their node is exhausted."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ray.air.execution._internal.actor_manager import RayActorManager
from ray.exceptions import OutOfMemoryError, RayActorError

_REASON = "killed due to the node running low on memory"
_USED = re.compile(r"was (\S+ used / \S+ limit)")


@contextmanager
def exhausted_memory_loses_worker() -> Iterator[None]:
    """Let Ray Tune treat such a worker as any other that is lost.

    Ray Tune (2.60) expects a ``RayActorError`` of a worker that ended. For one that Ray's memory monitor killed, Ray
    raises another exception, with which Tune ends, and the study with it.
    """
    handle = RayActorManager._actor_task_failed

    def translated(self: RayActorManager, tracked_actor_task: Any, exception: Exception) -> None:
        handle(self, tracked_actor_task=tracked_actor_task, exception=as_lost_worker(exception))

    RayActorManager._actor_task_failed = translated  # type: ignore[method-assign]
    try:
        yield
    finally:
        RayActorManager._actor_task_failed = handle  # type: ignore[method-assign]


def as_lost_worker(exception: Exception) -> Exception:
    """The exception of a lost worker if memory was exhausted; any other as it is."""
    return RayActorError(error_msg=str(exception)) if isinstance(exception, OutOfMemoryError) else exception


def describe_exhausted_memory(text: str) -> str | None:
    """A line for the page that Ray has on a worker which it killed for memory; None for any other text.

    Ray raises that page as one of several exceptions, depending on what the worker did.
    """
    if _REASON not in text:
        return None
    used = _USED.search(text)
    amount = f": {used[1]}" if used else ""
    return (
        f"Ray killed it, because the memory of its node was exhausted{amount}; run fewer trials at once "
        "(--max-concurrent)"
    )
