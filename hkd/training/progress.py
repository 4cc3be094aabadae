"""How far a training is, for people who wait for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from hkd.metric_names import MR2_REASONABLE, TOTAL_LOSS


@dataclass(frozen=True)
class TrainingProgress:
    """A moment of one training."""

    title: str
    """What is trained."""
    step: int
    """Steps done in all epochs."""
    total_steps: int
    epoch: int
    """The epoch that the step belongs to, counted from 1."""
    total_epochs: int
    numbers: Mapping[str, float] = field(default_factory=dict)
    """Loss parts as last looked at, and metrics as last measured."""


OnProgress = Callable[[TrainingProgress], None]


def ignore_progress(_: TrainingProgress) -> None:
    """For callers who show nothing."""


@contextmanager
def progress_bars(console: Console | None = None) -> Iterator[OnProgress]:
    """Show one bar a title on the terminal, while the context lasts."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[numbers]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as bars:
        tasks: dict[str, TaskID] = {}

        def show(moment: TrainingProgress) -> None:
            if moment.title not in tasks:
                tasks[moment.title] = bars.add_task(moment.title, total=moment.total_steps, numbers="")
            bars.update(tasks[moment.title], completed=moment.step, numbers=_in_words(moment))

        yield show


def _in_words(moment: TrainingProgress) -> str:
    words = [f"epoch {moment.epoch}/{moment.total_epochs}"]
    if TOTAL_LOSS in moment.numbers:
        words.append(f"loss {moment.numbers[TOTAL_LOSS]:.3f}")
    if MR2_REASONABLE in moment.numbers:
        words.append(f"MR-2 {100 * moment.numbers[MR2_REASONABLE]:.1f} %")
    return ", ".join(words)
