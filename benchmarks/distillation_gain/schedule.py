"""Runs the trainings that are not finished, several at once, until all are finished or the time is over."""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field

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


@dataclass
class Progress:
    """How a call of :func:`run_all` ended."""

    finished: int = 0
    elsewhere: list[str] = field(default_factory=list)
    """Trained by another process at the time."""
    failed: list[str] = field(default_factory=list)
    """With the reason, a line each."""
    left: int = 0
    """Not started or interrupted."""
    is_interrupted: bool = False

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
    tasks = _tasks(jobs, conditions)
    deadline = None if max_hours is None else time.monotonic() + 3600 * max_hours
    progress = Progress()
    total = len(tasks)
    # Spawned: a forked child of a process that has used OpenMP may hang.
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    running: dict[Future[Outcome], tuple[Task, Training]] = {}
    with (
        Interruption() as interruption,
        interruption.deferred(),
        ProcessPoolExecutor(workers, context, initialize_worker, (stop,)) as pool,
    ):
        while tasks or running:
            if interruption.is_requested and not stop.is_set():
                print("stopping: trainings resume from their last epoch", file=sys.stderr, flush=True)
                stop.set()
            is_over = stop.is_set() or (deadline is not None and time.monotonic() >= deadline)
            ready = [] if is_over else _startable(tasks, workers - len(running), progress)
            for task, training in ready:
                tasks.remove(task)
                running[pool.submit(run, training)] = task, training
            if not running and (is_over or not any(task.is_needed_by_others for task in tasks)):
                break
            if not running:
                time.sleep(_POLL_SECONDS)
                continue
            done, _ = wait(running, timeout=_POLL_SECONDS, return_when=FIRST_COMPLETED)
            for future in done:
                task, training = running.pop(future)
                if _record(future, task, training, progress, total):
                    tasks.append(task)
    progress.left = len(tasks)
    progress.is_interrupted = stop.is_set()
    return progress


def _tasks(jobs: Jobs, conditions: Sequence[Condition]) -> list[Task]:
    names = teachers_of(conditions)
    return [
        *(
            Task(f"teacher {name}", lambda name=name: jobs.teacher_training(name), is_needed_by_others=True)  # type: ignore[misc]
            for name in names
        ),
        *(Task(f"evaluation of teacher {name}", lambda name=name: jobs.teacher_evaluation(name)) for name in names),  # type: ignore[misc]
        *(
            Task(condition.name, lambda condition=condition: jobs.training(condition))  # type: ignore[misc]
            for condition in conditions
        ),
    ]


def _startable(tasks: list[Task], places: int, progress: Progress) -> list[tuple[Task, Training]]:
    """The next tasks that can start; those that are finished already are removed from the list and counted."""
    found: list[tuple[Task, Training]] = []
    for task in list(tasks):
        if len(found) >= places:
            break
        if time.monotonic() < task.not_before:
            continue
        training = task.training()
        if training is None:
            continue
        if training.is_finished:
            tasks.remove(task)
            progress.finished += 1
        else:
            found.append((task, training))
    return found


def _record(future: Future[Outcome], task: Task, training: Training, progress: Progress, total: int) -> bool:
    """Count and print what became of a training; returns whether it is still to be done."""
    error = future.exception()
    if isinstance(error, ValueError):
        progress.failed.append(f"{training.name}: {error}")
        print(f"failed: {progress.failed[-1]}", file=sys.stderr, flush=True)
        return False
    outcome = future.result()
    if outcome == "finished":
        progress.finished += 1
        result = Result.read(training.result_path)
        shown = "" if result is None else f": {100 * result.miss_rate:.1f} %, {result.seconds / 60:.1f} min"
        print(f"[{progress.finished}/{total}] {training.name}{shown}", file=sys.stderr, flush=True)
        return False
    if outcome == "locked" and not task.is_needed_by_others:
        progress.elsewhere.append(training.name)
        return False
    task.not_before = time.monotonic() + _RETRY_SECONDS
    return True
