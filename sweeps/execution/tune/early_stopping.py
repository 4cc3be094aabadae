"""Early stopping of a study's trials: what they report, and what the ledger has of earlier sessions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray.tune.experiment import Trial

from hkd.config import TrialConfig
from hkd.metric_names import COSTS, EPOCH, MISS_RATES, ROLE_BASELINE, ROLE_TRIAL, STATUS_FAILED
from sweeps.scheduling.front import FrontRule
from sweeps.scheduling.rules import EarlyStopping, Verdict
from sweeps.scheduling.rungs import Candidate
from sweeps.scheduling.tune_scheduler import RungScheduler, TrialReport
from sweeps.search.encoding import Space
from sweeps.settings.space import distributions, trial_config
from sweeps.settings.study import StudyConfig
from sweeps.trials.cost import student_cost
from sweeps.trials.records.ledger import Ledger
from sweeps.trials.records.trial import LedgerTrial
from sweeps.trials.worker import METRICS, SPEC


class StudyStopping:
    """Stops trials of a study by its rule, with the results of earlier sessions.

    Trials and baselines are compared, each with the planned epochs of ``base``: at a rung, a longer schedule has a
    higher learning rate. Baselines are never stopped.
    """

    def __init__(self, study: StudyConfig, ledger: Ledger) -> None:
        assert study.rungs, "the study stops no trials"
        self._study = study
        self._measured = [name for name in study.objectives if name in MISS_RATES]
        self._costs = [name for name in study.objectives if name in COSTS]
        self._space = Space(distributions(study.space), {})
        self._candidates: dict[str, Candidate] = {}
        self._verdicts: dict[str, Verdict] = {}
        rule = FrontRule(study.scheduler.min_dominators, study.scheduler.noise_multiple)
        self.rules = EarlyStopping(study.rungs, rule)
        self.scheduler = RungScheduler(self.rules, self._read, self._note_stop)
        for trial in ledger.trials():
            self._restore(trial)

    def expect(self, trial: LedgerTrial, config: TrialConfig) -> None:
        """Register a trial that is handed to Tune."""
        is_compared = trial.role in (ROLE_TRIAL, ROLE_BASELINE)
        if is_compared and config.training.total_epochs == self._study.base.training.total_epochs:
            self._candidates[trial.trial_id] = self._candidate(trial, student_cost(config).as_metrics())

    def verdict_on(self, trial_id: str) -> Verdict | None:
        """Why a trial was stopped; None if it was not."""
        return self._verdicts.get(trial_id)

    def fail(self, trial_id: str) -> None:
        """Ignore a trial that failed."""
        self.rules.fail(trial_id)

    def _candidate(self, trial: LedgerTrial, costs: Mapping[str, float]) -> Candidate:
        # A baseline may differ in more than the searched settings: it is no repetition of a trial of equal ones.
        is_comparable = trial.role == ROLE_TRIAL or set(trial.params) <= set(self._study.space)
        params = self._space.part_of(trial.params) if self._study.space and is_comparable else None
        settings = None if params is None else tuple(self._space.inputs(self._space.units([params]))[0].tolist())
        return Candidate(
            trial.trial_id,
            tuple(float(costs[name]) for name in self._costs),
            settings,
            is_protected=trial.role == ROLE_BASELINE,
        )

    def _restore(self, trial: LedgerTrial) -> None:
        at_rungs = {
            epoch: measured
            for epoch, record in trial.epochs.items()
            if epoch in self._study.rungs and (measured := self._measured_of(record.metrics)) is not None
        }
        if not at_rungs:
            return
        self.expect(trial, trial_config(self._study.base, trial.params))
        candidate = self._candidates.pop(trial.trial_id, None)
        if candidate is None:
            return
        for epoch, measured in at_rungs.items():
            self.rules.rungs.record(candidate, epoch, measured)
        if trial.status == STATUS_FAILED:
            self.fail(trial.trial_id)

    def _read(self, trial: Trial, result: Mapping[str, Any]) -> TrialReport | None:
        candidate = self._candidates.get(trial.config[SPEC].trial_id)
        if candidate is None:
            return None
        # Tune joins the keys of nested results.
        prefix = f"{METRICS}/"
        metrics = {key.removeprefix(prefix): value for key, value in result.items() if key.startswith(prefix)}
        return TrialReport(candidate, int(metrics[EPOCH]), self._measured_of(metrics))

    def _measured_of(self, metrics: Mapping[str, float]) -> tuple[float, ...] | None:
        """Measured objectives; None without an evaluation."""
        is_evaluated = all(name in metrics for name in self._measured)
        return tuple(float(metrics[name]) for name in self._measured) if is_evaluated else None

    def _note_stop(self, report: TrialReport, verdict: Verdict) -> None:
        self._verdicts[report.candidate.trial_id] = verdict
