"""A lost cluster ends the process with a message, and a killed process leaves a word."""

from __future__ import annotations

import subprocess
import sys

import pytest

from sweeps.execution.cluster import watch
from sweeps.execution.cluster.watch import NUM_FAILED_PROBES

RESUME = "Resume with: it's $HOME %s"


def ended(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)


def watched(answers: str, work: str) -> subprocess.CompletedProcess[str]:
    """A process with a watch whose probes have these answers, and the last one for ever."""
    return ended(f"""
import sys, threading, time
from sweeps.execution.cluster import watch

watch.SECONDS_BETWEEN_PROBES = 0.001
answers, lost = {answers}, threading.Event()

def answer(address):
    return answers.pop(0) if len(answers) > 1 else answers[0]

def on_lost(reason):
    print(reason, len(answers), flush=True)
    lost.set()
    {work}

with watch.ClusterWatch("10.0.0.1:6379", {RESUME!r}, on_lost, answer):
    lost.wait(0.3 if answers[-1] else 60)
print("left")
""")


def test_process_ends_after_several_failed_probes_in_a_row() -> None:
    # One answer between failures: not lost until as many fail in a row. The main thread waits meanwhile, for ever.
    few = [False] * (NUM_FAILED_PROBES - 1)
    lost = watched(str([*few, True, *few, False]), "time.sleep(0.1)")
    assert lost.returncode == watch.EXIT_CLUSTER_LOST == 3
    assert "10.0.0.1:6379" in lost.stdout
    assert lost.stdout.strip().endswith(" 1")  # after all answers
    assert "left" not in lost.stdout
    assert lost.stderr == ""
    kept = watched(str([*few, True, *few, True]), "pass")
    assert (kept.returncode, kept.stdout, kept.stderr) == (0, "left\n", "")


def test_error_while_the_process_ends_leaves_a_word() -> None:
    lost = watched("[False]", "raise RuntimeError")
    assert (lost.returncode, lost.stderr) == (3, f"{RESUME}\n")


@pytest.mark.parametrize(("end", "is_printed"), [("os._exit(1)", True), ("os.kill(os.getpid(), 9)", True), ("", False)])
def test_text_is_printed_only_if_the_process_is_killed(end: str, is_printed: bool) -> None:
    program = f"""
import os
from sweeps.execution.cluster.watch import last_words
with last_words({RESUME!r}):
    {end or "pass"}
"""
    assert ended(program).stderr == (f"{RESUME}\n" if is_printed else "")
