"""The sampler ``front``: one measured objective is modelled, the costs are exact."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial
from threadpoolctl import ThreadpoolController

from sweeps.search.acquisition import Acquisition
from sweeps.search.candidates import CandidatePool
from sweeps.search.costs import ExactCosts
from sweeps.search.early import BudgetCurve
from sweeps.search.encoding import Prior, Space
from sweeps.search.improvement import COST_SCALES, MOST_COSTS, CostScale
from sweeps.search.results import Results

Floats = NDArray[np.float64]

LEAST_FINISHED = 4
_PARENTS = 8
_CHILDREN = 32
_WIDTHS = (0.1, 0.03)


class FrontSampler(BaseSampler):
    """Proposes the configuration of the largest expected hypervolume improvement.

    One Gaussian process models the measured objective (a miss rate) over the searched settings. The costs are exact, so
    that the expected hypervolume improvement is a sum over the levels of the front
    (:func:`~sweeps.search.improvement.expected_improvement`), and limits on costs are never violated. The front is that
    of the model's means, in which repeated observations of one configuration are averaged. Running trials count with
    their expected result, so that concurrent proposals differ.

    A trial that was stopped early, and one that runs, is an observation of the value that its last one predicts
    (:class:`~sweeps.search.early.EndPrediction`), with the variance of this prediction. It is never on the front.

    All objectives are minimised. Failed trials are not modelled. No configuration that was tried is proposed
    while others are left. A proposal depends on the seed, on the number of the trial and on the trials so far, not on
    the object: a resumed study continues as an uninterrupted one.

    With 400 results and 8 settings, a proposal takes 0.1 s, and 0.25 s where hyperparameters are estimated again
    (whenever results have grown by an eighth, from at most 100); with 5,000 results 0.25 s, since at most 600 enter the
    model. New costs come on top.

    Args:
        space: Distributions of the searched settings by name. Settings that a trial suggests beside them are sampled
            at random, and must not change the costs.
        objectives: Names of the study's objectives in its order: the measured one, and at most two costs.
        measured: Name of the measured objective.
        costs: Function from a configuration to its exact costs by name: those of ``objectives`` and of ``limits``.
        limits: Highest allowed cost by name.
        priors: Where good values are expected, by setting. The improvement is multiplied by their density to the power
            of 10 over the number of results (Hvarfner et al., "piBO", ICLR 2022), and every second candidate is drawn
            from them.
        reference: Reference point of the hypervolume by objective. Where one is missing, it is slightly beyond the
            highest candidate's cost or the highest result.
        cost_scale: Whether hypervolume is measured in costs (``linear``, as in reports of ``analysis``) or in their
            logarithms (``log``, which values each halving of a cost alike).
        cost_settings: Names of the settings that the costs depend on; by default all.
        startup_trials: Finished and stopped trials before the model is used, ``LEAST_FINISHED`` finished ones at least;
            until then, a Sobol sequence.
        new_shapes: How many configurations whose costs are not known yet are tried in each of the three steps of a
            proposal. Raise it where ``costs`` is faster than a millisecond.
        curve: Returns what a trial measured, by share of its budget (epochs trained over epochs planned). By default
            nothing, and trials that were stopped early are not modelled.
        seed: None for a different one each time.

    Raises:
        ValueError: the arguments do not fit together.
        NoCandidateError: (from a proposal) no configuration was found within the limits.
    """

    def __init__(
        self,
        space: Mapping[str, BaseDistribution],
        objectives: Sequence[str],
        measured: str,
        costs: Callable[[Mapping[str, Any]], Mapping[str, float]],
        *,
        limits: Mapping[str, float] | None = None,
        priors: Mapping[str, Prior] | None = None,
        reference: Mapping[str, float] | None = None,
        cost_scale: CostScale = "linear",
        cost_settings: Collection[str] | None = None,
        startup_trials: int = 10,
        new_shapes: int = 8,
        curve: Callable[[FrozenTrial], BudgetCurve] = lambda _: {},
        seed: int | None = None,
    ) -> None:
        _check_arguments(objectives, measured, cost_scale, startup_trials, new_shapes)
        self._distributions = dict(sorted(space.items()))
        self._space = Space(self._distributions, priors or {})
        shape_names = self._distributions if cost_settings is None else cost_settings
        self._costs = ExactCosts(self._space, costs, shape_names, limits or {})
        self._seed = int(np.random.SeedSequence(seed).generate_state(1)[0])
        self._pool = CandidatePool(self._space, self._costs, self._seed, new_shapes)
        self._independent = RandomSampler(seed=self._seed)
        self._objectives, self._measured = tuple(objectives), measured
        self._reference, self._cost_scale = dict(reference or {}), cost_scale
        self._startup_trials, self._curve = startup_trials, curve

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:  # noqa: ARG002
        """The whole space: its settings are proposed together."""
        return dict(self._distributions)

    def sample_relative(
        self,
        study: Study,
        trial: FrozenTrial,
        search_space: dict[str, BaseDistribution],
    ) -> dict[str, Any]:
        """The configuration of a new trial."""
        self._check_study(study)
        if not search_space:
            return {}
        # More threads cost a multiple of CPU time, and wait for each other where trials have the cores.
        with _linear_algebra().limit(limits=1, user_api="blas"):
            return self._proposed(study, trial)

    def _proposed(self, study: Study, trial: FrozenTrial) -> dict[str, Any]:
        others = [each for each in study.get_trials(deepcopy=False) if each.number != trial.number]
        results = Results.of(others, self._space, self._curve)
        acquisition = None
        # Where many trials are stopped early, those count as well: the first ones are to cover the space.
        num_known = len(results.finished) + len(results.stopped)
        if num_known >= self._startup_trials and len(results.finished) >= min(LEAST_FINISHED, self._startup_trials):
            candidates, acquisition = self._ordered(results, trial.number)
        elif (params := self._first_new(self._pool.startup(), results)) is not None:
            return params
        else:
            candidates = self._pool.draw(trial.number)
        if (params := self._first_new(candidates, results)) is not None:
            return params
        rest = self._pool.untried(results.tried, trial.number)
        if not len(rest):
            return self._space.configurations(candidates[:1])[0]
        best = 0 if acquisition is None else int(np.argmax(acquisition(rest)))
        return self._space.configurations(rest[[best]])[0]

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """A random value of a setting that is not in the space."""
        return self._independent.sample_independent(study, trial, param_name, param_distribution)

    def _ordered(self, results: Results, number: int) -> tuple[Floats, Acquisition]:
        """Candidates (N, P), the best first, and what orders them."""
        points = self._pool.draw(number)
        acquisition = Acquisition(
            self._space,
            self._costs,
            results,
            objectives=self._objectives,
            measured=self._measured,
            reference=self._reference,
            cost_scale=self._cost_scale,
            candidates=points,
        )
        values = acquisition(points)
        random = np.random.default_rng([self._seed, number])
        front = acquisition.front_points
        for width in _WIDTHS:
            best = points[np.argsort(-values, kind="stable")[:_PARENTS]]
            # Of the front, evenly spaced points.
            of_front = front[np.unique(np.linspace(0, len(front) - 1, _PARENTS).astype(int))]
            near = self._pool.near(np.vstack([best, of_front]), _CHILDREN, width, random)
            points, values = np.vstack([points, near]), np.append(values, acquisition(near))
        return points[np.argsort(-values, kind="stable")], acquisition

    def _first_new(self, candidates: Floats, results: Results) -> dict[str, Any] | None:
        """The first configuration that was not tried."""
        for start in range(0, len(candidates), 64):
            for params in self._space.configurations(candidates[start : start + 64]):
                if params not in results.tried:
                    return params
        return None

    def _check_study(self, study: Study) -> None:
        if len(study.directions) != len(self._objectives):
            raise ValueError(f"the study has {len(study.directions)} objectives, the sampler {len(self._objectives)}")
        if StudyDirection.MAXIMIZE in study.directions:
            raise ValueError("the study maximises an objective; this sampler minimises all: negate its values")


@cache
def _linear_algebra() -> ThreadpoolController:
    """The libraries of this process, whose search takes milliseconds."""
    return ThreadpoolController()


def _check_arguments(
    objectives: Sequence[str], measured: str, cost_scale: str, startup_trials: int, new_shapes: int
) -> None:
    problems = []
    if measured not in objectives:
        problems.append(f"measured: found {measured}; allowed: one of objectives ({', '.join(objectives)})")
    if len(objectives) > 1 + MOST_COSTS:
        problems.append(f"objectives: found {', '.join(objectives)}; allowed: the measured one and {MOST_COSTS} costs")
    if cost_scale not in COST_SCALES:
        problems.append(f"cost_scale: found {cost_scale}; allowed: {', '.join(COST_SCALES)}")
    if startup_trials < 1 or new_shapes < 1:
        problems.append(f"startup_trials, new_shapes: found {startup_trials}, {new_shapes}; allowed: at least 1")
    if problems:
        raise ValueError("; ".join(problems))
