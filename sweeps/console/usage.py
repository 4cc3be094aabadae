"""What the trials of a study used: memory, utilisation, and their number at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hkd import metric_names as names
from hkd.runtime.memory import format_bytes
from sweeps.trials.records.trial import LedgerTrial


@dataclass(frozen=True)
class StudyUsage:
    """What the trials of a study used, as far as they reported it."""

    peak_bytes: float
    """Largest peak of memory of any trial."""
    utilisation: float | None
    """Mean over trials."""
    max_concurrent: int
    """Largest number of trials that ran at the same time."""


def summarise_usage(trials: Sequence[LedgerTrial], max_concurrent: int) -> StudyUsage | None:
    """What trials used by their reported metrics; None where no trial reported any."""
    peaks = [trial.metrics[names.PEAK_MEMORY_BYTES] for trial in trials if names.PEAK_MEMORY_BYTES in trial.metrics]
    utilisations = [trial.metrics[names.UTILISATION] for trial in trials if names.UTILISATION in trial.metrics]
    if not peaks:
        return None
    mean = sum(utilisations) / len(utilisations) if utilisations else None
    return StudyUsage(max(peaks), mean, max_concurrent)


def describe_usage(usage: StudyUsage, *, num_threads: int, is_on_gpu: bool) -> str:
    """One line on the memory and utilisation of trials, and on their number at a time."""
    memory = format_bytes(usage.peak_bytes)
    share = "" if usage.utilisation is None else f"{100 * usage.utilisation:.0f} %"
    at_a_time = f"{usage.max_concurrent} ran at a time"
    if is_on_gpu:
        busy = share and f"; the GPUs computed {share} of the time"
        return f"A trial used at most {memory} of GPU memory{busy}; {at_a_time}"
    threads = f"{num_threads} CPU thread{'s' if num_threads > 1 else ''}"
    busy = share and f" and {share} of its {threads}"
    return f"A trial used at most {memory} of memory{busy}; {at_a_time}"
