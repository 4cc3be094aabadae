"""Limits on the student to ship, as a user states them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Final

from analysis.objectives import OBJECTIVES, Objective
from hkd import metric_names as names
from hkd.text.escaping import printable

_LONGEST_SHOWN = 40
_WITH_UNIT = re.compile(r"\s*([-+]?[0-9.]+(?:[eE][-+]?[0-9]+)?)\s*([A-Za-z%]+)\s*", re.ASCII)


class BudgetError(ValueError):
    """Budgets that cannot be applied; the message names each with what is allowed."""


@dataclass(frozen=True)
class Budgets:
    """The most that a student may cost and miss; None: no limit. Units are those of the command line."""

    max_params: float | None = None
    max_gflops: float | None = None
    max_latency_ms: float | None = None
    max_miss_rate: float | None = None
    """A fraction, of the first miss rate of the objectives."""

    @property
    def is_empty(self) -> bool:
        """Whether there is no limit."""
        return self == NO_BUDGETS

    def limits(self, miss_rate: Objective) -> dict[Objective, float]:
        """The limits by what they limit, in the metric's own unit; the miss rate last."""
        gflops = None if self.max_gflops is None else 1e9 * self.max_gflops
        limits = {
            OBJECTIVES[names.NUM_PARAMS]: self.max_params,
            OBJECTIVES[names.FLOPS]: gflops,
            OBJECTIVES[names.LATENCY_MS]: self.max_latency_ms,
            miss_rate: self.max_miss_rate,
        }
        return {objective: limit for objective, limit in limits.items() if limit is not None}


NO_BUDGETS: Final = Budgets()


def parse_budgets(texts: Mapping[str, str | None]) -> Budgets:
    """Budgets from the texts of a command line, by field name; None: not given.

    Raises:
        BudgetError: naming every option that is no positive number, or no fraction for the miss rate.
    """
    values: dict[str, float] = {}
    problems: list[str] = []
    for field in fields(Budgets):
        text = texts.get(field.name)
        if text is None:
            continue
        try:
            values[field.name] = _positive(text)
            if field.name == "max_miss_rate" and values[field.name] > 1:
                raise ValueError("a fraction, at most 1" + _as_fraction(values[field.name]))
        except ValueError as error:
            option = f"--{field.name.replace('_', '-')}"
            problems.append(f"{option}: found {printable(repr(text[:_LONGEST_SHOWN]))}; allowed: {error}")
    if problems:
        raise BudgetError("\n".join(problems))
    return Budgets(**values)


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"a number above 0{_without_unit(text)}") from None
    if not (math.isfinite(value) and value > 0):
        raise ValueError("a finite number above 0")
    return value


def _without_unit(text: str) -> str:
    """What to write instead of a number with a unit."""
    match = _WITH_UNIT.fullmatch(text)
    if match is None:
        return ", such as 0.2, 30 or 7e6"
    number, unit = match.groups()
    if unit == "%":
        try:
            return _as_fraction(float(number))
        except ValueError:
            return ""
    powers = {"k": "e3", "K": "e3", "M": "e6", "m": "e6", "G": "e9", "g": "e9"}
    return f" without a unit: {number}{powers.get(unit, '') if 'e' not in number.lower() else ''}"


def _as_fraction(percent: float) -> str:
    return f": for {percent:g} % write {percent / 100:g}" if 0 < percent <= 100 else ""
