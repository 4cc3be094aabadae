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
from hkd.training.teacher.prepare import PreparedTeacher, prepare_teacher, teacher_folder
from hkd.training.teacher.pseudo_labels import prepare_labels
from sweeps.execution.cluster.waiting import Waiting
from sweeps.execution.teacher.shared import SharedTeacher
from sweeps.trials.worker import WorkerSettings

_SECONDS_BETWEEN_REPORTS = 0.5
_SECONDS_BETWEEN_LOOKS = 5.0


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
    waiting: Waiting | None,
) -> Prepared:
    """Prepare the teacher on a worker, and let it label the unlabelled images.

    Args:
        cache_dir: Absolute, on a file system that all nodes share, or of a node's copies of object storage.
        unlabelled: The unlabelled images that the driver found and compared with the others; None without any.
        on_progress: Called here with the progress of the training.
        waiting: Reports that the task has not started.

    Raises:
        ValueError: as :func:`hkd.training.teacher.prepare.prepare_teacher` and
            :func:`hkd.training.teacher.pseudo_labels.prepare_labels`.
    """
    task: Any = ray.remote(_prepare).options(num_cpus=num_cpus, num_gpus=num_gpus, max_retries=2)
    try:
        reports = task.remote(config, unlabelled, cache_dir, worker)
        is_started = False
        while True:
            ready, _ = ray.wait([reports], timeout=_SECONDS_BETWEEN_LOOKS)
            if waiting is not None:
                waiting.update(is_waiting=not ready and not is_started)
            if not ready:
                continue
            is_started = True
            result = ray.get(next(reports))
            if isinstance(result, Prepared):
                return result
            if result is not None:
                on_progress(result)
    except ray.exceptions.RayTaskError as error:
        # Without Ray's traceback of the worker.
        raise (error.cause if isinstance(error.cause, ValueError) else error) from None


def _prepare(
    config: TrialConfig, unlabelled: Sequence[ImageRecord] | None, cache_dir: Path, worker: WorkerSettings
) -> Iterator[TrainingProgress | Prepared | None]:
    """Runs on the worker; yields None at the start, then progress, and the result last."""
    yield None
    # A generator cannot yield from inside a callback: the training runs in a thread.
    reports: queue.Queue[TrainingProgress | Prepared | Exception] = queue.Queue()
    reported_at = 0.0
    shared: SharedTeacher | None = None

    def report(progress: TrainingProgress) -> None:
        nonlocal reported_at
        if shared is not None:
            shared.upload_state(progress.epoch)
        if time.monotonic() - reported_at >= _SECONDS_BETWEEN_REPORTS:
            reported_at = time.monotonic()
            reports.put(progress)

    def work() -> None:
        nonlocal shared
        try:
            worker.apply()
            data = prepare_data(config.data, progress=False, unlabelled=unlabelled)
            if worker.storage is not None:
                shared = SharedTeacher(worker.storage, teacher_folder(config, data, cache_dir))
                shared.fetch(is_to_be_trained=True)
            teacher = prepare_teacher(config, data, cache_dir, report)
            labels = prepare_labels(config, data, teacher, report)
            if shared is not None:
                shared.upload()
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
