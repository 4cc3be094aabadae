"""Prepares what all trials of a study share, on a worker of the cluster: the teacher, and its labels of images."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from hkd.coco.images import ImageRecord
from hkd.config import TrialConfig
from hkd.data.prepare import prepare_data
from hkd.training.progress import TrainingProgress
from hkd.training.teacher.prepare import PreparedTeacher, prepare_teacher
from hkd.training.teacher.pseudo_labels import prepare_labels
from sweeps.trials.worker import WorkerSettings

_SECONDS_BETWEEN_REPORTS = 0.5


@dataclass(frozen=True)
class Prepared:
    """A teacher, and where its labels of the unlabelled images are."""

    teacher: PreparedTeacher
    labels: Path | None
    """None without unlabelled images."""


def prepare_on_cluster(
    config: TrialConfig,
    cache_dir: Path,
    worker: WorkerSettings,
    *,
    unlabelled: Sequence[ImageRecord] | None,
    num_cpus: float,
    num_gpus: float,
    on_progress: Callable[[TrainingProgress], None],
) -> Prepared:
    """Prepare the teacher on a worker, and let it label the unlabelled images.

    Args:
        cache_dir: Absolute, on a file system that all nodes share.
        unlabelled: The unlabelled images that the driver found and compared with the others; None without any.
        on_progress: Called here with the progress of the training.

    Raises:
        ValueError: as :func:`hkd.training.teacher.prepare.prepare_teacher` and
            :func:`hkd.training.teacher.pseudo_labels.prepare_labels`.
    """
    task: Any = ray.remote(_prepare).options(num_cpus=num_cpus, num_gpus=num_gpus, max_retries=2)
    try:
        for report in task.remote(config, unlabelled, cache_dir, worker):
            result = ray.get(report)
            if isinstance(result, Prepared):
                return result
            on_progress(result)
    except ray.exceptions.RayTaskError as error:
        # Without Ray's traceback of the worker.
        raise (error.cause if isinstance(error.cause, ValueError) else error) from None
    raise AssertionError("the task ends with a result or an exception")


def _prepare(
    config: TrialConfig, unlabelled: Sequence[ImageRecord] | None, cache_dir: Path, worker: WorkerSettings
) -> Iterator[TrainingProgress | Prepared]:
    """Runs on the worker; yields progress, and the result last."""
    # A generator cannot yield from inside a callback: the training runs in a thread.
    reports: queue.Queue[TrainingProgress | Prepared | Exception] = queue.Queue()
    reported_at = 0.0

    def report(progress: TrainingProgress) -> None:
        nonlocal reported_at
        if time.monotonic() - reported_at >= _SECONDS_BETWEEN_REPORTS:
            reported_at = time.monotonic()
            reports.put(progress)

    def work() -> None:
        try:
            worker.apply()
            data = prepare_data(config.data, progress=False, unlabelled=unlabelled)
            teacher = prepare_teacher(config, data, cache_dir, report)
            labels = prepare_labels(config, data, teacher, report)
            reports.put(Prepared(teacher, None if labels is None else labels.path))
        except Exception as error:  # noqa: BLE001 (raised again below)
            reports.put(error)

    threading.Thread(target=work, daemon=True).start()
    while True:
        item: Any = reports.get()
        if isinstance(item, Exception):
            raise item
        yield item
        if isinstance(item, Prepared):
            return
