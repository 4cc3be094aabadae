"""What the trials of a study show: results, what is still running, and what was tried."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState

from sweeps.search.encoding import Space

Params = Mapping[str, Any]

MOST_RESULTS = 600
"""Results that the model uses."""
_LOWEST_OF_EACH_COST = 4


@dataclass(frozen=True)
class Results:
    """Trials of a study whose settings lie in the searched space."""

    finished: list[tuple[Params, list[float]]]
    """Settings and objectives, in the order in which they were finished."""
    running: list[Params]
    tried: list[Params]
    """Settings of all trials, also of failed ones."""

    @classmethod
    def of(cls, trials: Sequence[FrozenTrial], space: Space) -> Results:
        """The results of trials. Those with an infinite value count as tried only."""
        inside = [(each, params) for each in trials if (params := space.part_of(each.params)) is not None]
        # By time, so that hyperparameters, estimated from the first results, do not change with each later one.
        ended = [
            (each.datetime_complete, each.number, params, each.values)
            for each, params in inside
            if each.state == TrialState.COMPLETE and all(map(math.isfinite, each.values))
        ]
        return cls(
            finished=[(params, values) for _, _, params, values in sorted(ended, key=lambda entry: entry[:2])],
            running=[params for each, params in inside if each.state == TrialState.RUNNING],
            tried=[params for _, params in inside],
        )


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
