"""How metrics are shown to people: in per cent, millions and billions, with their units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hkd import metric_names as names


@dataclass(frozen=True)
class _Format:
    heading: str
    """Of a table's column, with the unit."""
    phrase: str
    """In a line of text; ``{}`` is the number."""
    scale: float
    """From the metric to the unit."""
    digits: int


def _miss_rate(metric: str) -> _Format:
    name = f"MR^-2 {metric.removeprefix(names.MR2_PREFIX)}"
    return _Format(f"{name} (%)", f"{name} {{}} %", 100.0, 1)


_FORMATS: dict[str, _Format] = {
    **{metric: _miss_rate(metric) for metric in names.MISS_RATES},
    names.NUM_PARAMS: _Format("parameters (M)", "{} M parameters", 1e-6, 2),
    names.FLOPS: _Format("GFLOPs", "{} GFLOPs", 1e-9, 2),
    names.GMACS: _Format("GMACs", "{} GMACs", 1.0, 2),
    names.LATENCY_MS: _Format("latency (ms)", "{} ms", 1.0, 2),
}


def heading(metric: str) -> str:
    """The heading of a metric's column."""
    return _FORMATS[metric].heading


def cell(metric: str, metrics: Mapping[str, float]) -> str:
    """A metric's value in the unit of its heading; ``-`` where it is missing."""
    form = _FORMATS[metric]
    return f"{metrics[metric] * form.scale:.{form.digits}f}" if metric in metrics else "-"


def phrases(wanted: Sequence[str], metrics: Mapping[str, float]) -> str:
    """The values of the wanted metrics, with units, separated by commas; without those that have no value."""
    return ", ".join(_FORMATS[metric].phrase.format(cell(metric, metrics)) for metric in wanted if metric in metrics)
