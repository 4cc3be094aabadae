"""Results of finished trainings, one file each, and what is computed from them: means, spreads and differences."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from benchmarks.distillation_gain.conditions import ALONE, Condition
from hkd.files import read_record, write_json
from hkd.metric_names import MR2_REASONABLE

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Result:
    """What one training measured on the validation scenes."""

    condition: dict[str, Any]
    """The condition's fields; of a teacher, ``teacher`` alone."""
    settings: dict[str, Any]
    """The settings that the condition states, by dotted name."""
    metrics: dict[str, float]
    """``mr2_<subset>``, ``ap`` and ``ap50``, fractions."""
    resampled_mr2_reasonable: list[float | None]
    """MR^-2 reasonable on bootstrap resamples of the validation images, the same resamples for all results; None where
    no pedestrian of a resample counts."""
    num_params: int
    flops: int
    trained_steps: int
    """Those of whole epochs, as near to the condition's as possible; 0 of an evaluation."""
    seconds: float
    """Of the training's epochs, its evaluation excluded; 0 of an evaluation."""
    evaluation_seconds: float
    """Of its evaluation and the resamples."""
    last_epoch: dict[str, float] = field(default_factory=dict)
    """Mean losses and gradient ratios of the last epoch."""

    @property
    def miss_rate(self) -> float:
        """MR^-2 reasonable, a fraction."""
        return self.metrics[MR2_REASONABLE]

    def write(self, path: Path) -> None:
        """Write it as JSON."""
        write_json(path, self)

    @classmethod
    def read(cls, path: Path) -> Result | None:
        """Read what :meth:`write` wrote; None if there is no file."""
        if not path.is_file():
            return None
        return cls(**read_record(path))


@dataclass(frozen=True)
class Spread:
    """Values of several seeds."""

    by_seed: Mapping[int, float]

    @property
    def mean(self) -> float:
        """Their mean."""
        return statistics.fmean(self.by_seed.values())

    @property
    def deviation(self) -> float | None:
        """Their sample standard deviation; None for one seed."""
        return statistics.stdev(self.by_seed.values()) if len(self.by_seed) > 1 else None

    def interval(self, confidence: float = CONFIDENCE) -> tuple[float, float] | None:
        """Student's t interval of the mean over seeds; None for one seed."""
        deviation, count = self.deviation, len(self.by_seed)
        if deviation is None:
            return None
        half = float(stats.t.ppf((1 + confidence) / 2, count - 1)) * deviation / count**0.5
        return self.mean - half, self.mean + half


@dataclass(frozen=True)
class Difference:
    """MR^-2 reasonable of a row minus that of another with the same seeds, fractions."""

    over_seeds: Spread
    image_interval: tuple[float, float]
    """Bootstrap interval, over validation images, of the difference's mean over these seeds."""


@dataclass(frozen=True)
class Cell:
    """Results of one row for one student, teacher, number of steps and of labels."""

    student: str
    row: str
    teacher: str | None
    steps: int
    labels: int
    results: Mapping[int, Result]
    """By seed."""

    def metric(self, name: str) -> Spread:
        """A metric over the seeds that have a value."""
        return Spread({seed: r.metrics[name] for seed, r in self.results.items() if name in r.metrics})

    @property
    def miss_rate(self) -> Spread:
        """MR^-2 reasonable over seeds."""
        return self.metric(MR2_REASONABLE)


class Table:
    """All finished results of a benchmark.

    Args:
        results: Of students, with their conditions.
        teachers: Of teachers, by name.
    """

    def __init__(self, results: Iterable[tuple[Condition, Result]], teachers: Mapping[str, Result]) -> None:
        self.teachers = dict(teachers)
        grouped: dict[tuple[str, str, str | None, int, int], dict[int, Result]] = {}
        for condition, result in results:
            key = condition.student, condition.row, condition.teacher, condition.steps, condition.labels
            grouped.setdefault(key, {})[condition.seed] = result
        self.cells = {key: Cell(*key, dict(sorted(by_seed.items()))) for key, by_seed in grouped.items()}

    def cell(self, student: str, row: str, teacher: str | None, steps: int, labels: int) -> Cell | None:
        """The results of a row under a teacher: its own, or those without a teacher; None if none is finished."""
        own = self.cells.get((student, row, teacher, steps, labels))
        return own or self.cells.get((student, row, None, steps, labels))

    def against_alone(self, cell: Cell) -> Difference | None:
        """The row against the student alone; None for that row, and where no seed has both."""
        alone = self.cells.get((cell.student, ALONE, None, cell.steps, cell.labels))
        return None if alone is None or cell.row == ALONE else difference(alone, cell)

    def passes_teacher(self, cell: Cell, teacher: str) -> bool:
        """Whether the mean miss rate over seeds is below the teacher's."""
        return teacher in self.teachers and cell.miss_rate.mean < self.teachers[teacher].miss_rate

    def doubled(self, cell: Cell) -> Difference | None:
        """The same with twice the steps against these; None where no seed has both."""
        longer = self.cells.get((cell.student, cell.row, cell.teacher, 2 * cell.steps, cell.labels))
        return None if longer is None else difference(cell, longer)


def difference(first: Cell, second: Cell, confidence: float = CONFIDENCE) -> Difference | None:
    """The second minus the first, on their common seeds; None if there is none."""
    seeds = [seed for seed in second.results if seed in first.results]
    if not seeds:
        return None
    pairs = {seed: (first.results[seed], second.results[seed]) for seed in seeds}
    changes = [_resampled(after) - _resampled(before) for before, after in pairs.values()]
    low, high = np.nanquantile(np.mean(changes, axis=0), [(1 - confidence) / 2, (1 + confidence) / 2])
    return Difference(
        Spread({seed: after.miss_rate - before.miss_rate for seed, (before, after) in pairs.items()}),
        (float(low), float(high)),
    )


def in_order(values: Iterable[Any], order: Sequence[Any]) -> list[Any]:
    """Distinct values in the order of a list; those not in it follow."""
    distinct = list(dict.fromkeys(values))
    return [value for value in order if value in distinct] + [value for value in distinct if value not in order]


def as_record(condition: Condition) -> dict[str, Any]:
    """The condition's fields for :attr:`Result.condition`."""
    return asdict(condition)


def _resampled(result: Result) -> npt.NDArray[np.float64]:
    return np.array(result.resampled_mr2_reasonable, dtype=np.float64)
