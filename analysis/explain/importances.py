"""Which of the searched settings the objectives and the hypervolume depend on."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from analysis.objectives import Objective
from analysis.records.study_records import ParameterValue, StudyRecords, TrialRecord
from hkd import metric_names as names

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.study import Study

FEWEST_TRIALS = 8
"""With fewer, the random forest fits noise."""
MOST_TRIALS = 128
"""fANOVA's time grows with the square of the trials: of more, as many are used, evenly spaced over the study."""
FEWEST_TRIALS_OF_LOCAL = 20
"""PED-ANOVA compares the best tenth with all trials; of fewer trials, two are no distribution."""
HYPERVOLUME: Final = "hypervolume"

Method = Literal["fANOVA", "PED-ANOVA"]


@dataclass(frozen=True)
class Importances:
    """Share of the miss rate's variation that each searched setting explains (fANOVA, Hutter et al. 2014)."""

    values: Mapping[str, float]
    """Dotted name -> share, largest first, summing to 1; empty where importances are absent."""
    num_trials: int
    absent_because: str | None


@dataclass(frozen=True)
class TargetImportances:
    """Importances of the searched settings for one target."""

    target: str
    """Metric name of an objective, or :data:`HYPERVOLUME`: the share of the box below the reference point that a trial
    dominates alone."""
    method: Method
    """``fANOVA``: share of the target's variation over all trials. ``PED-ANOVA`` (Watanabe et al. 2023): how much the
    values of the best tenth of the trials differ from those of all, a local importance."""
    found: Importances


def importances_of(records: StudyRecords) -> Importances:
    """Importances of the searched settings for the first miss rate, over trials (not baselines) that are counted."""
    return first_miss_rate(records, None)


def first_miss_rate(records: StudyRecords, known: Sequence[TargetImportances] | None) -> Importances:
    """As :func:`importances_of`, from those that :func:`all_importances` found; None: computed here."""
    trials, searched, absent = _comparable(records)
    if absent is not None:
        return absent
    metric = records.objectives[0].name
    values = [trial.metrics[metric] for trial in trials]
    if len(set(values)) == 1:
        return Importances({}, len(trials), "all trials have the same miss rate")
    for each in known or ():
        if (each.target, each.method) == (metric, "fANOVA"):
            return each.found
    return Importances(_evaluated(_study(trials, searched, values), "fANOVA"), len(trials), None)


def all_importances(records: StudyRecords, reference_point: Sequence[float]) -> tuple[TargetImportances, ...]:
    """Importances for every miss rate, and for the hypervolume, by both methods; empty where there are too few trials.

    Costs are known functions of the settings: their importances say what the search space costs, and are included.

    Args:
        records: Of one study.
        reference_point: Of the hypervolume, one value for each objective.
    """
    trials, searched, absent = _comparable(records)
    if absent is not None:
        return ()
    targets = {objective.name: [trial.metrics[objective.name] for trial in trials] for objective in records.objectives}
    targets[HYPERVOLUME] = _dominated_shares(trials, records.objectives, reference_point)
    found = []
    for target, values in targets.items():
        methods: tuple[Method, ...] = ("fANOVA", "PED-ANOVA")
        for method in methods:
            if len(set(values)) == 1 or (method == "PED-ANOVA" and len(trials) < FEWEST_TRIALS_OF_LOCAL):
                continue
            # Optuna's PED-ANOVA looks for low values; a large share is good.
            signed = [-value for value in values] if target == HYPERVOLUME else values
            importances = _evaluated(_study(trials, searched, signed), method)
            found.append(TargetImportances(target, method, Importances(importances, len(trials), None)))
    return tuple(found)


def _comparable(records: StudyRecords) -> tuple[list[TrialRecord], list[str], Importances | None]:
    """The trials, the settings in which they differ, and why there are no importances, if so."""
    counted = [trial for trial in records.counted if trial.role == names.ROLE_TRIAL]
    trials = _evenly_spaced(counted)
    searched = [key for key in records.searched_parameters() if len({trial.params.get(key) for trial in trials}) > 1]
    if len(trials) < FEWEST_TRIALS:
        reason = f"{len(trials)} trials were trained for all their epochs; at least {FEWEST_TRIALS} are needed"
        return trials, searched, Importances({}, len(trials), reason)
    if not searched:
        return trials, searched, Importances({}, len(trials), "the trials do not differ in their settings")
    return trials, searched, None


def _evenly_spaced(trials: Sequence[TrialRecord]) -> list[TrialRecord]:
    if len(trials) <= MOST_TRIALS:
        return list(trials)
    return [trials[index] for index in np.linspace(0, len(trials) - 1, MOST_TRIALS).astype(int).tolist()]


def _dominated_shares(
    trials: Sequence[TrialRecord], objectives: Sequence[Objective], reference_point: Sequence[float]
) -> list[float]:
    points = np.array([[trial.metrics[objective.name] for objective in objectives] for trial in trials])
    shares: list[float] = np.prod(np.clip(1 - points / np.array(reference_point), 0, 1), axis=1).tolist()
    return shares


def _study(trials: Sequence[TrialRecord], searched: Sequence[str], values: Sequence[float]) -> Study:
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
                    params={key: trial.params.get(key) for key in searched}, distributions=distributions, value=value
                )
                for trial, value in zip(trials, values, strict=True)
            ]
        )
    finally:
        optuna.logging.set_verbosity(verbosity)
    return study


def _evaluated(study: Study, method: Method) -> dict[str, float]:
    import optuna

    with warnings.catch_warnings():
        # Optuna 4 calls PED-ANOVA experimental.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        evaluator = (
            optuna.importance.FanovaImportanceEvaluator(seed=0)
            if method == "fANOVA"
            else optuna.importance.PedAnovaImportanceEvaluator()
        )
    importances = optuna.importance.get_param_importances(study, evaluator=evaluator)
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
