"""What trials used, from their reported metrics, and its line on the console."""

from __future__ import annotations

from dataclasses import replace

from sweeps.console.usage import StudyUsage, describe_usage, summarise_usage
from tests.sweeps.console.test_display import trial

GIB = 2**30


def test_usage_is_largest_peak_and_mean_utilisation() -> None:
    trials = [
        trial("a", peak_memory_bytes=1.0 * GIB, utilisation=0.5),
        trial("b", peak_memory_bytes=3.0 * GIB, utilisation=0.75),
        # Of an earlier version, or failed in its first epoch.
        trial("c", mr2_reasonable=0.5),
        # On a GPU without the driver's package.
        trial("d", peak_memory_bytes=2.0 * GIB),
    ]
    assert summarise_usage(trials, 2) == StudyUsage(3.0 * GIB, 0.625, 2)
    assert summarise_usage(trials[3:], 1) == StudyUsage(2.0 * GIB, None, 1)
    assert summarise_usage(trials[2:3], 1) is None


def test_usage_line() -> None:
    usage = StudyUsage(1.25 * GIB, 0.934, 2)
    on_cpu = describe_usage(usage, num_threads=1, is_on_gpu=False)
    assert on_cpu == "A trial used at most 1.2 GiB of memory and 93 % of its 1 CPU thread; 2 ran at a time"
    assert "93 % of its 3 CPU threads;" in describe_usage(usage, num_threads=3, is_on_gpu=False)
    on_gpu = describe_usage(usage, num_threads=1, is_on_gpu=True)
    assert on_gpu == "A trial used at most 1.2 GiB of GPU memory; the GPUs computed 93 % of the time; 2 ran at a time"
    without_utilisation = describe_usage(replace(usage, utilisation=None), num_threads=1, is_on_gpu=True)
    assert without_utilisation == "A trial used at most 1.2 GiB of GPU memory; 2 ran at a time"
