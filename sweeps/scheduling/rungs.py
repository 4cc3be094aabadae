"""What trials measured at the rungs of a study: the epochs at which they are compared."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Candidate:
    """What is known of a trial before it is trained."""

    trial_id: str
    costs: tuple[float, ...] = ()
    """Exact objectives, minimised and positive: parameters, FLOPs."""
    settings: tuple[float, ...] | None = None
    """Its searched settings, each in [0, 1]; None outside of the searched space. Trials of equal settings differ by
    the noise of their seeds only."""
    is_protected: bool = False
    """Whether it is never stopped, as baselines; others are compared with it nevertheless."""


@dataclass(frozen=True)
class RungResults:
    """Results of N trials at one rung, in the order of their arrival."""

    trial_ids: Sequence[str]
    measured: Floats
    """(N, M) objectives that training measures, minimised; inf where one is NaN, or where the trial failed later."""
    costs: Floats
    """(N, C)"""
    settings: Floats
    """(N, D) NaN where a trial lies outside of the searched space."""
    version: int
    """Rises with each change of the results."""


class Rungs:
    """Results by rung. Each trial counts once at each rung; a repeated epoch replaces its result, as in the ledger.

    Args:
        epochs: The rungs, as numbers of trained epochs.
    """

    def __init__(self, epochs: Sequence[int]) -> None:
        self.epochs = tuple(sorted(set(epochs)))
        self.candidates: dict[str, Candidate] = {}
        """Trials that reached a rung."""
        self.failed: set[str] = set()
        self._tables = {epoch: _Table() for epoch in self.epochs}

    def record(self, candidate: Candidate, epoch: int, measured: Sequence[float]) -> None:
        """Record what a trial measured after an epoch, if that is a rung."""
        if epoch in self._tables:
            self.candidates.setdefault(candidate.trial_id, candidate)
            finite_or_inf = [math.inf if math.isnan(value) else value for value in measured]
            self._tables[epoch].record(candidate, finite_or_inf)

    def remove(self, trial_id: str) -> None:
        """Ignore the results of a trial that failed: it will not be part of any front."""
        self.failed.add(trial_id)
        for table in self._tables.values():
            table.make_infinite(trial_id)

    def at(self, epoch: int) -> RungResults:
        """All results at a rung."""
        return self._tables[epoch].results()

    def reached_by(self, trial_id: str) -> list[int]:
        """Rungs at which a trial has a result, the latest first."""
        return [epoch for epoch in reversed(self.epochs) if trial_id in self._tables[epoch].rows]

    def row(self, epoch: int, trial_id: str) -> int:
        """Index of a trial among the results at a rung."""
        return self._tables[epoch].rows[trial_id]


class _Table:
    """Rows that are appended in constant time on average."""

    def __init__(self) -> None:
        self.rows: dict[str, int] = {}
        self._ids: list[str] = []
        self._arrays: tuple[Floats, Floats, Floats] | None = None
        self._version = 0

    def record(self, candidate: Candidate, measured: Sequence[float]) -> None:
        self._version += 1
        if candidate.trial_id in self.rows and self._arrays is not None:
            self._arrays[0][self.rows[candidate.trial_id]] = measured
        else:
            self._append(candidate, measured)

    def _append(self, candidate: Candidate, measured: Sequence[float]) -> None:
        count = len(self._ids)
        parts = [list(measured), list(candidate.costs), list(candidate.settings or ())]
        if self._arrays is None:
            measured_, costs, settings = (np.full((8, len(part)), np.nan) for part in parts)
            self._arrays = (measured_, costs, settings)
        if candidate.settings is not None and not self._arrays[2].shape[1]:  # the first had none
            settings = np.full((len(self._arrays[0]), len(candidate.settings)), np.nan)
            self._arrays = (*self._arrays[:2], settings)
        if count == len(self._arrays[0]):
            doubled = [np.vstack([array, np.full_like(array, np.nan)]) for array in self._arrays]
            self._arrays = (doubled[0], doubled[1], doubled[2])
        for array, part in zip(self._arrays, parts, strict=True):
            array[count, : len(part)] = part
        self.rows[candidate.trial_id] = count
        self._ids.append(candidate.trial_id)

    def make_infinite(self, trial_id: str) -> None:
        if trial_id in self.rows and self._arrays is not None:
            self._version += 1
            self._arrays[0][self.rows[trial_id]] = math.inf

    def results(self) -> RungResults:
        count = len(self._ids)
        measured, costs, settings = self._arrays or (np.empty((0, 0)),) * 3
        return RungResults(self._ids, measured[:count], costs[:count], settings[:count], self._version)


def rung_epochs(total_epochs: int, first: int, reduction_factor: float) -> tuple[int, ...]:
    """Rungs ``first``, ``first`` x factor, ``first`` x factor^2, ... below ``total_epochs``, rounded.

    Li et al., "A System for Massively Parallel Hyperparameter Tuning" (ASHA), MLSys 2020.
    """
    assert first >= 1, first
    assert reduction_factor > 1, reduction_factor
    epochs: list[int] = []
    exact = float(first)
    while round(exact) < total_epochs:
        epochs.append(round(exact))
        exact *= reduction_factor
    return tuple(dict.fromkeys(epochs))
