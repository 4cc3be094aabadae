"""Which trainings are finished and which are missing, and how long the missing ones are expected to take."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.distillation_gain.conditions import Condition
from benchmarks.distillation_gain.results import Result, Table


@dataclass(frozen=True)
class Expectation:
    """Seconds of trainings, from those that are finished."""

    seconds_per_step: Mapping[tuple[str, str], float]
    """By student and row."""
    evaluation_seconds: float

    @classmethod
    def of(cls, table: Table) -> Expectation:
        """Means of the finished trainings."""
        seconds: dict[tuple[str, str], list[float]] = {}
        evaluations = []
        for cell in table.cells.values():
            for result in cell.results.values():
                seconds.setdefault((cell.student, cell.row), []).append(result.seconds / result.trained_steps)
                evaluations.append(result.evaluation_seconds)
        means = {key: statistics.fmean(values) for key, values in seconds.items()}
        return cls(means, statistics.fmean(evaluations) if evaluations else 0.0)

    def seconds(self, condition: Condition) -> float | None:
        """Of one training: by its student and row, else by the mean of its row, else of all; None if none is known."""
        rates = self.seconds_per_step
        rate = rates.get((condition.student, condition.row))
        if rate is None:
            similar = [value for (_, row), value in rates.items() if row == condition.row] or list(rates.values())
            if not similar:
                return None
            rate = statistics.fmean(similar)
        return rate * condition.steps + self.evaluation_seconds


def listing(conditions: Sequence[Condition], table: Table, workers: int) -> str:
    """A line for each condition without its seed: seeds that are finished and missing, and the expected hours."""
    expectation = Expectation.of(table)
    grouped: dict[tuple[str, str, str | None, int, int], list[Condition]] = {}
    for c in conditions:
        grouped.setdefault((c.student, c.row, c.teacher, c.steps, c.labels), []).append(c)
    lines, missing_total, seconds_total, is_known = [], 0, 0.0, True
    for key, members in grouped.items():
        finished: Mapping[int, Result] = table.cells[key].results if key in table.cells else {}
        missing = [c for c in members if c.seed not in finished]
        expected = [expectation.seconds(c) for c in missing]
        known = [seconds for seconds in expected if seconds is not None]
        is_known = is_known and len(known) == len(expected)
        missing_total += len(missing)
        seconds_total += sum(known)
        student, row, teacher, steps, labels = key
        name = f"{student:4} {row:18} {teacher or '-':8} {steps:6,} steps {labels:5,} labels"
        hours = f", {sum(known) / 3600:.2f} h" if known else ""
        lines.append(f"{name}  finished: {_seeds(finished)}; missing: {_seeds(c.seed for c in missing)}{hours}")
    hours = f"{seconds_total / 3600:.1f} h, {seconds_total / 3600 / workers:.1f} h with {workers} at once"
    expected_total = hours if is_known else "of unknown duration: none of their kind is finished"
    lines.append(f"{len(conditions) - missing_total} finished, {missing_total} missing: {expected_total}")
    return "\n".join(lines)


def _seeds(seeds: Iterable[int]) -> str:
    shown = " ".join(map(str, seeds))
    return shown or "none"
