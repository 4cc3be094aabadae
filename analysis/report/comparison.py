"""Several studies in one report: tables, sentences, Markdown and JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from analysis.objectives import ABSENT, listed_nouns
from analysis.report.cells import markdown_cell
from analysis.report.tables import Column, Table, make_table
from analysis.studies import Coverage, PairComparison, Segment, StudiesComparison, StudyFront
from hkd.text.escaping import printable

COMPARISON_SCHEMA_VERSION = 1


def files(comparison: StudiesComparison, pictures: Mapping[str, bytes]) -> Iterator[tuple[str, str | bytes]]:
    """Name and content of each file, one after the other.

    Args:
        pictures: The fronts, by file name.
    """
    yield "comparison.md", markdown(comparison) + "\n"
    yield "comparison.json", json.dumps(as_json(comparison), indent=2, allow_nan=False) + "\n"
    yield from pictures.items()


def text(comparison: StudiesComparison) -> str:
    """For a terminal."""
    parts = [printable(f"Note: {note}") for note in comparison.notes]
    parts += ["", studies_table(comparison).as_text()]
    for pair in comparison.pairs:
        parts += ["", f"Who has the lower {pair.miss_rate.noun} at which {pair.cost.noun}:"]
        parts += [segments_table(comparison, pair).as_text()]
    return "\n".join([*parts, "", *map(printable, sentences(comparison))])


def markdown(comparison: StudiesComparison) -> str:
    """For a pull request."""
    parts = [*map(markdown_cell, sentences(comparison)), studies_table(comparison).as_markdown()]
    for pair in comparison.pairs:
        parts += [markdown_cell(f"Who has the lower {pair.miss_rate.noun} at which {pair.cost.noun}:")]
        parts += [segments_table(comparison, pair).as_markdown()]
    return "\n\n".join([*parts, *map(markdown_cell, comparison.notes)])


def sentences(comparison: StudiesComparison) -> tuple[str, ...]:
    """Which study reaches furthest, and how certain that is."""
    largest = max(each.hypervolumes[-1].value for each in comparison.studies)
    best, *equal = [each for each in comparison.studies if each.hypervolumes[-1].value == largest]
    holders = ", ".join(each.study for each in (best, *equal))
    have = "equally have" if equal else "has"
    said = f"{holders} {have} the largest hypervolume in {listed_nouns(comparison.objectives)}: {largest:.4f}"
    smaller = [each for each in comparison.studies if each.hypervolumes[-1].value < largest]
    others = [f"{each.study} {each.hypervolumes[-1].value:.4f}" for each in smaller]
    found = [f"{said} (others: {', '.join(others)})." if others else f"{said}."]
    if best.hypervolume_probability is not None and not equal:
        of_pair = listed_nouns((comparison.objectives[0], comparison.pairs[0].cost))
        found.append(
            f"In {of_pair}, it has the largest in {100 * best.hypervolume_probability:.0f} % of the resamples of the "
            "validation images."
        )
    found += [
        f"{each.study} equals or dominates every student on the front of {each.of}."
        for each in comparison.coverage
        if each.share == 1
    ]
    return tuple(found)


def studies_table(comparison: StudiesComparison) -> Table:
    """A row for each study."""
    columns: list[Column[StudyFront]] = [
        Column("study", lambda each: each.study),
        Column("students", lambda each: str(len(each.front.students)), is_number=True),
        Column("on its front", lambda each: str(len(each.front.members)), is_number=True),
        Column("on the joint front", lambda each: str(len(each.joint_members)), is_number=True),
    ]
    for index, volume in enumerate(comparison.studies[0].hypervolumes):
        nouns = ", ".join(objective.noun for objective in volume.objectives)
        columns.append(_volume_column(f"hypervolume ({nouns})", index))
    columns.append(Column("largest in resamples", lambda each: _percent(each.hypervolume_probability), is_number=True))
    return make_table(columns, comparison.studies)


def coverage_table(comparison: StudiesComparison) -> Table:
    """A row for each ordered pair of studies."""
    columns: list[Column[Coverage]] = [
        Column("study", lambda each: each.study),
        Column("reaches of the front of", lambda each: each.of),
        Column("share", lambda each: _percent(each.share), is_number=True),
    ]
    return make_table(columns, comparison.coverage)


def segments_table(comparison: StudiesComparison, pair: PairComparison) -> Table:
    """A row for each range of costs."""
    columns: list[Column[Segment]] = [
        Column(
            pair.cost.column,
            lambda each: f"{pair.cost.shown(each.low)} to {'...' if each.high is None else pair.cost.shown(each.high)}",
        )
    ]
    for index, study in enumerate(comparison.studies):
        columns.append(_rate_column(pair, index, study.study))
    columns += [
        Column("lowest", lambda each: each.best or "equal"),
        Column("in resamples", lambda each: _percent(each.probability), is_number=True),
    ]
    return make_table(columns, pair.segments)


def as_json(comparison: StudiesComparison) -> dict[str, Any]:
    """Plain values for ``comparison.json``."""
    return {
        "schema_version": COMPARISON_SCHEMA_VERSION,
        "objectives": [objective.name for objective in comparison.objectives],
        "reference_point": {
            objective.name: value
            for objective, value in zip(comparison.objectives, comparison.reference_point, strict=True)
        },
        "studies": [
            {
                "study": each.study,
                "front": [student.trial_id for student in each.front.members],
                "joint_front": list(each.joint_members),
                "hypervolumes": [
                    {"objectives": [objective.name for objective in volume.objectives], "value": volume.value}
                    for volume in each.hypervolumes
                ],
                "hypervolume_probability": each.hypervolume_probability,
            }
            for each in comparison.studies
        ],
        "coverage": [asdict(each) for each in comparison.coverage],
        "pairs": [
            {
                "miss_rate": pair.miss_rate.name,
                "cost": pair.cost.name,
                "segments": [asdict(segment) for segment in pair.segments],
            }
            for pair in comparison.pairs
        ],
        "notes": list(comparison.notes),
    }


def _volume_column(header: str, index: int) -> Column[StudyFront]:
    return Column(header, lambda each: f"{each.hypervolumes[index].value:.4f}", is_number=True)


def _rate_column(pair: PairComparison, index: int, study: str) -> Column[Segment]:
    return Column(f"{study} %", lambda each: pair.miss_rate.shown(each.miss_rates[index]), is_number=True)


def _percent(share: float | None) -> str:
    return ABSENT if share is None else f"{100 * share:.0f} %"
