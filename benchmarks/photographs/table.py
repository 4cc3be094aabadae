"""The Markdown table of one set of photographs."""

from __future__ import annotations

import statistics
from collections.abc import Mapping

from benchmarks.photographs.rows import DESCRIPTIONS, PRETRAINED, TEACHER
from benchmarks.photographs.statistics import RowResult
from hkd.evaluation.bootstrap import MissRateComparison
from hkd.models.cost import Cost


def table(name: str, num_photographs: int, results: Mapping[str, RowResult], costs: Mapping[str, Cost]) -> str:
    """Miss rates of all rows in per cent, and their differences in points, as Markdown.

    Args:
        name: Of the set of photographs.
        num_photographs: Its size.
        results: By row, in the table's order.
        costs: By row.
    """
    references = [row for row in (TEACHER, PRETRAINED) if row in results]
    columns = [
        f"{num_photographs} {name} photographs",
        "parameters",
        *(["fewer than the teacher"] if TEACHER in costs else []),
        "MR^-2, %: mean ± SD of seeds",
        "95 % interval of the mean",
        "AP, %",
        *(f"minus {_REFERENCES[row]}, points" for row in references),
    ]
    lines = [_line(columns), _line(["---"] * len(columns))]
    for row, result in results.items():
        cells = [DESCRIPTIONS[row], f"{costs[row].num_params / 1e6:.2f} M"]
        if TEACHER in costs:
            cells.append("" if row == TEACHER else f"{costs[TEACHER].num_params / costs[row].num_params:.1f}x")
        cells += [_spread(result), _interval(result.interval.low, result.interval.high)]
        cells.append(f"{100 * result.average_precision:.1f}")
        cells += ["" if row == other else _difference(result.differences[other]) for other in references]
        lines.append(_line(cells))
    return "\n".join(lines)


_REFERENCES = {TEACHER: "teacher", PRETRAINED: "alone, pretrained"}


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _spread(result: RowResult) -> str:
    """Mean, standard deviation and the single values, in per cent."""
    values = [100 * value for value in result.miss_rates]
    if len(values) == 1:
        return f"{values[0]:.1f}"
    single = ", ".join(f"{value:.1f}" for value in values)
    return f"{100 * result.mean:.1f} ± {statistics.stdev(values):.1f} ({single})"


def _difference(comparison: MissRateComparison) -> str:
    if comparison.difference is None:
        return "no value"
    return f"{100 * comparison.difference:+.1f} {_interval(comparison.low, comparison.high, '+')}"


def _interval(low: float | None, high: float | None, sign: str = "") -> str:
    if low is None or high is None:
        return "no value"
    return f"[{100 * low:{sign}.1f}, {100 * high:{sign}.1f}]"
