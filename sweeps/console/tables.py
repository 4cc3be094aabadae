"""Tables of a study: its running trials and front while it runs, how trials ended, and the confirmed front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from hkd import metric_names as names
from hkd.text.escaping import printable
from sweeps.console.metric_format import cell, heading
from sweeps.trials.confirmation import Confirmation, ConfirmedTrial
from sweeps.trials.records.trial import LedgerTrial

MOST_ROWS_AT_END = 40
"""Of the table of ended trials; of a longer study, it has those that did not finish."""
_FEWEST_LIVE_ROWS = 2
_LIVE_LINES_BESIDE_ROWS = 9
"""The line of progress, and of two tables the title, the heading, the line below it and the number of other rows."""
_LONGEST_REASON = 60


@dataclass
class RunningTrial:
    """A trial on a worker."""

    epoch: int
    """Epochs trained."""
    total_epochs: int
    metrics: dict[str, float] = field(default_factory=dict)
    """Last reported values."""


def live_tables(
    running: Mapping[str, RunningTrial], front: Sequence[LedgerTrial], objectives: Sequence[str], height: int
) -> Group:
    """The running trials and the front so far, in as many rows as fit.

    Args:
        running: By trial id.
        front: Sorted; its first members are shown.
        height: Lines of the terminal.
    """
    rows = max(_FEWEST_LIVE_ROWS, (height - _LIVE_LINES_BESIDE_ROWS) // 2)
    measured = [name for name in objectives if name in names.MISS_RATES]
    of_running = _table("Running", ["epoch", *map(heading, measured)])
    of_running.show_edge = False
    for trial_id, trial in list(running.items())[:rows]:
        cells = [cell(name, trial.metrics) for name in measured]
        of_running.add_row(Text(printable(trial_id)), f"{trial.epoch} of {trial.total_epochs}", *cells)
    _add_rest(of_running, len(running) - rows)
    of_front = _table("Front so far", list(map(heading, objectives)))
    of_front.show_edge = False
    for each in front[:rows]:
        of_front.add_row(Text(printable(each.trial_id)), *(cell(name, each.metrics) for name in objectives))
    _add_rest(of_front, len(front) - rows)
    return Group(*([of_running] if running else []), *([of_front] if front else []))


def ended_table(trials: Sequence[LedgerTrial], objectives: Sequence[str], total_epochs: Mapping[str, int]) -> Table:
    """How each trial ended: status, epochs, objectives of finished ones, the last line of a failure's message.

    Args:
        total_epochs: Epochs planned, by trial id.
    """
    shown = trials
    title = "How the trials ended"
    if len(trials) > MOST_ROWS_AT_END:
        shown = [trial for trial in trials if trial.status != names.STATUS_FINISHED][:MOST_ROWS_AT_END]
        title = f"How trials ended that did not finish ({len(shown)} of {len(trials)} trials)"
    table = _table(title, ["status", "epochs", *map(heading, objectives)])
    table.columns[1].justify = "left"
    has_reasons = any(trial.error for trial in shown)
    if has_reasons:
        table.add_column("reason", overflow="fold")
    for trial in shown:
        is_finished = trial.status == names.STATUS_FINISHED
        # A miss rate from before the end would look like a result.
        cells = [cell(name, trial.metrics) if is_finished or name in names.COSTS else "-" for name in objectives]
        status = "interrupted" if trial.status == names.STATUS_RUNNING else trial.status
        epochs = f"{int(trial.metrics.get(names.EPOCH, trial.epoch))} of {total_epochs[trial.trial_id]}"
        lines = (trial.error or "").strip().splitlines()
        reason = [Text(printable(lines[-1][:_LONGEST_REASON] if lines else ""))] if has_reasons else []
        table.add_row(Text(printable(trial.trial_id)), status, epochs, *cells, *reason)
    return table


def confirmation_table(
    confirmation: Confirmation, objectives: Sequence[str], teacher: Mapping[str, float] | None
) -> Table:
    """The confirmed trials: their miss rates in the search, mean and spread of the new seeds, and costs.

    Args:
        teacher: The teacher's metrics, those on the test images with the prefix ``test_``; None without one.
    """
    images = ["validation", *(["test"] if confirmation.is_on_test else [])]
    measured = [name for name in objectives if name in names.MISS_RATES]
    costs = [name for name in objectives if name not in names.MISS_RATES]
    counts = {each.num_seeds for each in confirmation.trials}
    headings = [
        f"{heading(metric)}\n{text}" if len(measured) > 1 else text
        for metric in measured
        for text in ("search", *images)
    ]
    # For terminals of 80 columns.
    headings += [heading(metric).replace("parameters (M)", "M params") for metric in costs]
    seeds = f" {min(counts)}" if len(counts) == 1 else ""
    subject = f"{heading(measured[0])} of" if len(measured) == 1 else "Of"
    title = f"{subject} the search, and with{seeds} other seeds (mean ± standard deviation); *: on the confirmed front"
    table = _table(title, headings)
    table.padding, table.pad_edge = (0, 1), False
    if len(counts) > 1:
        table.add_column("seeds", justify="right")
    if teacher is not None:
        table.add_row("teacher", *_teacher_cells(teacher, measured, images), *(cell(name, teacher) for name in costs))
    for each in confirmation.trials:
        mark = " *" if each.trial.trial_id in confirmation.front else ""
        table.add_row(
            Text(printable(f"{each.trial.trial_id}{mark}")),
            *(text for metric in measured for text in _confirmed_cells(each, metric, images)),
            *(cell(metric, each.trial.metrics) for metric in costs),
            *([str(each.num_seeds)] if len(counts) > 1 else []),
        )
    return table


def _teacher_cells(teacher: Mapping[str, float], measured: Sequence[str], images: Sequence[str]) -> list[str]:
    """Of each miss rate, a cell for the search, and one for each kind of images."""
    prefix = names.TEST_PREFIX
    on_test = {name.removeprefix(prefix): value for name, value in teacher.items() if name.startswith(prefix)}
    cells = {"validation": "-", "test": ""}
    return [
        text
        for metric in measured
        for text in (cell(metric, teacher), *(cells[image] or cell(metric, on_test) for image in images))
    ]


def _confirmed_cells(confirmed: ConfirmedTrial, metric: str, images: Sequence[str]) -> list[str]:
    cells = [cell(metric, confirmed.trial.metrics)]
    for where in images:
        name = f"{names.TEST_PREFIX}{metric}" if where == "test" else metric
        mean = cell(metric, {metric: confirmed.means[name]})
        spread = confirmed.spreads.get(name)
        cells.append(mean if spread is None else f"{mean} ± {cell(metric, {metric: spread})}")
    return cells


def _table(title: str, headings: Sequence[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left")
    table.add_column("", no_wrap=True)
    for text in headings:
        table.add_column(text, justify="right")
    return table


def _add_rest(table: Table, count: int) -> None:
    if count > 0:
        table.add_row(f"and {count} more")
