"""The rule of studies: a trial is stopped where peers that cost no more are better by more than the noise of seeds."""

from __future__ import annotations

import math
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from sweeps.scheduling.noise import seed_noise
from sweeps.scheduling.rules import CONTINUE, Decision, Verdict
from sweeps.scheduling.rungs import RungResults, Rungs

Floats = NDArray[np.float64]

MIN_RESULTS = 8
"""Results at a rung from which its noise is estimated."""


class FrontRule:
    """Stops a trial that is off the front of its rung, beyond the noise of seeds.

    A peer is a trial whose costs are all at most those of the trial, which is compared with it at the latest rung that
    both reached. A peer dominates the trial if all its measured objectives are lower by more than ``noise_multiple``
    standard deviations of the difference of two seeds: sqrt(2) times :func:`~sweeps.scheduling.noise.seed_noise`. The
    trial is stopped if

    - at the latest rung where it has a peer, one dominates it, and
    - at least ``min_dominators`` peers dominate it.

    Consequences:

    - A trial on the front of a rung is not stopped there, as small as it may be: only those that cost no more are its
      peers. The ends of the front are the smallest trial and the most accurate one, and belong to it.
    - Dominance is transitive: of the trials that were better at a rung than a stopped one, and cost no more, one or
      more continued.
    - The first trials at a rung have no peers there. They are compared again after each of their later epochs.
    - Before any rung has ``MIN_RESULTS`` results, the noise is not known and no trial is stopped. A rung with fewer
      uses the estimate of the nearest earlier rung with enough, else of the nearest later one.
    - A NaN dominates nothing, and every peer with a number dominates it. What a peer measured before its NaN does not
      count at rungs that both passed.

    Args:
        min_dominators: How many peers must dominate a trial.
        noise_multiple: With 1, a peer of equal quality dominates by chance with a probability of 0.16.
    """

    def __init__(self, min_dominators: int = 2, noise_multiple: float = 1.0) -> None:
        assert min_dominators >= 1, min_dominators
        assert noise_multiple >= 0, noise_multiple
        self.min_dominators = min_dominators
        self.noise_multiple = noise_multiple
        # Of the last estimate at each rung: version of its results, their noise.
        self._noise: WeakKeyDictionary[Rungs, dict[int, tuple[int, Floats]]] = WeakKeyDictionary()

    def __call__(self, rungs: Rungs, trial_id: str, epoch: int) -> Verdict:
        """Whether to stop a trial that has trained ``epoch`` epochs."""
        latest: int | None = None
        met: set[str] = set()
        dominators: list[str] = []
        for rung in rungs.reached_by(trial_id):
            if rung > epoch:
                continue
            results, row = rungs.at(rung), rungs.row(rung, trial_id)
            is_new = _cost_no_more(results, row) & np.array([each not in met for each in results.trial_ids])
            is_peer = is_new & np.isfinite(results.measured).all(axis=1)
            dominates = is_peer & self._is_better(rungs, rung, results, row)
            if latest is None and is_peer.any():
                if not dominates.any():
                    return CONTINUE
                latest = rung
            dominators += _ids(results, dominates)
            if len(dominators) >= self.min_dominators:
                return Verdict(Decision.STOP, latest, tuple(dominators))
            met.update(_ids(results, is_new))  # also one whose result is NaN: its earlier ones do not count
        return CONTINUE

    def noise(self, rungs: Rungs, rung: int) -> Floats | None:
        """Standard deviation (M,) over seeds of what is measured at a rung; None if it is not known."""
        earlier = [each for each in reversed(rungs.epochs) if each <= rung]
        later = [each for each in rungs.epochs if each > rung]
        estimates = self._noise.setdefault(rungs, {})
        for each in (*earlier, *later):
            results = rungs.at(each)
            known = np.isfinite(results.measured).all(axis=1) & np.isfinite(results.settings).all(axis=1)
            if known.sum() < MIN_RESULTS or not results.settings.shape[1]:
                continue
            if each not in estimates or estimates[each][0] != results.version:
                # By id and not by arrival, which differs in a study that is resumed.
                order = sorted(np.flatnonzero(known).tolist(), key=lambda index: results.trial_ids[index])
                noise = [seed_noise(results.settings[order], values) for values in results.measured[order].T]
                estimates[each] = (results.version, np.array(noise))
            return estimates[each][1]
        return None

    def _is_better(self, rungs: Rungs, rung: int, results: RungResults, row: int) -> NDArray[np.bool_]:
        noise = self.noise(rungs, rung)
        if noise is None:
            return np.zeros(len(results.trial_ids), dtype=np.bool_)
        margins = self.noise_multiple * math.sqrt(2) * noise
        return np.asarray((results.measured < results.measured[row] - margins).all(axis=1), dtype=np.bool_)


def _cost_no_more(results: RungResults, row: int) -> NDArray[np.bool_]:
    """Which other trials (N,) cost at most what the trial in a row costs."""
    costs_no_more = (results.costs <= results.costs[row]).all(axis=1)
    costs_no_more[row] = False
    return np.asarray(costs_no_more, dtype=np.bool_)


def _ids(results: RungResults, is_wanted: NDArray[np.bool_]) -> list[str]:
    return [results.trial_ids[index] for index in np.flatnonzero(is_wanted).tolist()]
