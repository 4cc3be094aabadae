"""Exported files and what was measured of them, as a table."""

from __future__ import annotations

from analysis.objectives import ABSENT
from analysis.report.tables import Column, Table, make_table
from analysis.results import StudyResults
from analysis.variants import Variant


def variants_table(results: StudyResults) -> Table | None:
    """Exported files, fastest first; None without any."""
    columns: list[Column[Variant]] = [
        Column("trial", lambda each: each.trial_id),
        Column("precision", lambda each: each.precision),
        Column("runtime", lambda each: each.runtime),
        Column("miss rate %", _miss_rate, is_number=True),
        Column("latency ms", lambda each: f"{each.latency_ms:.2f}", is_number=True),
        Column("file MB", _megabytes, is_number=True),
        Column("on the front", lambda each: "yes" if each.is_on_front else "no"),
        Column("file", lambda each: each.file),
        Column("device", lambda each: each.device),
    ]
    return make_table(columns, results.variants) if results.variants else None


def _miss_rate(each: Variant) -> str:
    return ABSENT if each.miss_rate is None else f"{100 * each.miss_rate:.1f}"


def _megabytes(each: Variant) -> str:
    return ABSENT if each.num_bytes is None else f"{each.num_bytes / 1e6:.2f}"
