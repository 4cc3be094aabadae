"""Results as tables of text: the same in the terminal, in Markdown and in HTML."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import pandas as pd

from analysis.choice import BaselineComparison
from analysis.front import Hypervolume, Student, Teacher
from analysis.objectives import ABSENT, Objective
from analysis.records.study_records import ParameterValue, StudyRecords, TrialRecord
from analysis.report.cells import markdown_cell, spreadsheet_cell
from analysis.results import StudyResults
from hkd.text.escaping import printable

Item = TypeVar("Item")


@dataclass(frozen=True)
class Column(Generic[Item]):
    """One column of a table, which has a row for each item."""

    header: str
    value: Callable[[Item], str]
    """The text of an item's cell."""
    is_number: bool = False
    """Whether its cells are aligned to the right, in HTML."""


@dataclass(frozen=True)
class Table:
    """Rows of text under a header."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    is_number: tuple[bool, ...]
    """For each column."""
    marked_row: int | None = None
    """The row that HTML highlights."""

    def as_text(self) -> str:
        """Columns aligned by spaces, for a terminal."""
        cells = [self.header, *self.rows]
        widths = [max(len(row[column]) for row in cells) for column in range(len(self.header))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells]
        return "\n".join(line.rstrip() for line in lines)

    def as_markdown(self) -> str:
        """A GitHub table."""
        cells = [self.header, ("---",) * len(self.header), *self.rows]
        return "\n".join("| " + " | ".join(markdown_cell(cell) for cell in row) + " |" for row in cells)


def make_table(columns: Sequence[Column[Item]], items: Iterable[Item], *, marked_row: int | None = None) -> Table:
    """A table of the items, a row each. Names in MLflow may contain any character: control characters are escaped."""
    return Table(
        header=tuple(column.header for column in columns),
        rows=tuple(tuple(printable(column.value(item)) for column in columns) for item in items),
        is_number=tuple(column.is_number for column in columns),
        marked_row=marked_row,
    )


def in_points(difference: float | None) -> str:
    """A difference of miss rates in percentage points, signed."""
    return ABSENT if difference is None else f"{100 * difference:+.1f}"


def as_ratio(ratio: float | None) -> str:
    """The teacher's cost divided by the student's."""
    return ABSENT if ratio is None else f"{ratio:.2g}x" if ratio < 1 else f"{ratio:.1f}x"


def setting_value(value: ParameterValue) -> str:
    """The value of a setting, numbers with at most four digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def short_names(dotted: Sequence[str]) -> dict[str, str]:
    """Dotted names without their section (``pyramid.weight``), where these are unique."""
    rests = {name: name.partition(".")[2] or name for name in dotted}
    uses = Counter(rests.values())
    return {name: rest if uses[rest] == 1 else name for name, rest in rests.items()}


def settings(student: Student) -> tuple[str, ...]:
    """The searched settings of a student as 'name=value'."""
    short = short_names(list(student.settings))
    return tuple(f"{short[name]}={setting_value(value)}" for name, value in student.settings.items())


def label(student: Student) -> str:
    """The trial's id, with the baseline's name if it is one."""
    if student.baseline is None or student.baseline in student.trial_id:
        return student.trial_id
    return f"{student.trial_id} ({student.baseline} baseline)"


def front_table(results: StudyResults, *, with_settings: bool = True) -> Table:
    """The teacher, then the front by rank, with the recommended (or best) student marked.

    Args:
        with_settings: Whether to add the searched settings, for which a terminal is too narrow.
    """
    front = results.front
    knee_id = front.knee.trial_id if front.knee else None

    def trial(detector: Teacher | Student) -> str:
        if isinstance(detector, Teacher):
            return "teacher"
        return label(detector) + (" (knee)" if detector.trial_id == knee_id else "")

    columns: list[Column[Teacher | Student]] = [Column("rank", _rank), Column("trial", trial)]
    for objective in front.objectives:
        columns += [_value_column(objective), _comparison_column(objective)]
    if with_settings:
        columns.append(Column("searched settings", _settings))
    detectors: list[Teacher | Student] = [*([front.teacher] if front.teacher else []), *front.members]
    chosen = front.student(results.recommendation.trial_id)
    if chosen.rank is None:  # a budget on a cost that is not an objective may lead to it
        detectors.append(chosen)
    return make_table(columns, detectors, marked_row=detectors.index(chosen))


def baseline_table(results: StudyResults) -> Table:
    """Each baseline with the best distilled student that costs no more."""
    front = results.front
    miss_rate, costs = front.miss_rate, front.costs

    def baseline_column(column: Column[Teacher | Student]) -> Column[BaselineComparison]:
        return Column(column.header, lambda each: column.value(front.student(each.trial_id)), column.is_number)

    def rival(comparison: BaselineComparison) -> Student | None:
        return front.student(comparison.best_distilled) if comparison.best_distilled else None

    def rival_label(comparison: BaselineComparison) -> str:
        student = rival(comparison)
        return label(student) if student else "none is as small"

    def rival_miss_rate(comparison: BaselineComparison) -> str:
        student = rival(comparison)
        return miss_rate.shown(student.values[miss_rate.name] if student else None)

    best = f"best distilled student with no more {costs[0].noun}" if costs else "best distilled student"
    columns = [
        Column[BaselineComparison]("baseline", lambda each: each.name),
        baseline_column(_value_column(miss_rate)),
        baseline_column(_comparison_column(miss_rate)),
        *(baseline_column(_value_column(cost)) for cost in costs),
        Column(best, rival_label),
        Column(f"its {miss_rate.column}", rival_miss_rate, is_number=True),
        Column("difference", lambda each: in_points(each.difference), is_number=True),
    ]
    intervals = {each.trial_id: _interval(results, each) for each in results.baselines}
    if any(text != ABSENT for text in intervals.values()):
        confidence = f"{100 * results.uncertainty.confidence:.0f} % interval"
        columns.append(Column(confidence, lambda each: intervals[each.trial_id]))
    return make_table(columns, results.baselines)


def _interval(results: StudyResults, comparison: BaselineComparison) -> str:
    """Of the difference between a baseline and its best distilled rival, over the validation images."""
    if comparison.best_distilled is None or comparison.difference is None:
        return ABSENT
    metric = results.front.miss_rate.name
    found = results.uncertainty.compare(comparison.trial_id, comparison.best_distilled, metric)
    if found is not None and results.front.basis != "search":
        found = found.around(comparison.difference)
    return ABSENT if found is None or found.low is None else f"{in_points(found.low)} to {in_points(found.high)}"


def not_counted_table(records: StudyRecords) -> Table:
    """Every trial that is not counted, and why."""
    miss_rate = records.objectives[0]
    columns: list[Column[TrialRecord]] = [
        Column("trial", lambda trial: trial.trial_id),
        Column("status", lambda trial: trial.status),
        Column(
            f"last {miss_rate.column}",
            lambda trial: miss_rate.shown(trial.metrics.get(miss_rate.name)),
            is_number=True,
        ),
        Column("reason", lambda trial: trial.not_counted_because or ""),
    ]
    return make_table(columns, records.not_counted)


def hypervolume_table(results: StudyResults) -> Table:
    """The hypervolume of each set of objectives, with its reference point."""

    def reference_point(each: Hypervolume) -> str:
        values = zip(each.objectives, each.reference_point, strict=True)
        return ", ".join(objective.in_sentence(value) for objective, value in values)

    columns: list[Column[Hypervolume]] = [
        Column("front in", lambda each: ", ".join(objective.noun for objective in each.objectives)),
        Column("hypervolume", lambda each: f"{each.value:.4f}" if each.is_defined else ABSENT, is_number=True),
        Column("students", lambda each: str(each.num_students), is_number=True),
        Column("reference point", reference_point),
        Column("points beyond it", lambda each: str(each.beyond_reference), is_number=True),
    ]
    return make_table(columns, results.front.hypervolumes)


def trials_table(records: StudyRecords, results: StudyResults) -> pd.DataFrame:
    """The table of the records, with each trial's place on the fronts, for spreadsheets."""
    table = records.table()
    front = results.front
    rank_of = {student.run_id: student.rank for student in front.students}
    ranks = pd.array([rank_of.get(run_id) for run_id in table["run_id"]], dtype="Int64")
    table.insert(1, "front_rank", pd.Series(ranks, index=table.index))
    for place, pair in enumerate(front.pairs, start=2):
        members = {student.run_id for student in pair.students}
        table.insert(place, f"on_{pair.key}_front", [run_id in members for run_id in table["run_id"]])
    for name, dtype in table.dtypes.items():
        if not pd.api.types.is_numeric_dtype(dtype):
            table[name] = pd.Series([spreadsheet_cell(value) for value in table[name]], table.index, dtype=object)
    return table.rename(columns=spreadsheet_cell)


def _rank(detector: Teacher | Student) -> str:
    return ABSENT if isinstance(detector, Teacher) or detector.rank is None else str(detector.rank)


def _settings(detector: Teacher | Student) -> str:
    return "" if isinstance(detector, Teacher) else ", ".join(settings(detector))


def _value_column(objective: Objective) -> Column[Teacher | Student]:
    return Column(
        objective.column, lambda detector: objective.shown(detector.values.get(objective.name)), is_number=True
    )


def _comparison_column(objective: Objective) -> Column[Teacher | Student]:
    """How a student's value compares with the teacher's."""

    def comparison(detector: Teacher | Student) -> str:
        if isinstance(detector, Teacher):
            return ABSENT
        if objective.is_cost:
            return as_ratio(detector.times_fewer.get(objective.name))
        return in_points(detector.gaps.get(objective.name))

    return Column("fewer" if objective.is_cost else "gap", comparison, is_number=True)
