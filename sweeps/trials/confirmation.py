"""Confirmation of a study's winners: the best of many noisy trials looks better than it is.

After the search, the members of the front and the baselines are trained again with other seeds. The mean over these
trainings is an estimate without that selection; the trial's own result, by which it was selected, is not part of it.

The confirmed front is that of the means on the validation images. Test images choose nothing, so that results on them
stay a check without selection.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

import numpy as np

from hkd import metric_names as names
from hkd.dominance import non_dominated
from sweeps.trials.front import front
from sweeps.trials.records.trial import LedgerTrial

_SEEDS = 2**31
"""A seed is below."""


@dataclass(frozen=True)
class ConfirmedTrial:
    """A trial or baseline, and its trainings with other seeds."""

    trial: LedgerTrial
    num_seeds: int
    """Trainings with other seeds, without the trial's own."""
    means: Mapping[str, float]
    """Means over them of the objectives' miss rates, on the validation images and, with the prefix ``test_``, on the
    test images."""
    spreads: Mapping[str, float]
    """Sample standard deviations, by the same names; empty for one training."""
    values: Mapping[str, float]
    """The objectives of the confirmed front: means on the validation images, and exact costs."""

    def as_metrics(self) -> dict[str, float]:
        """For MLflow; see :mod:`hkd.metric_names`."""
        means = {f"{names.CONFIRMED_PREFIX}{name}": value for name, value in self.means.items()}
        spreads = {f"{names.CONFIRMED_PREFIX}{name}{names.STD_SUFFIX}": value for name, value in self.spreads.items()}
        return {**means, **spreads, names.CONFIRMED_SEEDS: float(self.num_seeds)}


@dataclass(frozen=True)
class Confirmation:
    """The confirmed trials of a study."""

    is_on_test: bool
    """Whether the trainings were evaluated on test images as well."""
    trials: tuple[ConfirmedTrial, ...]
    """Sorted by the objectives."""
    front: frozenset[str]
    """Trial ids of those that no other confirmed trial dominates in the means."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "evaluated_on": "test" if self.is_on_test else "validation",
            "trials": [
                {
                    "trial_id": confirmed.trial.trial_id,
                    "is_on_front": confirmed.trial.trial_id in self.front,
                    "num_seeds": confirmed.num_seeds,
                    "search": {
                        name: confirmed.trial.metrics[name] for name in confirmed.values if name in names.MISS_RATES
                    },
                    "means": dict(confirmed.means),
                    "spreads": dict(confirmed.spreads),
                    "objectives": dict(confirmed.values),
                }
                for confirmed in self.trials
            ],
        }


def trials_to_confirm(trials: Sequence[LedgerTrial], objectives: Sequence[str]) -> list[LedgerTrial]:
    """The members of the front and the finished baselines, in the order of ``trials``."""
    members = {trial.trial_id for trial in front(trials, objectives)}
    return [
        trial
        for trial in trials
        if trial.status == names.STATUS_FINISHED and (trial.trial_id in members or trial.role == names.ROLE_BASELINE)
    ]


def trainings_left(
    trials: Sequence[LedgerTrial],
    confirmations: Sequence[LedgerTrial],
    *,
    objectives: Sequence[str],
    num_seeds: int,
    base_seed: int,
    test_images: str | None,
) -> list[tuple[LedgerTrial, int]]:
    """The trainings that a confirmation lacks: trial and seed, seed by seed.

    Trainings with the same seed follow each other, because they share the teacher's cached outputs.

    Args:
        confirmations: Those that were started, failed ones included; the ones of other test images do not count.
        num_seeds: Trainings of each trial.
        base_seed: Seed of trials that set none.
        test_images: Hash of their annotations.
    """
    left: list[tuple[int, LedgerTrial, int]] = []
    for trial in trials_to_confirm(trials, objectives):
        started = [other for other in confirmations if other.confirms == trial.trial_id]
        own_seed = base_seed if trial.seed is None else trial.seed
        used = {own_seed, *(other.seed for other in started)}
        count = sum(other.test_images == test_images for other in started)
        step = 0
        while count < num_seeds:
            step += 1
            seed = (own_seed + step) % _SEEDS
            if seed not in used:
                count += 1
                left.append((count, trial, seed))
    return [(trial, seed) for _, trial, seed in sorted(left, key=lambda entry: entry[0])]


def confirmation_of(
    trials: Sequence[LedgerTrial],
    confirmations: Sequence[LedgerTrial],
    objectives: Sequence[str],
    test_images: str | None,
) -> Confirmation | None:
    """The confirmed trials of a study; None where no confirmation finished.

    Args:
        test_images: Hash of their annotations: trainings that were evaluated on others do not count.
    """
    confirmed = []
    for trial in trials:
        finished = [
            other.metrics
            for other in confirmations
            if other.confirms == trial.trial_id
            and other.status == names.STATUS_FINISHED
            and other.test_images == test_images
        ]
        if finished:
            confirmed.append(_confirmed(trial, finished, objectives, is_on_test=test_images is not None))
    if not confirmed:
        return None
    points = np.array([[each.values[name] for name in objectives] for each in confirmed], dtype=np.float64)
    kept = {each.trial.trial_id for each, keep in zip(confirmed, non_dominated(points), strict=True) if keep}
    order = sorted(confirmed, key=lambda each: [each.values[name] for name in objectives])
    return Confirmation(test_images is not None, tuple(order), frozenset(kept))


def _confirmed(
    trial: LedgerTrial, finished: Sequence[Mapping[str, float]], objectives: Sequence[str], *, is_on_test: bool
) -> ConfirmedTrial:
    measured = [name for name in objectives if name in names.MISS_RATES]
    wanted = [*measured, *(f"{names.TEST_PREFIX}{name}" for name in measured if is_on_test)]

    def over_seeds(statistic: Callable[[list[float]], float]) -> dict[str, float]:
        return {name: statistic([metrics[name] for metrics in finished]) for name in wanted}

    means = over_seeds(fmean)
    return ConfirmedTrial(
        trial=trial,
        num_seeds=len(finished),
        means=means,
        spreads=over_seeds(stdev) if len(finished) > 1 else {},
        values={name: means[name] if name in measured else trial.metrics[name] for name in objectives},
    )
