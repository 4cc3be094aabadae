"""Results as tables of text: the same in the terminal, in Markdown and in HTML."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from analysis.front import Student
from analysis.objectives import ABSENT, Objective
from analysis.records.study_records import ParameterValue, StudyRecords
from analysis.results import StudyResults


@dataclass(frozen=True)
class Table:
    """Rows of text under a header."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def as_text(self) -> str:
        """Columns aligned by spaces, for a terminal."""
        cells = [self.header, *self.rows]
        widths = [max(len(row[column]) for row in cells) for column in range(len(self.header))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells]
        return "\n".join(line.rstrip() for line in lines)

    def as_markdown(self) -> str:
        """A GitHub table."""
        cells = [self.header, ("---",) * len(self.header), *self.rows]
        return "\n".join("| " + " | ".join(_markdown_cell(cell) for cell in row) + " |" for row in cells)


def points(difference: float | None) -> str:
    """A difference of miss rates in percentage points, signed."""
    return ABSENT if difference is None else f"{100 * difference:+.1f}"


def times(ratio: float | None) -> str:
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
    """The teacher, then the front by rank; a terminal is too narrow for the searched settings."""
    front = results.front
    rows: list[tuple[str, ...]] = []
    header: list[str] = ["rank", "trial"]
    for objective in front.objectives:
        header += [objective.column, "fewer" if objective.is_cost else "gap"]
    if front.teacher:
        values = front.teacher.values
        cells = [
            cell for objective in front.objectives for cell in (objective.shown(values.get(objective.name)), ABSENT)
        ]
        rows.append((ABSENT, "teacher", *cells, ""))
    for student in front.members:
        knee = front.knee is not None and front.knee.trial_id == student.trial_id
        cells = [cell for objective in front.objectives for cell in _value_and_comparison(student, objective)]
        rows.append(
            (
                str(student.rank),
                label(student) + (" (knee)" if knee else ""),
                *cells,
                ", ".join(settings(student)),
            )
        )
    if not with_settings:
        return Table(tuple(header), tuple(row[:-1] for row in rows))
    return Table((*header, "searched settings"), tuple(rows))


def baseline_table(results: StudyResults) -> Table:
    """Each baseline with the best distilled student that costs no more."""
    front = results.front
    miss_rate, costs = front.miss_rate, front.costs
    rows = []
    for comparison in results.baselines:
        baseline = front.student(comparison.trial_id)
        rival = front.student(comparison.best_distilled) if comparison.best_distilled else None
        rows.append(
            (
                comparison.name,
                *_value_and_comparison(baseline, miss_rate),
                *(cost.shown(baseline.values[cost.name]) for cost in costs),
                label(rival) if rival else "none is as small",
                miss_rate.shown(rival.values[miss_rate.name] if rival else None),
                points(comparison.difference),
            )
        )
    best = f"best distilled student with no more {costs[0].noun}" if costs else "best distilled student"
    header = ("baseline", miss_rate.column, "gap", *(cost.column for cost in costs))
    return Table((*header, best, f"its {miss_rate.column}", "difference"), tuple(rows))


def not_counted_table(records: StudyRecords) -> Table:
    """Every trial that is not compared, and why."""
    miss_rate = records.objectives[0]
    rows = tuple(
        (
            trial.trial_id,
            trial.status,
            miss_rate.shown(trial.metrics.get(miss_rate.name)),
            trial.not_counted_because or "",
        )
        for trial in records.not_counted
    )
    return Table(("trial", "status", f"last {miss_rate.column}", "reason"), rows)


def hypervolume_table(results: StudyResults) -> Table:
    """The hypervolume of each set of objectives, with its reference point."""
    rows = tuple(
        (
            ", ".join(objective.noun for objective in each.objectives),
            f"{each.value:.4f}",
            ", ".join(o.in_sentence(value) for o, value in zip(each.objectives, each.reference_point, strict=True)),
            str(each.beyond_reference),
        )
        for each in results.front.hypervolumes
    )
    return Table(("front in", "hypervolume", "reference point", "points beyond it"), rows)


def trials_table(records: StudyRecords, results: StudyResults) -> pd.DataFrame:
    """The table of the records, with each trial's place on the fronts."""
    table = records.table()
    front = results.front
    rank_of = {student.run_id: student.rank for student in front.students}
    ranks = pd.array([rank_of.get(run_id) for run_id in table["run_id"]], dtype="Int64")
    table.insert(1, "front_rank", pd.Series(ranks, index=table.index))
    for place, pair in enumerate(front.pairs, start=2):
        members = {student.run_id for student in pair.students}
        table.insert(place, f"on_{pair.key}_front", [run_id in members for run_id in table["run_id"]])
    return table


def _value_and_comparison(student: Student, objective: Objective) -> tuple[str, str]:
    """A value, and how it compares with the teacher's."""
    name = objective.name
    comparison = times(student.times_fewer.get(name)) if objective.is_cost else points(student.gaps.get(name))
    return objective.shown(student.values[name]), comparison


def _markdown_cell(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
