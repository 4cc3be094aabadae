"""What is printed while no node has the resources of a trial."""

from __future__ import annotations

from typing import Any

import pytest
import ray

from sweeps.execution.cluster.waiting import FIRST_SECONDS, SECONDS_BETWEEN_LINES, Waiting


def test_wait_is_reported_with_request_and_resources(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("sweeps.execution.cluster.waiting.time.monotonic", lambda: now[0])
    nodes: list[dict[str, Any]] = [
        {"Alive": True, "Resources": {"CPU": 4.0}},
        {"Alive": True, "Resources": {"CPU": 4.0}},
        {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}},
    ]
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    monkeypatch.setattr(ray, "available_resources", lambda: {"CPU": 3.0})
    lines: list[str] = []
    waiting = Waiting("Trials", 2.0, 1.0, lines.append)
    waiting.update(is_waiting=True)
    now[0] += FIRST_SECONDS - 1
    waiting.update(is_waiting=True)
    assert lines == []
    now[0] += 1
    for _ in range(2):
        waiting.update(is_waiting=True)
    (line,) = lines
    for fact in ("2 CPUs and 1 GPUs", "cluster: 2 (4 CPUs and 0 GPUs)", "3 CPUs and 0 GPUs free", "autoscaler"):
        assert fact in line
    now[0] += SECONDS_BETWEEN_LINES
    waiting.update(is_waiting=True)
    assert len(lines) == 2
    # A started trial ends the wait; another wait starts anew.
    waiting.update(is_waiting=False)
    waiting.update(is_waiting=True)
    assert len(lines) == 2
