"""Optuna's TPE in studies that stop trials early."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import TPESampler
from optuna.samplers._tpe import sampler as optuna_tpe
from optuna.trial import FrozenTrial, TrialState


class FinishedTPESampler(TPESampler):
    """TPE whose good trials are finished ones.

    Optuna's takes the number of good trials from finished and pruned trials together, a tenth of them. Where most are
    pruned, that is nearly every finished trial, and pruned ones as well where too few are finished. Here it is a tenth
    of the finished ones; pruned trials count as bad. Without pruned trials, both propose the same.

    Args:
        arguments: Those of Optuna's sampler.
    """

    def __init__(self, **arguments: Any) -> None:
        self._num_finished = 0
        super().__init__(**arguments)
        # The argument, deprecated; None for Optuna's own.
        self._num_good: Callable[[int], int] | None = self._gamma
        self._gamma = self._good_of

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Optuna's."""
        self._count(study)
        return super().sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Optuna's."""
        self._count(study)
        return super().sample_independent(study, trial, param_name, param_distribution)

    def _count(self, study: Study) -> None:
        self._num_finished = len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))
        if self._num_good is None:
            several = getattr(optuna_tpe, "default_gamma_multiobjective", optuna_tpe.default_gamma)
            self._num_good = several if len(study.directions) > 1 else optuna_tpe.default_gamma

    def _good_of(self, num_ended: int) -> int:  # noqa: ARG002
        assert self._num_good is not None, "called while proposing"
        return min(int(self._num_good(self._num_finished)), self._num_finished)
