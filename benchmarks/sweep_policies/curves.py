"""The recorded trainings as a table: one row for each, written to and read from CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hkd.files import write_atomically

CURVES = Path(__file__).with_name("curves.csv")
_MISS_RATE = "mr2_reasonable_epoch_"
_NUMBERS = ("configuration", "seed", "num_params", "flops", "cpu_seconds")


class CurvesError(ValueError):
    """The table cannot be read."""


@dataclass(frozen=True)
class Curve:
    """One training."""

    configuration: int
    """Number of the configuration."""
    seed: int
    params: dict[str, Any]
    """The searched settings by dotted name."""
    num_params: int
    flops: int
    cpu_seconds: float
    """Of the process that trained, one thread: independent of other load on the machine."""
    miss_rates: tuple[float, ...]
    """MR^-2 reasonable on the validation scenes after each epoch, fractions."""


def write_curves(curves: Iterable[Curve], path: Path) -> None:
    """Write the table atomically, sorted by configuration and seed."""
    rows = sorted(curves, key=lambda curve: (curve.configuration, curve.seed))
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    names, epochs = (list(rows[0].params), len(rows[0].miss_rates)) if rows else ([], 0)
    writer.writerow([*_NUMBERS, *names, *(f"{_MISS_RATE}{epoch}" for epoch in range(1, epochs + 1))])
    for row in rows:
        numbers = [row.configuration, row.seed, row.num_params, row.flops, f"{row.cpu_seconds:.2f}"]
        writer.writerow([*numbers, *row.params.values(), *(f"{value:.5f}" for value in row.miss_rates)])
    write_atomically(path, file.getvalue())


def read_curves(path: Path) -> list[Curve]:
    """Read what :func:`write_curves` wrote.

    Raises:
        CurvesError: the file is absent, or a row has other fields.
    """
    try:
        header, *rows = csv.reader(path.read_text(encoding="utf-8").splitlines())
        return [_curve(dict(zip(header, row, strict=True))) for row in rows]
    except (OSError, ValueError, KeyError) as error:
        raise CurvesError(
            f"{path}: cannot be read as a table of curves ({error}); create it with python -m "
            "benchmarks.sweep_policies record"
        ) from error


def _curve(row: dict[str, str]) -> Curve:
    epochs = [name for name in row if name.startswith(_MISS_RATE)]
    settings = [name for name in row if name not in (*_NUMBERS, *epochs)]
    return Curve(
        configuration=int(row["configuration"]),
        seed=int(row["seed"]),
        params={name: _number(row[name]) for name in settings},
        num_params=int(row["num_params"]),
        flops=int(row["flops"]),
        cpu_seconds=float(row["cpu_seconds"]),
        miss_rates=tuple(float(row[name]) for name in epochs),
    )


def _number(text: str) -> int | float:
    return int(text) if text.lstrip("-").isdigit() else float(text)


def by_configuration(curves: Sequence[Curve]) -> dict[int, list[Curve]]:
    """The trainings of each configuration, by its number, in the order of their seeds."""
    found: dict[int, list[Curve]] = {}
    for curve in sorted(curves, key=lambda curve: (curve.configuration, curve.seed)):
        found.setdefault(curve.configuration, []).append(curve)
    return found
