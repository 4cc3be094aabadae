"""Trains or loads the teacher of a study on a worker of the cluster."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ray

from hkd.config import TrialConfig
from hkd.data.prepare import prepare_data
from hkd.training.progress import TrainingProgress
from hkd.training.teacher import PreparedTeacher, prepare_teacher
from sweeps.trials.worker import WorkerSettings

_SECONDS_BETWEEN_REPORTS = 0.5


def prepare_on_cluster(
    config: TrialConfig,
    cache_dir: Path,
    worker: WorkerSettings,
    *,
    num_cpus: float,
    num_gpus: float,
    on_progress: Callable[[TrainingProgress], None],
) -> PreparedTeacher:
    """Prepare the teacher on a worker.

    Args:
        cache_dir: Absolute, on a file system that all nodes share.
        on_progress: Called here with the progress of the training.

    Raises:
        ValueError: as :func:`hkd.training.teacher.prepare_teacher`.
    """
    task: Any = ray.remote(_prepare).options(num_cpus=num_cpus, num_gpus=num_gpus, max_retries=2)
    try:
        for report in task.remote(config, cache_dir, worker):
            result = ray.get(report)
            if isinstance(result, PreparedTeacher):
                return result
            on_progress(result)
    except ray.exceptions.RayTaskError as error:
        # Without Ray's traceback of the worker.
        raise (error.cause if isinstance(error.cause, ValueError) else error) from None
    raise AssertionError("the task ends with the teacher or an exception")


def _prepare(
    config: TrialConfig, cache_dir: Path, worker: WorkerSettings
) -> Iterator[TrainingProgress | PreparedTeacher]:
    """Runs on the worker; yields progress, and the teacher last."""
    # A generator cannot yield from inside a callback: the training runs in a thread.
    reports: queue.Queue[TrainingProgress | PreparedTeacher | Exception] = queue.Queue()
    reported_at = 0.0

    def report(progress: TrainingProgress) -> None:
        nonlocal reported_at
        if time.monotonic() - reported_at >= _SECONDS_BETWEEN_REPORTS:
            reported_at = time.monotonic()
            reports.put(progress)

    def work() -> None:
        try:
            worker.apply()
            data = prepare_data(config.data, progress=False)
            reports.put(prepare_teacher(config, data, cache_dir, report))
        except Exception as error:  # noqa: BLE001 (raised again below)
            reports.put(error)

    threading.Thread(target=work, daemon=True).start()
    while True:
        item: Any = reports.get()
        if isinstance(item, Exception):
            raise item
        yield item
        if isinstance(item, PreparedTeacher):
            return
