"""Runs the trainings that are not finished, several at once, until all are finished or the time is over."""

from __future__ import annotations

import math
import multiprocessing
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from functools import partial

from benchmarks.distillation_gain.conditions import Condition
from benchmarks.distillation_gain.jobs import Jobs, teachers_of
from benchmarks.distillation_gain.results import Result
from benchmarks.distillation_gain.trainings import Outcome, Training, initialize_worker, run
from sweeps.interruption import Interruption

_POLL_SECONDS = 0.5
_RETRY_SECONDS = 10.0
"""Until the training of a teacher that another process trains is tried again."""


@dataclass
class Task:
    """A training that may have to wait for its teacher."""

    name: str
    training: Callable[[], Training | None]
    """None until its teacher is trained."""
    is_needed_by_others: bool = False
    """Whether to wait for it where another process trains it."""
    not_before: float = 0.0


@dataclass(frozen=True)
class Progress:
    """How a call of :func:`run_all` ended."""

    finished: int
    """Trainings, those that were finished before included."""
    elsewhere: tuple[str, ...]
    """Names of those that another process trained at the time."""
    failed: tuple[str, ...]
    """Names with the reason, a line each."""
    left: int
    """Not started or interrupted."""

    @property
    def is_complete(self) -> bool:
        """Whether everything is finished."""
        return not (self.elsewhere or self.failed or self.left)


def run_all(jobs: Jobs, conditions: Sequence[Condition], *, workers: int, max_hours: float | None = None) -> Progress:
    """Run the trainings of these conditions and of their teachers that are not finished, in this order.

    SIGINT and SIGTERM end it within a step of each training; a training resumes from its last epoch.

    Args:
        workers: Trainings at once.
        max_hours: No training is started later than this; None: no limit.
    """
    deadline = math.inf if max_hours is None else time.monotonic() + 3600 * max_hours
    # Spawned: a forked child of a process that has used OpenMP may hang.
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    queue = _Queue(_tasks(jobs, conditions))
    with (
        Interruption() as interruption,
        interruption.deferred(),
        ProcessPoolExecutor(workers, context, initialize_worker, (stop,)) as pool,
    ):
        try:
            while queue.tasks or queue.running:
                if interruption.is_requested and not stop.is_set():
                    print("stopping: trainings resume from their last epoch", file=sys.stderr, flush=True)
                    stop.set()
                is_over = stop.is_set() or time.monotonic() >= deadline
                if not is_over:
                    queue.start(pool, workers)
                if not queue.running and (is_over or not any(task.is_needed_by_others for task in queue.tasks)):
                    break
                queue.wait()
        except BaseException:
            # Otherwise leaving the pool would wait for the other trainings to end.
            stop.set()
            raise
    return queue.progress()


class _Queue:
    """The tasks to do and those that run."""

    def __init__(self, tasks: list[Task]) -> None:
        self.tasks = tasks
        self.running: dict[Future[Outcome], tuple[Task, Training]] = {}
        self._total = len(tasks)
        self._finished = 0
        self._elsewhere: list[str] = []
        self._failed: list[str] = []

    def start(self, pool: ProcessPoolExecutor, workers: int) -> None:
        """Start the next tasks that can start, while there are workers; remove those that are finished."""
        for task in list(self.tasks):
            if len(self.running) >= workers:
                break
            training = task.training() if time.monotonic() >= task.not_before else None
            if training is None:
                continue
            self.tasks.remove(task)
            if training.is_finished:
                self._finished += 1
            else:
                self.running[pool.submit(run, training)] = task, training

    def wait(self) -> None:
        """Wait a moment for running tasks, and record those that ended."""
        if not self.running:
            time.sleep(_POLL_SECONDS)
            return
        done, _ = wait(self.running, timeout=_POLL_SECONDS, return_when=FIRST_COMPLETED)
        for future in done:
            self._record(future, *self.running.pop(future))

    def progress(self) -> Progress:
        """What was done so far."""
        return Progress(self._finished, tuple(self._elsewhere), tuple(self._failed), len(self.tasks))

    def _record(self, future: Future[Outcome], task: Task, training: Training) -> None:
        """Count and print what became of a training; queue it again if it is to be done later."""
        error = future.exception()
        if isinstance(error, ValueError):
            self._failed.append(f"{training.name}: {error}")
            print(f"failed: {self._failed[-1]}", file=sys.stderr, flush=True)
            return
        outcome = future.result()
        if outcome == "finished":
            self._finished += 1
            result = Result.read(training.result_path)
            shown = "" if result is None else f": {100 * result.miss_rate:.1f} %, {result.seconds / 60:.1f} min"
            print(f"[{self._finished}/{self._total}] {training.name}{shown}", file=sys.stderr, flush=True)
        elif outcome == "locked" and not task.is_needed_by_others:
            self._elsewhere.append(training.name)
        else:
            task.not_before = time.monotonic() + _RETRY_SECONDS
            self.tasks.append(task)


def _tasks(jobs: Jobs, conditions: Sequence[Condition]) -> list[Task]:
    names = teachers_of(conditions)
    return [
        *(Task(f"teacher {name}", partial(jobs.teacher_training, name), is_needed_by_others=True) for name in names),
        *(Task(f"evaluation of teacher {name}", partial(jobs.teacher_evaluation, name)) for name in names),
        *(Task(condition.name, partial(jobs.training, condition)) for condition in conditions),
    ]
