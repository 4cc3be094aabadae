"""A study on the console: live progress on a terminal, plain lines elsewhere, a table at the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Self

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from hkd import metric_names as names
from hkd.text.escaping import printable
from hkd.text.output import print_on
from hkd.training.progress import TrainingProgress
from sweeps.console.metric_format import cell, heading, phrases
from sweeps.console.tables import RunningTrial, live_tables
from sweeps.trials.ends import ends_of
from sweeps.trials.front import front
from sweeps.trials.records.trial import LedgerTrial

SECONDS_BETWEEN_PLAIN_LINES = 60.0
"""Without a terminal, progress is printed at this interval."""
_SECONDS_BETWEEN_UPDATES = 0.5


class Display:
    """Permanent lines, and live progress below them."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._live: Live | None = None
        self._spinner = Spinner("dots")
        self._last_update = 0.0

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._live = Live(self._spinner, console=self.console, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the live line."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def print_line(self, text: str) -> None:
        """Print a permanent line."""
        print_on(self.console, text)
        self._last_update = time.monotonic()

    def show_progress(self, text: str, details: Callable[[int], RenderableType] | None = None) -> None:
        """Show progress: live, or, without a terminal, as a line at most once a minute.

        Args:
            details: Returns what is shown below the text on a terminal of this many lines.
        """
        pause = _SECONDS_BETWEEN_UPDATES if self._live is not None else SECONDS_BETWEEN_PLAIN_LINES
        if time.monotonic() - self._last_update < pause:
            return
        self._last_update = time.monotonic()
        if self._live is None:
            print_on(self.console, text)
            return
        self._spinner.update(text=Text(printable(text)))
        below = [] if details is None else [details(self.console.height)]
        self._live.update(Group(self._spinner, *below))


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
        self._running: dict[str, RunningTrial] = {}
        self._ended = list(ended)
        self._front = front(_of_search(ended), self._objectives)

    def expect(self, count: int) -> None:
        """Count more trials that will run: those of a confirmation."""
        self._total += count

    def start(self, trial_id: str, epoch: int, total_epochs: int) -> None:
        """Show a trial that starts, or resumes after ``epoch`` epochs."""
        self._running[trial_id] = RunningTrial(epoch, total_epochs)
        if epoch:
            self._display.print_line(f"  {trial_id} resumes after epoch {epoch} of {total_epochs}")

    def epoch(self, trial_id: str, epoch: int, metrics: Mapping[str, float] | None = None) -> None:
        """Count a trained epoch, and show what it measured."""
        trial = self._running[trial_id]
        self._epochs_trained += max(0, epoch - trial.epoch)
        trial.epoch = epoch
        trial.metrics |= metrics or {}

    def note(self, trial_id: str, text: str) -> None:
        """Print a sentence about a trial."""
        self._display.print_line(f"  {trial_id}: {text}")

    def lose_worker(self, trial_id: str, reason: str, num_lost: int, limit: int) -> None:
        """Print that a trial lost its worker and is queued again, for the ``num_lost``-th time of ``limit``."""
        self._display.print_line(f"  {trial_id}: worker lost ({reason}); queued again ({num_lost} of {limit})")

    def end(self, trial: LedgerTrial) -> None:
        """Print how a trial ended."""
        self._running.pop(trial.trial_id, None)
        self._ended.append(trial)
        self._front = front(_of_search([*self._front, trial]), self._objectives)
        line = describe_end(trial, self._objectives)
        self._display.print_line(f"  {line}  ({len(self._ended)} of {self._total}{self._time_left()})")
        warning = self._warning_at_end(trial)
        if warning is not None:
            self._display.print_line(f"  Warning: {warning}")

    def update(self) -> None:
        """Refresh the line of progress."""
        parts = [f"trials: {len(self._ended)} of {self._total} ended"]
        for status in (names.STATUS_STOPPED, names.STATUS_FAILED):
            count = sum(trial.status == status for trial in self._ended)
            parts += [f"{count} {status}"] if count else []
        best = self._best()
        parts += [f"lowest {best}"] if best else []
        running = ", ".join(
            f"{trial_id} {trial.epoch}/{trial.total_epochs}" for trial_id, trial in self._running.items()
        )
        parts += [f"epochs of {running}"] if running else []
        self._display.show_progress(
            "; ".join(parts) + self._time_left(),
            lambda height: live_tables(self._running, self._front, self._objectives, height),
        )

    def _best(self) -> str:
        """The lowest value of the first miss rate among the objectives."""
        metric = next(name for name in self._objectives if name in names.MISS_RATES)
        finished = [trial.metrics for trial in self._front]
        values = [metrics[metric] for metrics in finished if metric in metrics]
        return phrases((metric,), {metric: min(values)}) if values else ""

    def _time_left(self) -> str:
        if not self._epochs_trained:
            return ""
        open_trials = self._total - len(self._ended) - len(self._running)
        # Of open trials, the share that early stopping saved of those that ended.
        reported = [trial for trial in _of_search(self._ended) if names.EPOCH in trial.metrics]
        ends = ends_of(reported, self._epochs_per_trial)
        share = 1 - ends.saved_epochs / ends.full_epochs if ends.num_stopped else 1.0
        epochs_left = open_trials * self._epochs_per_trial * share + sum(
            trial.total_epochs - trial.epoch for trial in self._running.values()
        )
        seconds = epochs_left * (time.monotonic() - self._started_at) / self._epochs_trained
        return f"; about {duration(seconds)} left" if epochs_left > 0 else ""


def _of_search(trials: Sequence[LedgerTrial]) -> list[LedgerTrial]:
    """The trials without confirmations of others."""
    return [trial for trial in trials if trial.confirms is None]


def closing_table(
    members: Sequence[LedgerTrial], objectives: Sequence[str], teacher: Mapping[str, float] | None
) -> Table:
    """The front, a column for each objective; the teacher's metrics in the first row, for comparison."""
    table = Table(box=box.SIMPLE_HEAD, title="Front", title_justify="left")
    table.add_column("")
    for metric in objectives:
        table.add_column(heading(metric), justify="right")
    rows = [("teacher", teacher)] if teacher is not None else []
    rows += [(trial.trial_id, trial.metrics) for trial in members]
    for title, metrics in rows:
        table.add_row(Text(printable(title)), *(cell(metric, metrics) for metric in objectives))
    return table


def describe_end(trial: LedgerTrial, objectives: Sequence[str]) -> str:
    """One line on how a trial ended."""
    if trial.status == names.STATUS_FAILED:
        reason = (trial.error or "").strip().splitlines() or ["no error message"]
        return f"{trial.trial_id} failed: {reason[-1]}"
    # A miss rate from before the end would look like a result.
    shown = [name for name in objectives if trial.status == names.STATUS_FINISHED or name in names.COSTS]
    how = f"{trial.trial_id} {trial.status}"
    epoch = int(trial.metrics.get(names.EPOCH, 0))
    if trial.status == names.STATUS_STOPPED and epoch:
        how += f" after {epoch} of {round(epoch / trial.metrics[names.BUDGET_FRACTION])} epochs"
    text = f"{how}: {phrases(shown, trial.metrics)}{_better(trial.dominators)}"
    prefix = names.TEST_PREFIX
    on_test = {name: trial.metrics[f"{prefix}{name}"] for name in shown if f"{prefix}{name}" in trial.metrics}
    return f"{text}; test images: {phrases(shown, on_test)}" if on_test else text


def _better(trial_ids: Sequence[str]) -> str:
    """Because of which trials another was stopped."""
    if not trial_ids:
        return ""
    return f"; lower miss rate at no higher cost: {', '.join(trial_ids[:2])}{', ...' if len(trial_ids) > 2 else ''}"


def duration(seconds: float) -> str:
    """A duration for people, to two digits."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
