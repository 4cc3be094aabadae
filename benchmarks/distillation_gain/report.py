"""The results as Markdown tables. Miss rates in per cent, differences in points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.distillation_gain.results import CONFIDENCE, Cell, Difference, Spread, Table, in_order
from hkd.metric_names import AP, MR2_ALL, MR2_REASONABLE

_PASSES = "passes its teacher"


def report(table: Table, rows: Sequence[str], descriptions: Mapping[str, str]) -> str:
    """All tables.

    Args:
        rows: The order of the rows.
        descriptions: How the teachers are trained, by their names.
    """
    if not table.cells:
        return "No training is finished."
    parts = [_teachers(table, descriptions), _key()]
    cells = list(table.cells.values())
    for teacher in teachers_in(table):
        for student in dict.fromkeys(cell.student for cell in cells):
            parts += _of_student(table, student, teacher, rows, descriptions)
    parts += [_doubled(table, rows)]
    return "\n\n".join(part for part in parts if part)


def teachers_in(table: Table) -> list[str | None]:
    """Teachers of the results; None alone where all rows are without one."""
    named = list(dict.fromkeys(cell.teacher for cell in table.cells.values() if cell.teacher is not None))
    return [*named] or [None]


def cells_of(table: Table, student: str, teacher: str | None) -> list[Cell]:
    """A student's results under a teacher, and those without one."""
    return [cell for cell in table.cells.values() if cell.student == student and cell.teacher in (teacher, None)]


def _teachers(table: Table, descriptions: Mapping[str, str]) -> str:
    if not table.teachers:
        return ""
    lines = ["| teacher | parameters | MR^-2 reasonable, % | MR^-2 all, % | AP, % |", "|---|---|---|---|---|"]
    for name, result in table.teachers.items():
        numbers = " | ".join(_percent(result.metrics.get(metric)) for metric in (MR2_REASONABLE, MR2_ALL, AP))
        lines.append(f"| {_described(name, descriptions)} | {result.num_params / 1e6:.2f} M | {numbers} |")
    return "\n".join(lines)


def _described(teacher: str, descriptions: Mapping[str, str]) -> str:
    return f"{teacher} ({descriptions[teacher]})"


def _key() -> str:
    interval = f"{100 * CONFIDENCE:.0f} % interval"
    return (
        "Mean ± standard deviation over seeds (their number). A difference is that of MR^-2 reasonable against `alone` "
        f"with the same seeds: mean ± standard deviation; its {interval} over seeds (Student's t); its {interval} over "
        "validation images (bootstrap, of the mean over these seeds); each seed. A star: a mean below the teacher's."
    )


def _of_student(
    table: Table, student: str, teacher: str | None, rows: Sequence[str], descriptions: Mapping[str, str]
) -> list[str]:
    cells = cells_of(table, student, teacher)
    if not cells:
        return []
    first = next(iter(cells[0].results.values()))
    of_teacher = table.teachers.get(teacher) if teacher is not None else None
    fewer = f", {of_teacher.num_params / first.num_params:.1f}x fewer than the teacher" if of_teacher else ""
    under = f", teacher {_described(teacher, descriptions)}" if teacher is not None else ""
    parts = [f"### Student {student} ({first.num_params / 1e6:.2f} M parameters{fewer}){under}"]
    # A student alone is shown beside the rows of a teacher; without any, under the first teacher.
    is_first = teacher == teachers_in(table)[0]
    for labels in sorted({cell.labels for cell in cells if is_first or cell.teacher == teacher}):
        chosen = [cell for cell in cells if cell.labels == labels]
        parts.append(f"{labels:,} labelled scenes: MR^-2 reasonable, %, by steps")
        parts.append(_grid(table, chosen, teacher, rows, sorted({cell.steps for cell in chosen}), "steps"))
        parts.append(_details(table, chosen, teacher, rows))
    for steps in sorted({cell.steps for cell in cells if is_first or cell.teacher == teacher}):
        chosen = [cell for cell in cells if cell.steps == steps]
        numbers = sorted({cell.labels for cell in chosen})
        if len(numbers) > 1:
            parts.append(f"{steps:,} steps: MR^-2 reasonable, %, by labelled scenes")
            parts.append(_grid(table, chosen, teacher, rows, numbers, "labels"))
    return parts


def _grid(
    table: Table, cells: Sequence[Cell], teacher: str | None, rows: Sequence[str], columns: Sequence[int], by: str
) -> str:
    lines = [
        f"| | {' | '.join(f'{column:,} {by}' for column in columns)} |",
        "|---|" + "---|" * len(columns),
    ]
    found = {(cell.row, cell.steps if by == "steps" else cell.labels): cell for cell in cells}
    for row in in_order((cell.row for cell in cells), rows):
        shown = [_grid_cell(table, found.get((row, column)), teacher) for column in columns]
        lines.append(f"| {row} | {' | '.join(shown)} |")
    return "\n".join(lines)


def _grid_cell(table: Table, cell: Cell | None, teacher: str | None) -> str:
    if cell is None:
        return ""
    mark = " *" if teacher is not None and table.passes_teacher(cell, teacher) else ""
    return f"{_spread(cell.miss_rate)} ({len(cell.results)}){mark}"


def _details(table: Table, cells: Sequence[Cell], teacher: str | None, rows: Sequence[str]) -> str:
    interval = f"{100 * CONFIDENCE:.0f} %"
    lines = [
        (
            "| row | steps | seeds | MR^-2 reasonable, % | MR^-2 all, % | AP, % | against alone, points "
            f"| {interval} over seeds | {interval} over images | each seed | |"
        ),
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    by_key = {(cell.row, cell.steps): cell for cell in cells}
    for row in in_order((cell.row for cell in cells), rows):
        for steps in sorted(cell.steps for cell in cells if cell.row == row):
            cell = by_key[row, steps]
            metrics = " | ".join(_spread(cell.metric(name)) for name in (MR2_REASONABLE, MR2_ALL, AP))
            mark = _PASSES if teacher is not None and table.passes_teacher(cell, teacher) else ""
            lines.append(
                f"| {row} | {_steps(cell)} | {len(cell.results)} | {metrics} "
                f"| {' | '.join(_difference(table.against_alone(cell)))} | {mark} |"
            )
    return "\n".join(lines)


def _doubled(table: Table, rows: Sequence[str]) -> str:
    lines = []
    order = in_order((cell.row for cell in table.cells.values()), rows)
    for cell in sorted(table.cells.values(), key=lambda c: (c.student, c.labels, order.index(c.row), c.steps)):
        change = table.doubled(cell)
        if change is not None:
            where = f"{cell.student} | {cell.row} | {cell.teacher or ''} | {cell.labels:,} | {cell.steps:,}"
            lines.append(f"| {where} | {' | '.join(_difference(change))} |")
    if not lines:
        return ""
    heading = [
        "### What twice the steps change",
        "",
        "| student | row | teacher | labels | steps | change, points | over seeds | over images | each seed |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    return "\n".join([*heading, *lines])


def _steps(cell: Cell) -> str:
    """The table's steps, and those that were trained where whole epochs have more or fewer."""
    trained = sorted({result.trained_steps for result in cell.results.values()} - {cell.steps})
    return f"{cell.steps:,}" + (f" ({', '.join(f'{steps:,}' for steps in trained)} trained)" if trained else "")


def _difference(difference: Difference | None) -> tuple[str, str, str, str]:
    """Mean and deviation, both intervals, and each seed."""
    if difference is None:
        return "", "", "", ""
    return (
        _spread(difference.over_seeds, sign="+"),
        _interval(difference.over_seeds.interval()),
        _interval(difference.image_interval),
        ", ".join(_percent(value, "+") for value in difference.over_seeds.by_seed.values()),
    )


def _interval(ends: tuple[float, float] | None) -> str:
    return "" if ends is None else f"{_percent(ends[0], '+')} to {_percent(ends[1], '+')}"


def _spread(spread: Spread, sign: str = "") -> str:
    if not spread.by_seed:
        return ""
    deviation = "" if spread.deviation is None else f" ± {_percent(spread.deviation)}"
    return f"{_percent(spread.mean, sign)}{deviation}"


def _percent(value: float | None, sign: str = "") -> str:
    # z: no minus before a rounded 0.
    return "" if value is None else f"{100 * value:{sign}z.1f}"
