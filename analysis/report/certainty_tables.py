"""How certain miss rates are, as tables."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.certainty.confirmation import Repeated
from analysis.certainty.uncertainty import Difference
from analysis.objectives import ABSENT
from analysis.report.tables import Column, Table, in_points, label, make_table
from analysis.results import StudyResults
from hkd import metric_names as names


def difference_tables(results: StudyResults) -> tuple[tuple[str, Table], ...]:
    """Caption and table of each kind of comparison that has any."""
    uncertainty = results.uncertainty
    front = "front" if results.front is results.searched else "front of the search"
    kinds = (
        (f"Each student of the {front} and the next costlier one", uncertainty.neighbours),
        ("Undistilled students and the distilled ones of the same costs", uncertainty.against_undistilled),
        (f"The teacher and each student of the {front}", uncertainty.against_teacher),
    )
    return tuple((caption, _differences(results, of_kind)) for caption, of_kind in kinds if of_kind)


def repeated_table(results: StudyResults) -> Table | None:
    """Students that were trained again with other seeds; None without any."""
    repeated, of_teacher = results.confirmation.repeated, results.confirmation.teacher_on_test

    def to_teacher(each: Repeated) -> str:
        return in_points(each.test_gap(of_teacher))

    columns: list[Column[Repeated]] = [
        Column("trial", lambda each: _name(results, each.trial_id)),
        Column("seeds", lambda each: str(each.num_seeds), is_number=True),
        Column("in the search %", lambda each: f"{100 * each.searched:.1f}", is_number=True),
        Column("again: mean %", lambda each: f"{100 * each.mean:.1f}{_spread(each.spread)}", is_number=True),
        Column("optimism", lambda each: in_points(each.optimism), is_number=True),
        Column("on test images %", _test, is_number=True),
        Column("test minus search", lambda each: in_points(each.test_minus_validation), is_number=True),
        *([Column("test minus teacher", to_teacher, is_number=True)] if of_teacher is not None else []),
        Column("on their front", lambda each: "yes" if each.is_on_front else "no"),
    ]
    return make_table(columns, repeated) if repeated else None


def _differences(results: StudyResults, differences: Sequence[Difference]) -> Table:
    columns: list[Column[Difference]] = [
        Column("first", lambda each: _name(results, each.first)),
        Column("second", lambda each: _name(results, each.second)),
        Column("second minus first", lambda each: in_points(each.value), is_number=True),
        Column(f"{100 * results.uncertainty.confidence:.0f} % interval", _interval),
        Column("can be distinguished", lambda each: "yes" if each.is_distinguishable else "no"),
        Column("second better %", _probability, is_number=True),
    ]
    return make_table(columns, differences)


def _name(results: StudyResults, trial_id: str) -> str:
    return trial_id if trial_id == names.TEACHER_TRIAL_ID else label(results.searched.student(trial_id))


def _interval(each: Difference) -> str:
    return ABSENT if each.low is None else f"{in_points(each.low)} to {in_points(each.high)}"


def _probability(each: Difference) -> str:
    share = each.probability_second_better
    return ABSENT if share is None else f"{100 * share:.0f}"


def _spread(spread: float | None) -> str:
    return "" if spread is None else f" \N{PLUS-MINUS SIGN} {100 * spread:.1f}"


def _test(each: Repeated) -> str:
    return ABSENT if each.test_mean is None else f"{100 * each.test_mean:.1f}{_spread(each.test_spread)}"
