"""A study on the console: a live line on a terminal, plain lines elsewhere, a table at the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Self

from rich import box
from rich.console import Console
from rich.status import Status
from rich.table import Table
from rich.text import Text

from hkd import metric_names as names
from hkd.text.escaping import printable
from hkd.text.output import print_on
from hkd.training.progress import TrainingProgress
from sweeps.console.metric_format import cell, heading, phrases
from sweeps.trials.confirmation import Confirmation, ConfirmedTrial
from sweeps.trials.ledger import LedgerTrial

SECONDS_BETWEEN_PLAIN_LINES = 60.0
"""Without a terminal, progress is printed at this interval."""
_SECONDS_BETWEEN_UPDATES = 0.5


class Display:
    """Permanent lines, and one live line."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._status: Status | None = None
        self._last_update = 0.0

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._status = self.console.status("")
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None

    def print_line(self, text: str) -> None:
        """Print a permanent line."""
        print_on(self.console, text)
        self._last_update = time.monotonic()

    def show_progress(self, text: str) -> None:
        """Show progress: in the live line, or, without a terminal, as a line at most once a minute."""
        pause = _SECONDS_BETWEEN_UPDATES if self._status is not None else SECONDS_BETWEEN_PLAIN_LINES
        if time.monotonic() - self._last_update < pause:
            return
        self._last_update = time.monotonic()
        if self._status is not None:
            self._status.update(Text(printable(text)))
        else:
            print_on(self.console, text)


class TeacherBoard:
    """Shows the progress of the teacher.

    Args:
        objectives: The study's; those that the teacher's evaluation has are shown.
    """

    def __init__(self, display: Display, objectives: Sequence[str]) -> None:
        self._display = display
        self._objectives = tuple(objectives)
        self._printed_epochs: set[tuple[str, int]] = set()

    def update(self, progress: TrainingProgress) -> None:
        """Show the progress of the training."""
        if not progress.total_epochs:
            self._display.show_progress(f"{progress.title}: {progress.step} of {progress.total_steps}")
            return
        epoch = progress.epoch - 1
        measured = phrases(self._objectives, progress.numbers)
        quality = f", {measured}" if measured else ""
        if epoch and (progress.title, epoch) not in self._printed_epochs:
            self._printed_epochs.add((progress.title, epoch))
            if not self._display.console.is_terminal:
                self._display.print_line(f"  {progress.title}: {epoch} of {progress.total_epochs} epochs{quality}")
        self._display.show_progress(
            f"{progress.title}: epoch {progress.epoch} of {progress.total_epochs}{quality}, "
            f"step {progress.step} of {progress.total_steps}"
        )


class TrialBoard:
    """Shows the progress of the trials.

    Args:
        objectives: The study's.
        total: Baselines and trials of the whole study.
        ended: Trials that ended in earlier sessions.
        epochs_per_trial: Of trials that are not proposed yet.
        warning_at_end: Returns a warning about a trial that ended, or None.
    """

    def __init__(
        self,
        display: Display,
        *,
        objectives: Sequence[str],
        total: int,
        ended: Sequence[LedgerTrial],
        epochs_per_trial: int,
        warning_at_end: Callable[[LedgerTrial], str | None] = lambda _: None,
    ) -> None:
        self._display = display
        self._objectives = tuple(objectives)
        self._total = total
        self._epochs_per_trial = epochs_per_trial
        self._warning_at_end = warning_at_end
        self._started_at = time.monotonic()
        self._epochs_trained = 0
        self._running: dict[str, tuple[int, int]] = {}
        """Trial id -> epochs trained, epochs planned."""
        self._ended = list(ended)

    def expect(self, count: int) -> None:
        """Count more trials that will run: those of a confirmation."""
        self._total += count

    def start(self, trial_id: str, epoch: int, total_epochs: int) -> None:
        """Show a trial that starts, or resumes after ``epoch`` epochs."""
        self._running[trial_id] = (epoch, total_epochs)
        if epoch:
            self._display.print_line(f"  {trial_id} resumes after epoch {epoch} of {total_epochs}")

    def epoch(self, trial_id: str, epoch: int) -> None:
        """Count a trained epoch."""
        before, total = self._running[trial_id]
        self._epochs_trained += max(0, epoch - before)
        self._running[trial_id] = (epoch, total)

    def lose_worker(self, trial_id: str, reason: str, num_lost: int, limit: int) -> None:
        """Print that a trial lost its worker and is queued again, for the ``num_lost``-th time of ``limit``."""
        self._display.print_line(f"  {trial_id}: worker lost ({reason}); queued again ({num_lost} of {limit})")

    def end(self, trial: LedgerTrial) -> None:
        """Print how a trial ended."""
        self._running.pop(trial.trial_id, None)
        self._ended.append(trial)
        line = describe_end(trial, self._objectives)
        self._display.print_line(f"  {line}  ({len(self._ended)} of {self._total}{self._time_left()})")
        warning = self._warning_at_end(trial)
        if warning is not None:
            self._display.print_line(f"  Warning: {warning}")

    def update(self) -> None:
        """Refresh the line of progress."""
        parts = [f"trials: {len(self._ended)} of {self._total} ended"]
        failed = sum(trial.status == names.STATUS_FAILED for trial in self._ended)
        parts += [f"{failed} failed"] if failed else []
        best = self._best()
        parts += [f"lowest {best}"] if best else []
        running = ", ".join(f"{trial_id} {epoch}/{total}" for trial_id, (epoch, total) in self._running.items())
        parts += [f"epochs of {running}"] if running else []
        self._display.show_progress("; ".join(parts) + self._time_left())

    def _best(self) -> str:
        """The lowest value of the first miss rate among the objectives."""
        metric = next(name for name in self._objectives if name in names.MISS_RATES)
        finished = [
            trial.metrics for trial in self._ended if trial.status == names.STATUS_FINISHED and trial.confirms is None
        ]
        values = [metrics[metric] for metrics in finished if metric in metrics]
        return phrases((metric,), {metric: min(values)}) if values else ""

    def _time_left(self) -> str:
        if not self._epochs_trained:
            return ""
        open_trials = self._total - len(self._ended) - len(self._running)
        epochs_left = open_trials * self._epochs_per_trial + sum(
            total - epoch for epoch, total in self._running.values()
        )
        seconds = epochs_left * (time.monotonic() - self._started_at) / self._epochs_trained
        return f"; about {duration(seconds)} left" if epochs_left > 0 else ""


def closing_table(
    front: Sequence[LedgerTrial], objectives: Sequence[str], teacher: Mapping[str, float] | None
) -> Table:
    """The front, a column for each objective; the teacher's metrics in the first row, for comparison."""
    table = Table(box=box.SIMPLE_HEAD, title="Front", title_justify="left")
    table.add_column("")
    for metric in objectives:
        table.add_column(heading(metric), justify="right")
    rows = [("teacher", teacher)] if teacher is not None else []
    rows += [(trial.trial_id, trial.metrics) for trial in front]
    for title, metrics in rows:
        table.add_row(Text(printable(title)), *(cell(metric, metrics) for metric in objectives))
    return table


def confirmation_table(
    confirmation: Confirmation, objectives: Sequence[str], teacher: Mapping[str, float] | None
) -> Table:
    """The confirmed trials: their miss rates in the search, mean and spread of the new seeds, and costs.

    Args:
        teacher: The teacher's metrics, on the validation images; None without one.
    """
    images = ["validation", *(["test"] if confirmation.is_on_test else [])]
    table = Table(box=box.SIMPLE_HEAD, title="Confirmed with other seeds", title_justify="left")
    table.add_column("")
    measured = [name for name in objectives if name in names.MISS_RATES]
    costs = [name for name in objectives if name not in names.MISS_RATES]
    for metric in measured:
        table.add_column(f"{heading(metric)}: search", justify="right")
        for where in images:
            table.add_column(f"{where}, new seeds", justify="right")
    for metric in costs:
        table.add_column(heading(metric), justify="right")
    table.add_column("seeds", justify="right")
    table.add_column("front")
    if teacher is not None:
        blanks = ["-"] * len(images)
        of_teacher = [text for metric in measured for text in (cell(metric, teacher), *blanks)]
        table.add_row("teacher", *of_teacher, *(cell(metric, teacher) for metric in costs), "", "")
    for each in confirmation.trials:
        row = [text for metric in measured for text in _confirmed_cells(each, metric, images)]
        is_on_front = each.trial.trial_id in confirmation.front
        table.add_row(
            Text(printable(each.trial.trial_id)),
            *row,
            *(cell(metric, each.trial.metrics) for metric in costs),
            str(each.num_seeds),
            "yes" if is_on_front else "no",
        )
    return table


def _confirmed_cells(confirmed: ConfirmedTrial, metric: str, images: Sequence[str]) -> list[str]:
    cells = [cell(metric, confirmed.trial.metrics)]
    for where in images:
        name = f"{names.TEST_PREFIX}{metric}" if where == "test" else metric
        mean = cell(metric, {metric: confirmed.means[name]})
        spread = confirmed.spreads.get(name)
        cells.append(mean if spread is None else f"{mean} ± {cell(metric, {metric: spread})}")
    return cells


def describe_end(trial: LedgerTrial, objectives: Sequence[str]) -> str:
    """One line on how a trial ended."""
    if trial.status == names.STATUS_FAILED:
        reason = (trial.error or "").strip().splitlines() or ["no error message"]
        return f"{trial.trial_id} failed: {reason[-1]}"
    # A miss rate from before the end would look like a result.
    shown = [name for name in objectives if trial.status == names.STATUS_FINISHED or name in names.COSTS]
    text = f"{trial.trial_id} {trial.status}: {phrases(shown, trial.metrics)}"
    on_test = {
        name: trial.metrics[f"{names.TEST_PREFIX}{name}"]
        for name in shown
        if f"{names.TEST_PREFIX}{name}" in trial.metrics
    }
    return f"{text}; test images: {phrases(shown, on_test)}" if on_test else text


def duration(seconds: float) -> str:
    """A duration for people, to two digits."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
