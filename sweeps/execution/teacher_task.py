"""The study's first task: its teacher, trained or loaded once, on a worker of the cluster."""

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
from sweeps.trials.worker import WorkPlace

_SECONDS_BETWEEN_NEWS = 0.5


def prepare_on_cluster(
    config: TrialConfig,
    cache_dir: Path,
    place: WorkPlace,
    *,
    num_cpus: float,
    num_gpus: float,
    on_progress: Callable[[TrainingProgress], None],
) -> PreparedTeacher:
    """Get the teacher ready on a worker, hearing of its progress.

    Args:
        cache_dir: Absolute; seen by all nodes.

    Raises:
        ValueError: as :func:`hkd.training.teacher.prepare_teacher`.
    """
    task: Any = ray.remote(_prepare).options(num_cpus=num_cpus, num_gpus=num_gpus, max_retries=2)
    try:
        for news in task.remote(config, cache_dir, place):
            result = ray.get(news)
            if isinstance(result, PreparedTeacher):
                return result
            on_progress(result)
    except ray.exceptions.RayTaskError as error:
        # What went wrong on the worker, without the story of how it came here.
        raise (error.cause if isinstance(error.cause, ValueError) else error) from None
    raise AssertionError("the task ends with the teacher or an exception")


def _prepare(config: TrialConfig, cache_dir: Path, place: WorkPlace) -> Iterator[TrainingProgress | PreparedTeacher]:
    """Runs on the worker: a stream of news, the teacher last."""
    # A generator cannot yield from inside a callback: the training runs beside it.
    news: queue.Queue[TrainingProgress | PreparedTeacher | Exception] = queue.Queue()
    told_at = 0.0

    def tell(moment: TrainingProgress) -> None:
        nonlocal told_at
        if time.monotonic() - told_at >= _SECONDS_BETWEEN_NEWS:
            told_at = time.monotonic()
            news.put(moment)

    def work() -> None:
        try:
            place.enter()
            data = prepare_data(config.data, progress=False)
            news.put(prepare_teacher(config, data, cache_dir, tell))
        except Exception as error:  # noqa: BLE001 (raised again below)
            news.put(error)

    threading.Thread(target=work, daemon=True).start()
    while True:
        item: Any = news.get()
        if isinstance(item, Exception):
            raise item
        yield item
        if isinstance(item, PreparedTeacher):
            return
