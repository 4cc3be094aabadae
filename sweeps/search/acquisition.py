"""How much a candidate is expected to improve a front, given the results so far."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from hkd.dominance import non_dominated
from sweeps.search.costs import ExactCosts
from sweeps.search.early import EndPrediction
from sweeps.search.encoding import Space
from sweeps.search.improvement import CostScale, expected_improvement
from sweeps.search.results import Results, informative
from sweeps.search.surrogate import Surrogate, estimated_hyperparameters

Floats = NDArray[np.float64]

PRIOR_STRENGTH = 10.0
"""Results after which a prior counts as much as its density; its exponent is this number over that of results."""
_LEAST = 1e-300


class Acquisition:
    """Logarithm of a candidate's expected hypervolume improvement, and of its prior.

    Args:
        objectives: Names in the order of a trial's values.
        measured: The one that is modelled; the others are costs.
        reference: Reference point by objective; where one is missing, slightly beyond the highest result or cost.
        cost_scale: Of the hypervolume.
        candidates: Points (N, P) that stand for those to come: if none of them is below the reference costs, the
            highest cost is the reference.

    Raises:
        ValueError: a cost of a trial or of a candidate is 0 or less and ``cost_scale`` is log.
    """

    def __init__(
        self,
        space: Space,
        costs: ExactCosts,
        results: Results,
        *,
        objectives: Sequence[str],
        measured: str,
        reference: Mapping[str, float],
        cost_scale: CostScale,
        candidates: Floats,
    ) -> None:
        self._space, self._costs = space, costs
        self._names = [name for name in objectives if name != measured]
        self._scaled: Callable[[Floats], Floats] = np.log if cost_scale == "log" else np.asarray
        self._is_log = cost_scale == "log"
        self._exponent = PRIOR_STRENGTH / len(results.finished)
        points = space.units([params for params, _ in results.finished])
        values = np.array([values for _, values in results.finished], dtype=np.float64)
        position = list(objectives).index(measured)
        measured_values, result_costs = values[:, position], np.delete(values, position, axis=1)

        chosen = informative(measured_values, result_costs)
        inputs = space.inputs(points)
        hyperparameters = estimated_hyperparameters(inputs, measured_values)
        points, result_costs = points[chosen], result_costs[chosen]
        early, early_values, variances = self._expected_ends(results, measured_values)
        # Early results are part of the model, and never of the front.
        model = Surrogate(
            space.inputs(np.vstack([points, early])),
            np.append(measured_values[chosen], early_values),
            hyperparameters,
            variances=np.append(np.zeros(len(chosen)), variances),
        )
        if results.running:
            running = space.units(results.running)
            model = model.with_expected(space.inputs(running))
            points = np.vstack([points, running])
            result_costs = np.vstack([result_costs, self._costs_of(running)])
        self._model = model

        # The model's means, not the results: a lucky seed does not stay on the front for ever.
        means = model.means(space.inputs(points))
        known = np.column_stack([means, result_costs])
        candidate_costs = self._costs_of(candidates)
        highest = 1.1 * candidate_costs.max(axis=0, initial=0.0)
        highest[highest <= 0] = 1.0
        limits = np.array([reference.get(name, high) for name, high in zip(self._names, highest, strict=True)])
        if not (candidate_costs < limits).all(axis=1).any():
            limits = highest
        worst = reference.get(measured, float(measured_values.max()) + float(measured_values.std()))
        self._cost_reference = limits
        self._reference = np.append(worst, self._relative(limits[None])[0])
        on_front = non_dominated(known)
        self.front_points = points[on_front][np.argsort(means[on_front], kind="stable")]
        """Configurations (K, P) of the front, lowest mean first."""
        self._front = np.column_stack([means, self._relative(result_costs)])[on_front]

    def __call__(self, points: Floats) -> Floats:
        """Values (N,) of candidates (N, P)."""
        mean, std = self._model.predict(self._space.inputs(points))
        costs = self._relative(self._costs_of(points))
        improvement = expected_improvement(mean, std, costs, self._front, self._reference)
        return np.log(np.maximum(improvement, _LEAST)) + self._exponent * self._space.log_prior(points)

    def _expected_ends(self, results: Results, measured_values: Floats) -> tuple[Floats, Floats, Floats]:
        """Points (N, P) of trials that were stopped or that run, what they would reach (N,), and its variance (N,)."""
        unfinished = (*results.stopped, *results.measured_running)
        found = []
        if unfinished:
            predict = EndPrediction(list(zip(results.curves, measured_values.tolist(), strict=True)))
            ends_of = [(params, predict(curve)) for params, curve in unfinished]
            found = [(params, predicted) for params, predicted in ends_of if predicted is not None]
        if not found:
            return np.empty((0, len(self._space.settings))), np.empty(0), np.empty(0)
        ends = np.array([predicted for _, predicted in found])
        return self._space.units([params for params, _ in found]), ends[:, 0], ends[:, 1]

    def _costs_of(self, points: Floats) -> Floats:
        return self._costs.at(points, self._names)

    def _relative(self, costs: Floats) -> Floats:
        """Costs (N, C) over the reference, so that large counts lose no digits, on the scale of the hypervolume."""
        if self._is_log and (costs <= 0).any():
            row, column = np.argwhere(costs <= 0)[0]
            raise ValueError(
                f"the cost {self._names[column]} of a trial is {costs[row, column]:g}; cost_scale log allows costs "
                "above 0 only: set cost_scale to linear"
            )
        return self._scaled(costs / self._cost_reference)
