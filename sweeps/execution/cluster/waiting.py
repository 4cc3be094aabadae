"""What a study prints while nothing of it has started on the cluster that it joined."""

from __future__ import annotations

import time
from collections.abc import Callable

FIRST_SECONDS = 30.0
"""A worker process starts in this time where resources are free."""
SECONDS_BETWEEN_LINES = 60.0


class Waiting:
    """Reports that nothing has started for a while: what is needed, and what there is.

    Args:
        what: Subject of the sentence, as ``Trials``.
        num_cpus: Reserved by one.
        num_gpus: Reserved by one.
        print_line: Called with the sentence.
    """

    def __init__(self, what: str, num_cpus: float, num_gpus: float, print_line: Callable[[str], None]) -> None:
        self._what, self._num_cpus, self._num_gpus, self._print_line = what, num_cpus, num_gpus, print_line
        self._next_line_at: float | None = None

    def update(self, *, is_waiting: bool) -> None:
        """Print a line if it has waited for long. Call it several times a second or minute."""
        now = time.monotonic()
        if not is_waiting:
            self._next_line_at = None
        elif self._next_line_at is None:
            self._next_line_at = now + FIRST_SECONDS
        elif now >= self._next_line_at:
            self._next_line_at = now + SECONDS_BETWEEN_LINES
            self._print_line(self._sentence())

    def _sentence(self) -> str:
        import ray

        alive = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
        largest = [
            f"{node['Resources'].get('CPU', 0):g} CPUs and {node['Resources'].get('GPU', 0):g} GPUs" for node in alive
        ]
        free = ray.available_resources()  # type: ignore[no-untyped-call]
        wanted = f"{self._num_cpus:g} CPUs and {self._num_gpus:g} GPUs"
        return (
            f"{self._what}: waiting for a node with {wanted} free. Nodes of the cluster: {len(alive)} "
            f"({', '.join(dict.fromkeys(largest)) or 'none'}), with {free.get('CPU', 0):g} CPUs and "
            f"{free.get('GPU', 0):g} GPUs free in all. Ray has requested the missing ones from the cluster's "
            "autoscaler, if it has one"
        )
