"""Progress of a training, and its display on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from hkd.metric_names import MR2_REASONABLE, TOTAL_LOSS


@dataclass(frozen=True)
class TrainingProgress:
    """Progress of one training after a step, or of another computation that it needs."""

    title: str
    """Name of what is trained."""
    step: int
    """Number of steps done, in all epochs; of labels, images."""
    total_steps: int
    epoch: int
    """Epoch of the step, counted from 1."""
    total_epochs: int
    """0 for work that has no epochs."""
    numbers: Mapping[str, float] = field(default_factory=dict)
    """Latest loss parts and metrics, by name."""


OnProgress = Callable[[TrainingProgress], None]


def ignore_progress(_: TrainingProgress) -> None:
    """Show nothing."""


@contextmanager
def progress_bars(console: Console | None = None) -> Iterator[OnProgress]:
    """Show a progress bar for each title on the terminal, inside the context."""
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
            bars.update(tasks[moment.title], completed=moment.step, numbers=_description(moment))

        yield show


def _description(moment: TrainingProgress) -> str:
    parts = [f"epoch {moment.epoch}/{moment.total_epochs}"] if moment.total_epochs else []
    if TOTAL_LOSS in moment.numbers:
        parts.append(f"loss {moment.numbers[TOTAL_LOSS]:.3f}")
    if MR2_REASONABLE in moment.numbers:
        parts.append(f"MR^-2 {100 * moment.numbers[MR2_REASONABLE]:.1f} %")
    return ", ".join(parts)
