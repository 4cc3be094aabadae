"""Which of the searched settings the miss rate depends on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from analysis.records.study_records import ParameterValue, StudyRecords, TrialRecord
from hkd import metric_names as names

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

FEWEST_TRIALS = 8
"""With fewer, the random forest fits noise."""


@dataclass(frozen=True)
class Importances:
    """Share of the miss rate's variation that each searched setting explains (fANOVA, Hutter et al. 2014)."""

    values: Mapping[str, float]
    """Dotted name -> share, largest first, summing to 1; empty where importances are absent."""
    num_trials: int
    absent_because: str | None


def importances_of(records: StudyRecords) -> Importances:
    """Importances of the searched settings for the first miss rate, over trials (not baselines) that are counted."""
    miss_rate = records.objectives[0].name
    trials = [trial for trial in records.counted if trial.role == names.ROLE_TRIAL]
    searched = [key for key in records.searched_parameters() if len({trial.params.get(key) for trial in trials}) > 1]
    if len(trials) < FEWEST_TRIALS:
        reason = f"{len(trials)} trials were trained for all their epochs; at least {FEWEST_TRIALS} are needed"
        return Importances({}, len(trials), reason)
    if not searched:
        return Importances({}, len(trials), "the trials do not differ in their settings")
    if len({trial.metrics[miss_rate] for trial in trials}) == 1:
        return Importances({}, len(trials), "all trials have the same miss rate")
    return Importances(_fanova(trials, searched, miss_rate), len(trials), None)


def _fanova(trials: Sequence[TrialRecord], searched: Sequence[str], miss_rate: str) -> dict[str, float]:
    import optuna  # slow to import

    distributions = {key: _distribution([trial.params.get(key) for trial in trials]) for key in searched}
    verbosity = optuna.logging.get_verbosity()
    # Optuna logs the creation of a study.
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.create_study(direction="minimize")
        study.add_trials(
            [
                optuna.trial.create_trial(
                    params={key: trial.params.get(key) for key in searched},
                    distributions=distributions,
                    value=trial.metrics[miss_rate],
                )
                for trial in trials
            ]
        )
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
        importances = optuna.importance.get_param_importances(study, evaluator=evaluator)
    finally:
        optuna.logging.set_verbosity(verbosity)
    return {key: float(share) for key, share in importances.items()}


def _distribution(values: Sequence[ParameterValue]) -> BaseDistribution:
    import optuna

    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) == len(values):
        low, high = min(numbers), max(numbers)
        if all(isinstance(value, int) for value in numbers):
            return optuna.distributions.IntDistribution(int(low), int(high))
        return optuna.distributions.FloatDistribution(low, high)
    return optuna.distributions.CategoricalDistribution(list(dict.fromkeys(values)))
