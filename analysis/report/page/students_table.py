"""The page's table of the teacher and all trials, which its scripts sort and filter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from analysis.front import Student
from analysis.objectives import ABSENT, Objective
from analysis.records.study_records import ParameterValue, StudyRecords, TrialRecord
from analysis.report.page.study_data import kind, measures, page_values
from analysis.report.tables import as_ratio, in_points, setting_value, short_names
from analysis.results import StudyResults
from hkd import metric_names as names


@dataclass(frozen=True)
class Heading:
    """One column."""

    text: str
    title: str = ""
    """What the heading stands for, where it is short for something."""
    is_number: bool = False
    is_setting: bool = False


@dataclass(frozen=True)
class Cell:
    """Text, and the number by which its column is sorted."""

    text: str
    number: float | None = None


@dataclass(frozen=True)
class Row:
    """A detector, with the place of its record in the page's data."""

    index: int | None
    """Of the trial; None for the teacher."""
    name: str
    is_counted: bool
    is_on_front: bool
    is_chosen: bool
    cells: tuple[Cell, ...]
    """Of all columns but the first, which has the name."""


@dataclass(frozen=True)
class StudentsTable:
    """The teacher, then counted trials by miss rate, those without a mean after the others, then the others."""

    headings: tuple[Heading, ...]
    rows: tuple[Row, ...]


def students_table(records: StudyRecords, results: StudyResults) -> StudentsTable:
    """Every detector of the study."""
    front, shown = results.front, measures(results.front)
    searched = records.searched_parameters()
    short = short_names(searched)
    # First what is compared: of a wide table, a phone shows the first columns.
    headings = [Heading("trial"), Heading("rank", "place on the front by miss rate", is_number=True)]
    for objective in shown:
        headings.append(Heading(objective.column, objective.axis_label, is_number=True))
        if objective in front.objectives:
            headings.append(_comparison_heading(objective))
        if objective == front.miss_rate and front.basis != "search":
            headings.append(Heading("in the search %", "the miss rate by which the search selected", is_number=True))
        if objective == front.miss_rate and results.confirmation.num_tested:
            headings.append(Heading("on test %", "mean on the test images, which decide nothing", is_number=True))
        if objective == front.miss_rate and results.uncertainty.intervals:
            confidence = f"{100 * results.uncertainty.confidence:.0f} % interval"
            headings.append(Heading(confidence, "of the miss rate, over the validation images"))
            headings.append(Heading("on front %", "share of the resamples in which it is on the front", is_number=True))
    headings += [Heading("kind"), Heading("status")]
    headings += [Heading("epochs", is_number=True), Heading("minutes", "wall-clock", is_number=True)]
    headings += [Heading(short[name], name, _is_number(records, name), is_setting=True) for name in searched]
    rows = [_row(None, records.teacher, None, results, shown, searched)] if records.teacher else []
    index_of = {trial.trial_id: index for index, trial in enumerate(records.trials)}
    by_id = {trial.trial_id: trial for trial in records.trials}
    students = (*front.students, *front.once)
    rows += [_row(index_of[s.trial_id], by_id[s.trial_id], s, results, shown, searched) for s in students]
    rows += [_row(index_of[t.trial_id], t, None, results, shown, searched) for t in records.not_counted]
    return StudentsTable(tuple(headings), tuple(rows))


def _row(
    index: int | None,
    trial: TrialRecord,
    student: Student | None,
    results: StudyResults,
    shown: tuple[Objective, ...],
    searched: tuple[str, ...],
) -> Row:
    front = results.front
    values = page_values(trial, student, front, shown)
    rank = student.rank if student else None
    cells = [Cell(ABSENT if rank is None else str(rank), rank)]
    for objective, value in zip(shown, values, strict=True):
        cells.append(Cell(objective.shown(value), value))
        if objective in front.objectives:
            cells.append(_comparison(objective, None if value is None else student))
        if objective == front.miss_rate and front.basis != "search":
            own = trial.metrics.get(objective.name)
            cells.append(Cell(objective.shown(own), own))
        if objective == front.miss_rate and results.confirmation.num_tested:
            on_test = _on_test(trial, results)
            cells.append(Cell(objective.shown(on_test), on_test))
        if objective == front.miss_rate and results.uncertainty.intervals:
            cells += _certainty(trial, results)
    minutes = None if trial.duration_seconds is None else trial.duration_seconds / 60
    cells += [
        Cell(kind(trial)),
        Cell(trial.status if student or index is None else f"{trial.status}: {trial.not_counted_because}"),
        Cell(ABSENT if trial.epoch is None else str(trial.epoch), trial.epoch),
        Cell(ABSENT if minutes is None else f"{minutes:.1f}", minutes),
    ]
    cells += [_setting_cell(trial.params, name) for name in searched]
    return Row(
        index=index,
        name=trial.trial_id,
        is_counted=student is not None,
        is_on_front=rank is not None,
        is_chosen=student is not None and student.trial_id == results.recommendation.trial_id,
        cells=tuple(cells),
    )


def _on_test(trial: TrialRecord, results: StudyResults) -> float | None:
    if trial.role == names.ROLE_TEACHER:
        return results.confirmation.teacher_on_test
    again = results.confirmation.of(trial.trial_id)
    return again.test_mean if again else None


def _certainty(trial: TrialRecord, results: StudyResults) -> tuple[Cell, Cell]:
    uncertainty = results.uncertainty
    interval = uncertainty.intervals.get(trial.trial_id, {}).get(results.front.miss_rate.name)
    share = uncertainty.front_probability.get(trial.trial_id)
    text = ABSENT
    if interval is not None and interval.low is not None and interval.high is not None:
        text = f"{100 * interval.low:.1f} to {100 * interval.high:.1f}"
    return Cell(text), Cell(ABSENT if share is None else f"{100 * share:.0f}", share)


def _comparison_heading(objective: Objective) -> Heading:
    if objective.is_cost:
        return Heading("fewer", f"the teacher's {objective.noun} divided by the student's", is_number=True)
    return Heading("gap", f"{objective.noun}: percentage points above the teacher", is_number=True)


def _comparison(objective: Objective, student: Student | None) -> Cell:
    if student is None:
        return Cell(ABSENT)
    if objective.is_cost:
        ratio = student.times_fewer.get(objective.name)
        return Cell(as_ratio(ratio), ratio)
    gap = student.gaps.get(objective.name)
    return Cell(in_points(gap), gap)


def _is_number(records: StudyRecords, name: str) -> bool:
    values = [trial.params.get(name) for trial in records.trials]
    return all(value is None or (isinstance(value, int | float) and not isinstance(value, bool)) for value in values)


def _setting_cell(params: Mapping[str, ParameterValue], name: str) -> Cell:
    if name not in params:
        return Cell(ABSENT)
    value = params[name]
    return Cell(setting_value(value), value if isinstance(value, int | float) and not isinstance(value, bool) else None)
