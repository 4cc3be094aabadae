"""What a study minimises: miss rates and costs, with the words and units in which reports show them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hkd import metric_names as names

ABSENT = "-"


@dataclass(frozen=True)
class Objective:
    """A metric that is minimised."""

    name: str
    """Of the metric in MLflow."""
    key: str
    """Part of file names, CSV columns and JSON keys."""
    noun: str
    column: str
    """Header of a table's column, with the unit."""
    axis_label: str
    unit: float
    """One shown unit in the metric's own unit: 0.01 for a fraction in per cent."""
    unit_symbol: str
    phrase_unit: str
    """The unit in a sentence, after a cost's number."""
    is_cost: bool
    subset: str = ""
    """Of the pedestrians, for a miss rate."""
    is_counted: bool = True
    """Whether a cost is a number of things, of which there are fewer or more, instead of a time."""

    def in_unit(self, value: float) -> float:
        """The value as a number of shown units."""
        # Not divided by 0.01: its rounding error would add to that of the division.
        return value / self.unit if self.is_cost else 100 * value

    def shown(self, value: float | None) -> str:
        """The value without its unit: miss rates to 0.1 %, costs to three digits."""
        if value is None:
            return ABSENT
        number = self.in_unit(value)
        if not self.is_cost:
            return f"{number:.1f}"
        return f"{number:.0f}" if number >= 100 else f"{number:#.3g}"

    def compared(self, times_fewer: float) -> str:
        """How a cost compares, before what it is compared with: '3.0x fewer than', '1.2x as slow as'."""
        if times_fewer >= 1:
            return f"{times_fewer:.1f}x {'fewer' if self.is_counted else 'faster'} than"
        return f"{1 / times_fewer:.1f}x as {'many' if self.is_counted else 'slow'} as"

    def in_sentence(self, value: float) -> str:
        """The value with its unit and what it counts: '1.00 M parameters', 'miss rate of 30.0 %'."""
        return f"{self.shown(value)} {self.phrase_unit}" if self.is_cost else f"{self.noun} of {self.shown(value)} %"


def _miss_rate(name: str, noun: str) -> Objective:
    subset = name.removeprefix(names.MR2_PREFIX)
    return Objective(
        name=name,
        key=name,
        noun=noun,
        column=f"{noun} %",
        axis_label=f"log-average miss rate, {subset}, %  (lower is better)",
        unit=0.01,
        unit_symbol="%",
        phrase_unit="%",
        is_cost=False,
        subset=subset,
    )


OBJECTIVES = {
    objective.name: objective
    for objective in (
        _miss_rate(names.MR2_REASONABLE, "miss rate"),
        _miss_rate(names.MR2_SMALL, "miss rate (small)"),
        _miss_rate(names.MR2_HEAVY, "miss rate (heavy)"),
        _miss_rate(names.MR2_ALL, "miss rate (all)"),
        Objective(
            name=names.NUM_PARAMS,
            key="params",
            noun="parameters",
            column="params M",
            axis_label="parameters of the deployed student, millions (log scale)",
            unit=1e6,
            unit_symbol="M",
            phrase_unit="M parameters",
            is_cost=True,
        ),
        Objective(
            name=names.FLOPS,
            key=names.FLOPS,
            noun="FLOPs",
            column="GFLOPs",
            axis_label="GFLOPs for one image (log scale; 2 per multiply-add)",
            unit=1e9,
            unit_symbol="GFLOPs",
            phrase_unit="GFLOPs an image",
            is_cost=True,
        ),
        Objective(
            name=names.GMACS,
            key=names.GMACS,
            noun="multiply-adds",
            column="GMACs",
            axis_label="GMACs for one image (log scale; billions of multiply-adds)",
            unit=1.0,
            unit_symbol="GMACs",
            phrase_unit="GMACs an image",
            is_cost=True,
        ),
        Objective(
            name=names.LATENCY_MS,
            key="latency",
            noun="latency",
            column="latency ms",
            axis_label="latency of one image, milliseconds (log scale)",
            unit=1.0,
            unit_symbol="ms",
            phrase_unit="ms an image",
            is_cost=True,
            is_counted=False,
        ),
    )
}
"""By metric name."""
DEFAULT_OBJECTIVES = tuple(OBJECTIVES[name] for name in names.DEFAULT_OBJECTIVES)


@dataclass(frozen=True)
class RecordedObjectives:
    """The objectives by which a study is reported."""

    objectives: tuple[Objective, ...]
    """Miss rates, then costs, each in the study's order."""
    note: str | None
    """How they differ from the study's record; None if they are equal."""


def parse_objectives(recorded: str | None) -> RecordedObjectives:
    """Read the parameter ``objectives`` of a study's parent run, None where the run or the parameter is missing.

    Unknown objectives are ignored; without a known miss rate, the default objectives are used.
    """
    default = ", ".join(objective.name for objective in DEFAULT_OBJECTIVES)
    if recorded is None:
        note = f"MLflow has no record of the study's objectives; the report uses the default ones: {default}."
        return RecordedObjectives(DEFAULT_OBJECTIVES, note)
    listed = list(dict.fromkeys(name.strip() for name in recorded.split(",")))
    known = [OBJECTIVES[name] for name in listed if name in OBJECTIVES]
    ordered = (*miss_rates(known), *costs(known))
    if not miss_rates(known):
        note = (
            f"The study's objectives ({recorded}) have no known miss rate; the report uses the default ones: {default}."
        )
        return RecordedObjectives(DEFAULT_OBJECTIVES, note)
    unknown = [name for name in listed if name not in OBJECTIVES]
    return RecordedObjectives(
        ordered, f"Unknown objectives of the study are not reported: {', '.join(unknown)}." if unknown else None
    )


def miss_rates(objectives: Sequence[Objective]) -> tuple[Objective, ...]:
    """Those that a training measures."""
    return tuple(objective for objective in objectives if not objective.is_cost)


def costs(objectives: Sequence[Objective]) -> tuple[Objective, ...]:
    """Those that are exact before training."""
    return tuple(objective for objective in objectives if objective.is_cost)


def listed_nouns(objectives: Sequence[Objective]) -> str:
    """The objectives in a sentence: 'miss rate, parameters and FLOPs'."""
    *first, last = [objective.noun for objective in objectives]
    return f"{', '.join(first)} and {last}" if first else last
