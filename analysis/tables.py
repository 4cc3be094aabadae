"""Results as words and rows of text: what the terminal, the README and the report all say in the same way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from analysis.front import FrontAnalysis, Student
from analysis.records import ParameterValue, StudyRecords
from hkd import metric_names as names

ABSENT = "-"


@dataclass(frozen=True)
class Table:
    """Rows of text under a header."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def as_text(self) -> str:
        """Columns lined up by spaces, for a terminal."""
        cells = [self.header, *self.rows]
        widths = [max(len(row[column]) for row in cells) for column in range(len(self.header))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells]
        return "\n".join(line.rstrip() for line in lines)

    def as_markdown(self) -> str:
        """A GitHub table."""
        cells = [self.header, ("---",) * len(self.header), *self.rows]
        return "\n".join("| " + " | ".join(_markdown_cell(cell) for cell in row) + " |" for row in cells)


def percent(fraction: float | None) -> str:
    """A miss rate in per cent, without the sign."""
    return ABSENT if fraction is None else f"{100 * fraction:.1f}"


def points(difference: float | None) -> str:
    """A difference of miss rates in percentage points, signed."""
    return ABSENT if difference is None else f"{100 * difference:+.1f}"


def millions(count: float | None) -> str:
    """Parameters in millions, three digits."""
    return ABSENT if count is None else _three_digits(count / 1e6)


def billions(count: float | None) -> str:
    """FLOPs in billions, three digits."""
    return ABSENT if count is None else _three_digits(count / 1e9)


def times(ratio: float | None) -> str:
    """How many times fewer; below 1 the student has more."""
    return ABSENT if ratio is None else f"{ratio:.2g}x" if ratio < 1 else f"{ratio:.1f}x"


def plain(value: ParameterValue) -> str:
    """A setting's value, numbers with at most four digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def short_names(dotted: Sequence[str]) -> dict[str, str]:
    """Dotted names without their section (``pyramid.weight``), where that leaves them apart from all others."""
    rests = {name: name.partition(".")[2] or name for name in dotted}
    uses = Counter(rests.values())
    return {name: rest if uses[rest] == 1 else name for name, rest in rests.items()}


def settings(student: Student) -> tuple[str, ...]:
    """The searched settings of a student as 'name=value'."""
    short = short_names(list(student.settings))
    return tuple(f"{short[name]}={plain(value)}" for name, value in student.settings.items())


def label(student: Student) -> str:
    """The trial's id, with the baseline's name if it is one."""
    if student.baseline is None or student.baseline in student.trial_id:
        return student.trial_id
    return f"{student.trial_id} ({student.baseline} baseline)"


def front_table(analysis: FrontAnalysis, *, with_settings: bool = True) -> Table:
    """The three-objective front by rank, the teacher above it; the settings make it too wide for a terminal."""
    rows = []
    if analysis.teacher:
        teacher = analysis.teacher
        cost = (millions(teacher.num_params), ABSENT, billions(teacher.flops), ABSENT)
        rows.append((ABSENT, "teacher", percent(teacher.mr2_reasonable), ABSENT, *cost, ""))
    for student in analysis.front:
        knee = analysis.params_knee is not None and analysis.params_knee.trial_id == student.trial_id
        rows.append(
            (
                str(student.rank),
                label(student) + (" (knee)" if knee else ""),
                percent(student.mr2_reasonable),
                points(student.gap_to_teacher),
                millions(student.num_params),
                times(student.times_fewer_params),
                billions(student.flops),
                times(student.times_fewer_flops),
                ", ".join(settings(student)),
            )
        )
    header = ("rank", "trial", "miss rate %", "gap", "params M", "fewer", "GFLOPs", "fewer", "searched settings")
    if not with_settings:
        return Table(header[:-1], tuple(row[:-1] for row in rows))
    return Table(header, tuple(rows))


def headline(analysis: FrontAnalysis) -> str:
    """One sentence: which student to ship and what it costs."""
    student, teacher = analysis.student(analysis.recommendation.trial_id), analysis.teacher
    if percent(student.mr2_reasonable) == "100.0":
        return f"There is nothing to ship yet: {label(student)}, which the front suggests, finds hardly a pedestrian."
    sentence = f"Ship {label(student)}: {millions(student.num_params)} M parameters"
    if teacher and student.times_fewer_params is not None:
        sentence += f", {_fewer(student.times_fewer_params)} the teacher's {millions(teacher.num_params)} M,"
    sentence += f" and {billions(student.flops)} GFLOPs an image"
    if student.times_fewer_flops is not None:
        sentence += f" ({_fewer(student.times_fewer_flops)} the teacher's)"
    sentence += f", at a miss rate of {percent(student.mr2_reasonable)} %"
    if teacher and student.gap_to_teacher is not None:
        gap = round(100 * student.gap_to_teacher, 1)
        side = f"{abs(gap):.1f} points {'worse' if gap > 0 else 'better'} than" if gap else "the same as"
        sentence += f", {side} the teacher's {percent(teacher.mr2_reasonable)} %"
    return sentence + "."


def reasons(analysis: FrontAnalysis) -> tuple[str, ...]:
    """Why that student, which others come into question, and what the baselines say of distillation."""
    why = {
        "knee": "It is the knee of the front: to its left miss rate rises faster for what is saved, "
        "to its right more parameters buy less.",
        "only": "It alone makes the front: no other student is better in anything.",
        "lowest miss rate": "The front has no knee, so this is its student of lowest miss rate.",
    }
    sentences = [why[analysis.recommendation.reason]]
    others = {
        "Lowest miss rate": analysis.front[0],
        "Fewest parameters": analysis.params_front[0],
        "Fewest FLOPs": analysis.flops_front[0],
    }
    for what, student in others.items():
        if student.trial_id != analysis.recommendation.trial_id:
            cost = f"{millions(student.num_params)} M, {billions(student.flops)} GFLOPs"
            sentences.append(f"{what}: {label(student)} ({percent(student.mr2_reasonable)} %, {cost}).")
    return tuple(sentences)


def baseline_table(analysis: FrontAnalysis) -> Table:
    """Each baseline beside the best distilled student that has at most its parameters."""
    rows = []
    for comparison in analysis.baselines:
        baseline = analysis.student(comparison.trial_id)
        rival = analysis.student(comparison.best_distilled) if comparison.best_distilled else None
        rows.append(
            (
                comparison.name,
                percent(baseline.mr2_reasonable),
                points(baseline.gap_to_teacher),
                millions(baseline.num_params),
                billions(baseline.flops),
                label(rival) if rival else "none is as small",
                percent(rival.mr2_reasonable) if rival else ABSENT,
                points(comparison.difference),
            )
        )
    best = ("best distilled student no larger", "its miss rate %", "difference")
    return Table(("baseline", "miss rate %", "gap", "params M", "GFLOPs", *best), tuple(rows))


def not_counted_table(records: StudyRecords) -> Table:
    """Every trial that has no place in the front, and why."""
    rows = tuple(
        (
            trial.trial_id,
            trial.status,
            percent(trial.metrics.get(names.MR2_REASONABLE)),
            trial.not_counted_because or "",
        )
        for trial in records.not_counted
    )
    return Table(("trial", "status", "last miss rate %", "why it does not count"), rows)


def counts(analysis: FrontAnalysis) -> str:
    """How the study's trials ended."""
    by_status = analysis.count_by_status
    listed = ", ".join(f"{by_status[status]} {status}" for status in sorted(by_status))
    return f"{sum(by_status.values())} trials and baselines: {listed}"


def trials_table(records: StudyRecords, analysis: FrontAnalysis) -> pd.DataFrame:
    """The table of the records, with each trial's place in the fronts."""
    table = records.table()
    students = {student.run_id: student for student in analysis.students}
    placed = [students.get(run_id) for run_id in table["run_id"]]
    ranks = pd.array([student.rank if student else None for student in placed], dtype="Int64")
    table.insert(1, "front_rank", pd.Series(ranks, index=table.index))
    table.insert(2, "on_params_front", [bool(student and student.on_params_front) for student in placed])
    table.insert(3, "on_flops_front", [bool(student and student.on_flops_front) for student in placed])
    return table


def _fewer(ratio: float) -> str:
    return f"{ratio:.1f}x fewer than" if ratio >= 1 else f"{1 / ratio:.1f}x as many as"


def _three_digits(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:#.3g}"


def _markdown_cell(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
