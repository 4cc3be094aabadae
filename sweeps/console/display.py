"""What a person sees who waits for a study: a live line on a terminal, plain lines elsewhere, a table at the end."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from rich import box
from rich.console import Console
from rich.status import Status
from rich.table import Table

from hkd import metric_names as names
from hkd.training.progress import TrainingProgress
from sweeps.trials.ledger import LedgerTrial

SECONDS_BETWEEN_PLAIN_LINES = 60.0
"""Where there is no terminal to update, news of what is under way comes this seldom."""
_SECONDS_BETWEEN_UPDATES = 0.5


class Display:
    """Lines that stay, and one line that is kept up to date."""

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

    def say(self, text: str) -> None:
        """Print a line that stays."""
        # Paths and numbers are no markup, and lines are not broken: they are read by grep as well.
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)
        self._last_update = time.monotonic()

    def show(self, text: str) -> None:
        """Say what is under way: in the live line, or now and then in a line of its own."""
        pause = _SECONDS_BETWEEN_UPDATES if self._status is not None else SECONDS_BETWEEN_PLAIN_LINES
        if time.monotonic() - self._last_update < pause:
            return
        self._last_update = time.monotonic()
        if self._status is not None:
            self._status.update(text.replace("[", r"\["))
        else:
            self.console.print(text, markup=False, highlight=False, soft_wrap=True)


class TeacherBoard:
    """Shows how far the teacher is."""

    def __init__(self, display: Display) -> None:
        self._display = display
        self._epochs_told: set[tuple[str, int]] = set()

    def update(self, moment: TrainingProgress) -> None:
        """Called with each news of the training."""
        epoch = moment.epoch - 1
        mr2 = moment.numbers.get(names.MR2_REASONABLE)
        quality = f", {percent(mr2)} missed" if mr2 is not None else ""
        where = f"{moment.title}: epoch {moment.epoch} of {moment.total_epochs}{quality}"
        if epoch and (moment.title, epoch) not in self._epochs_told:
            self._epochs_told.add((moment.title, epoch))
            if not self._display.console.is_terminal:
                self._display.say(f"  {moment.title}: {epoch} of {moment.total_epochs} epochs{quality}")
        self._display.show(f"{where}, step {moment.step} of {moment.total_steps}")


class TrialBoard:
    """Shows how far the trials are.

    Args:
        total: Baselines and trials of the whole study.
        ended: Those that an earlier process brought to their end.
        epochs_per_trial: Planned for trials that were not proposed yet.
    """

    def __init__(self, display: Display, *, total: int, ended: Sequence[LedgerTrial], epochs_per_trial: int) -> None:
        self._display = display
        self._total = total
        self._epochs_per_trial = epochs_per_trial
        self._begun_at = time.monotonic()
        self._epochs_trained = 0
        self._running: dict[str, tuple[int, int]] = {}
        self._ended = list(ended)

    def start(self, trial_id: str, epoch: int, total_epochs: int) -> None:
        """A trial starts, or goes on after ``epoch`` epochs."""
        self._running[trial_id] = (epoch, total_epochs)
        if epoch:
            self._display.say(f"  {trial_id} goes on after epoch {epoch} of {total_epochs}")

    def epoch(self, trial_id: str, epoch: int) -> None:
        """A trial has trained an epoch."""
        before, total = self._running[trial_id]
        self._epochs_trained += max(0, epoch - before)
        self._running[trial_id] = (epoch, total)

    def end(self, trial: LedgerTrial) -> None:
        """A trial has come to its end."""
        self._running.pop(trial.trial_id, None)
        self._ended.append(trial)
        self._display.say(f"  {describe(trial)}  ({len(self._ended)} of {self._total}{self._time_left()})")

    def update(self) -> None:
        """Refresh the line of what is under way."""
        running = ", ".join(f"{trial_id} {epoch}/{total}" for trial_id, (epoch, total) in self._running.items())
        best = min(
            (trial.metrics[names.MR2_REASONABLE] for trial in self._ended if _has_miss_rate(trial)), default=None
        )
        parts = [f"trials: {len(self._ended)} of {self._total} done"]
        failed = sum(trial.status == names.STATUS_FAILED for trial in self._ended)
        parts += [f"{failed} failed"] if failed else []
        parts += [f"best {percent(best)} missed"] if best is not None else []
        parts += [f"epochs of {running}"] if running else []
        self._display.show("; ".join(parts) + self._time_left())

    def _time_left(self) -> str:
        if not self._epochs_trained:
            return ""
        open_trials = self._total - len(self._ended) - len(self._running)
        epochs_left = open_trials * self._epochs_per_trial + sum(
            total - epoch for epoch, total in self._running.values()
        )
        seconds = epochs_left * (time.monotonic() - self._begun_at) / self._epochs_trained
        return f"; about {duration(seconds)} left" if epochs_left > 0 else ""


def front_table(front: Sequence[LedgerTrial], teacher: Mapping[str, float] | None) -> Table:
    """The trials that no other one beats, the teacher above them for comparison."""
    table = Table(box=box.SIMPLE_HEAD, title="Front", title_justify="left")
    table.add_column("")
    for heading in ("MR-2 (%)", "parameters (M)", "GFLOPs"):
        table.add_column(heading, justify="right")
    rows = [("teacher", teacher)] if teacher is not None else []
    rows += [(trial.trial_id, trial.metrics) for trial in front]
    for title, metrics in rows:
        mr2 = metrics.get(names.MR2_REASONABLE)
        table.add_row(
            title,
            "-" if mr2 is None else f"{100 * mr2:.1f}",
            f"{metrics[names.NUM_PARAMS] / 1e6:.2f}",
            f"{metrics[names.FLOPS] / 1e9:.2f}",
        )
    return table


def describe(trial: LedgerTrial) -> str:
    """One line on how a trial ended."""
    if trial.status == names.STATUS_FAILED:
        reason = (trial.error or "").strip().splitlines() or ["no reason is known"]
        return f"{trial.trial_id} failed: {reason[-1]}"
    numbers = [f"{percent(trial.metrics[names.MR2_REASONABLE])} missed"] if _has_miss_rate(trial) else []
    numbers += (
        [f"{trial.metrics[names.NUM_PARAMS] / 1e6:.2f} M parameters"] if names.NUM_PARAMS in trial.metrics else []
    )
    numbers += [f"{trial.metrics[names.FLOPS] / 1e9:.2f} GFLOPs"] if names.FLOPS in trial.metrics else []
    return f"{trial.trial_id} {trial.status}: {', '.join(numbers)}"


def percent(fraction: float) -> str:
    """A miss rate for people."""
    return f"{100 * fraction:.1f} %"


def duration(seconds: float) -> str:
    """A time for people, to two digits."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def _has_miss_rate(trial: LedgerTrial) -> bool:
    return trial.status == names.STATUS_FINISHED and names.MR2_REASONABLE in trial.metrics
