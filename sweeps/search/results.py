"""What the trials of a study show: results, what is still running, and what was tried."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState

from sweeps.search.early import BudgetCurve
from sweeps.search.encoding import Space

Params = Mapping[str, Any]

MOST_RESULTS = 600
"""Results that the model uses."""
MOST_RUNNING = 200
"""Running trials that the model uses, the latest ones: they are the last to end."""
MOST_STOPPED = 200
"""Stopped trials that the model uses, the latest ones."""
_LOWEST_OF_EACH_COST = 4


@dataclass(frozen=True)
class Results:
    """Trials of a study whose settings lie in the searched space."""

    finished: list[tuple[Params, list[float]]]
    """Settings and objectives, in the order in which they were finished."""
    running: list[Params]
    tried: list[Params]
    """Settings of all trials, also of failed ones."""
    curves: list[BudgetCurve] = field(default_factory=list)
    """Of the finished trials; none if no other trial has one, whose end they would predict."""
    stopped: list[tuple[Params, BudgetCurve]] = field(default_factory=list)
    """Settings and curves of trials that were stopped after they had measured a value."""
    measured_running: list[tuple[Params, BudgetCurve]] = field(default_factory=list)
    """Of running trials that have measured a value."""

    @classmethod
    def of(cls, trials: Sequence[FrozenTrial], space: Space, curve: Callable[[FrozenTrial], BudgetCurve]) -> Results:
        """The results of trials. Those with an infinite value count as tried only.

        Args:
            curve: What a trial measured, by share of its budget.
        """
        inside = [(each, params) for each in trials if (params := space.part_of(each.params)) is not None]
        # By time, so that hyperparameters, estimated from the first results, do not change with each later one.
        ended = sorted(
            (
                (each, params)
                for each, params in inside
                if each.state == TrialState.COMPLETE and all(map(math.isfinite, each.values))
            ),
            key=lambda entry: (entry[0].datetime_complete, entry[0].number),
        )
        running = [(each, params) for each, params in inside if each.state == TrialState.RUNNING][-MOST_RUNNING:]
        pruned = [(each, params) for each, params in inside if each.state == TrialState.PRUNED][-MOST_STOPPED:]
        stopped = _with_curves(pruned, curve)
        measured_running = _with_curves(running, curve)
        return cls(
            finished=[(params, each.values) for each, params in ended],
            running=[params for _, params in running],
            tried=[params for _, params in inside],
            curves=[curve(each) for each, _ in ended] if stopped or measured_running else [],
            stopped=stopped,
            measured_running=measured_running,
        )


def _with_curves(
    trials: Sequence[tuple[FrozenTrial, Params]], curve: Callable[[FrozenTrial], BudgetCurve]
) -> list[tuple[Params, BudgetCurve]]:
    """Settings and curves of the trials that have measured a value."""
    curves = [(params, curve(trial)) for trial, params in trials]
    return [(params, found) for params, found in curves if found]


def informative(values: NDArray[np.float64], costs: NDArray[np.float64]) -> NDArray[np.intp]:
    """Indices of at most ``MOST_RESULTS`` of N results (N,), in their order.

    Half of them are the lowest values among results of about the same cost (N, C), which determine the front. The
    others are evenly spaced in time, so that the model keeps its view of the whole space.
    """
    if len(values) <= MOST_RESULTS:
        return np.arange(len(values))
    half = MOST_RESULTS // 2
    # Costs grow together: the first stands for all. Without costs, all results are of the same.
    num_classes = half // _LOWEST_OF_EACH_COST if costs.shape[1] else 1
    order = np.argsort(costs[:, 0], kind="stable") if costs.shape[1] else np.arange(len(values))
    lowest = [
        similar[np.argsort(values[similar], kind="stable")[: half // num_classes]]
        for similar in np.array_split(order, num_classes)
    ]
    spaced = np.linspace(0, len(values) - 1, half).round().astype(np.intp)
    return np.unique(np.concatenate([*lowest, spaced]))
