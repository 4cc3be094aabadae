"""The Markdown table of one set of photographs."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from benchmarks.photographs.rows import ALONE, DESCRIPTIONS, PRETRAINED, REFERENCES, TEACHER
from benchmarks.photographs.statistics import RowResult
from hkd.config import TrialConfig
from hkd.models.cost import Cost


def table(name: str, num_photographs: int, results: Mapping[str, RowResult], costs: Mapping[str, Cost]) -> str:
    """Miss rates of all rows in per cent, and their differences in points, as Markdown.

    Args:
        name: Of the set of photographs.
        num_photographs: Its size.
        results: By row, in the table's order.
        costs: By row.
    """
    references = [row for row in REFERENCES if row in results]
    columns = [
        f"{num_photographs} {name} photographs",
        "parameters",
        *(["fewer than the teacher"] if TEACHER in costs else []),
        "MR^-2, %: mean ± SD of seeds",
        "95 % interval of the mean",
        "AP, %",
        *(f"minus {_SHORT_NAMES[row]}, points" for row in references),
    ]
    lines = [_line(columns), _line(["---"] * len(columns))]
    for row, result in results.items():
        cells = [DESCRIPTIONS[row], f"{costs[row].num_params / 1e6:.2f} M"]
        if TEACHER in costs:
            cells.append("" if row == TEACHER else f"{costs[TEACHER].num_params / costs[row].num_params:.1f}x")
        cells += [_spread(result), _interval(result.interval.low, result.interval.high)]
        cells.append(f"{100 * result.average_precision:.1f}")
        cells += ["" if row == other else _difference(result, other) for other in references]
        lines.append(_line(cells))
    return "\n".join(lines)


def caption(config: TrialConfig) -> str:
    """What the tables show, and what the spread over seeds leaves out."""
    differences = (
        "A difference is that of the same seeds: mean ± standard deviation, 95 % interval over photographs (bootstrap, "
        "of the mean over these seeds), each seed."
    )
    parts = [differences]
    images = config.student.reconstruction_images
    if images:
        parts.append(
            "First weights selected from the teacher are fitted to its layers' outputs as well "
            f"(`student.reconstruction_images`: {images})."
        )
    if config.teacher is not None and config.teacher.init_from_synthetic is not None:
        parts.append(
            "All seeds share one pretraining on generated scenes (per architecture), whose spread is therefore no part "
            "of these."
        )
    return " ".join(parts)


_SHORT_NAMES = {TEACHER: "teacher", ALONE: "alone", PRETRAINED: "alone, pretrained"}


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _spread(result: RowResult) -> str:
    """Mean, standard deviation and the single values, in per cent."""
    return f"{_mean(result.miss_rates)}{_each(result.miss_rates)}"


def _difference(result: RowResult, other: str) -> str:
    """Mean and standard deviation of the paired differences, the interval over photographs, and each seed."""
    comparison, by_seed = result.differences[other], result.differences_by_seed[other]
    if comparison.difference is None:
        return "no value"
    return f"{_mean(by_seed, '+')} {_interval(comparison.low, comparison.high, '+')}{_each(by_seed, '+')}"


def _mean(values: Sequence[float], sign: str = "") -> str:
    deviation = f" ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * statistics.fmean(values):{sign}z.1f}{deviation}"


def _each(values: Sequence[float], sign: str = "") -> str:
    return f" ({', '.join(f'{100 * value:{sign}z.1f}' for value in values)})" if len(values) > 1 else ""


def _interval(low: float | None, high: float | None, sign: str = "") -> str:
    if low is None or high is None:
        return "no value"
    return f"[{100 * low:{sign}.1f}, {100 * high:{sign}.1f}]"
