"""A lost cluster is noticed, and a killed process leaves a word."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest

from sweeps.execution.cluster import watch
from sweeps.execution.cluster.watch import NUM_FAILED_PROBES, ClusterLostError, ClusterWatch


def watch_for_a_minute(watch: ClusterWatch) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        watch.raise_if_lost()


def test_cluster_is_lost_after_several_failed_probes_in_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "SECONDS_BETWEEN_PROBES", 0.001)
    # One answer between failures: not lost until as many fail in a row.
    answers = [*[False] * (NUM_FAILED_PROBES - 1), True, *[False] * (NUM_FAILED_PROBES - 1)]
    all_answered, may_go_on = threading.Event(), threading.Event()

    def answer(address: str) -> bool:
        assert address == "10.0.0.1:6379"
        if answers:
            return answers.pop(0)
        all_answered.set()
        may_go_on.wait(60)
        return False

    with ClusterWatch("10.0.0.1:6379", answer) as cluster_watch:
        assert all_answered.wait(60)
        cluster_watch.raise_if_lost()
        may_go_on.set()
        with pytest.raises(ClusterLostError, match=r"10\.0\.0\.1:6379"):
            watch_for_a_minute(cluster_watch)


@pytest.mark.parametrize(("end", "is_printed"), [("os._exit(1)", True), ("os.kill(os.getpid(), 9)", True), ("", False)])
def test_text_is_printed_only_if_the_process_is_killed(end: str, is_printed: bool) -> None:
    program = f"""
import os
from sweeps.execution.cluster.watch import last_words
with last_words("Resume with: it's $HOME %s"):
    {end or "pass"}
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert ended.stderr == ("Resume with: it's $HOME %s\n" if is_printed else "")
