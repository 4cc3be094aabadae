"""The policies that are compared: a sampler and a scheduler each."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial
from ray.tune.experiment import Trial
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler

from benchmarks.sweep_policies.landscape import Landscape
from benchmarks.sweep_policies.simulation import SIMULATED, TRAINING_ITERATION, History, Simulation
from benchmarks.sweep_policies.task import TASK
from hkd.metric_names import FLOPS, NUM_PARAMS
from sweeps.scheduling.front import FrontRule
from sweeps.scheduling.rankings import EarlyRungRule, hypervolume_halving, moasha, published_moasha
from sweeps.scheduling.rules import Decision, EarlyStopping, Rule
from sweeps.scheduling.rungs import Candidate, rung_epochs
from sweeps.scheduling.tune_scheduler import RungScheduler, TrialReport
from sweeps.search.encoding import Space
from sweeps.settings.space import distributions
from sweeps.settings.study import StudyConfig, load_study
from sweeps.trials.queue import TrialQueue
from sweeps.trials.records.ledger import Ledger, open_ledger
from sweeps.trials.worker import METRICS

FIRST_RUNG, REDUCTION = 2, 3.0
"""Of all rules with rungs: epochs 2 and 6 of 16."""
EARLY_RUNG_TRIALS, EARLY_RUNG_KEPT = 96, 24
MOST_TRIALS = 5000

MakeScheduler = Callable[[StudyConfig, int], TrialScheduler]
"""From the study and the epochs of a trial to a new scheduler."""


@dataclass(frozen=True)
class Policy:
    """How a study searches."""

    name: str
    sampler: str
    """``search.sampler`` of the study, or ``oracle``."""
    scheduler: MakeScheduler


ORACLE = "oracle"


def _fifo(study: StudyConfig, num_epochs: int) -> TrialScheduler:  # noqa: ARG001
    return FIFOScheduler()  # type: ignore[no-untyped-call]


def _asha(study: StudyConfig, num_epochs: int) -> TrialScheduler:
    return ASHAScheduler(
        TRAINING_ITERATION,
        metric=f"{METRICS}/{study.main_miss_rate}",
        mode="min",
        max_t=num_epochs,
        grace_period=FIRST_RUNG,
        reduction_factor=REDUCTION,
    )


def _rung_scheduler(
    study: StudyConfig, num_epochs: int, rule: Callable[[], Rule], epochs: Sequence[int] | None = None
) -> TrialScheduler:
    rungs = rung_epochs(num_epochs, FIRST_RUNG, REDUCTION) if epochs is None else epochs
    return PausingScheduler(
        EarlyStopping(rungs, rule()), partial(_report, study, Space(distributions(study.space), {}))
    )


def _early_rung(study: StudyConfig, num_epochs: int) -> TrialScheduler:
    return _rung_scheduler(study, num_epochs, partial(EarlyRungRule, EARLY_RUNG_TRIALS, EARLY_RUNG_KEPT), epochs=(1,))


POLICIES: tuple[Policy, ...] = (
    Policy("random + FIFO", "random", _fifo),
    Policy("TPE + FIFO", "tpe", _fifo),
    Policy("GP + FIFO", "gp", _fifo),
    Policy("NSGA-II + FIFO", "nsga2", _fifo),
    Policy("TPE + ASHA on the miss rate", "tpe", _asha),
    Policy("TPE + MOASHA as published", "tpe", partial(_rung_scheduler, rule=published_moasha)),
    Policy("TPE + MOASHA repaired", "tpe", partial(_rung_scheduler, rule=moasha)),
    Policy("TPE + halving by hypervolume", "tpe", partial(_rung_scheduler, rule=hypervolume_halving)),
    Policy("TPE + i-Epoch", "tpe", _early_rung),
    Policy("TPE + front rule", "tpe", partial(_rung_scheduler, rule=FrontRule)),
    Policy("front + FIFO", "front", _fifo),
    Policy("front + halving by hypervolume", "front", partial(_rung_scheduler, rule=hypervolume_halving)),
    Policy("front + i-Epoch", "front", _early_rung),
    Policy("front + front rule", "front", partial(_rung_scheduler, rule=FrontRule)),
    Policy("oracle", ORACLE, _fifo),
)


def simulate(
    policy: Policy, landscape: Landscape, *, workers: int, seed: int, max_compute: float, enough: float
) -> History:
    """One study of a policy; see :meth:`Simulation.run`."""
    sampler = "random" if policy.sampler == ORACLE else policy.sampler
    study = load_study(TASK, [f"search.sampler={sampler}", f"search.seed={seed}", f"search.num_trials={MOST_TRIALS}"])
    with tempfile.TemporaryDirectory() as folder:
        journal = Path(folder) / "journal.log"
        if policy.sampler == ORACLE:
            oracle = ListSampler(landscape.front)
            ledger = Ledger(journal, study.objectives, distributions(study.space), None, lambda _: oracle)
        else:
            ledger = open_ledger(study, journal)
        simulation = Simulation(
            landscape,
            ledger,
            TrialQueue(study, ledger).next,
            policy.scheduler(study, landscape.num_epochs),
            miss_rate=study.main_miss_rate,
            random=np.random.default_rng([seed, workers]),
        )
        return simulation.run(workers, max_compute=max_compute, enough=enough)


class PausingScheduler(RungScheduler):
    """A :class:`RungScheduler` whose rule may let trials wait for others."""

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:  # noqa: ARG002
        """Called by Tune after each epoch but a trial's last."""
        report = self._read(trial, result)
        assert report is not None
        return str(self._early_stopping.report(report.candidate, report.epoch, report.measured).decision.name)

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """Called by Tune when a worker is free: trials that need not wait longer, then new ones."""
        trials: list[Trial] = tune_controller.get_trials()
        for trial in trials:
            if trial.status == Trial.PAUSED:
                verdict = self._early_stopping.verdict(trial.trial_id, trial.config[SIMULATED].epoch)
                if verdict.decision is Decision.CONTINUE:
                    return trial
                if verdict.decision is Decision.STOP:
                    tune_controller.stop_trial(trial)
        return next((each for each in trials if each.status == Trial.PENDING), None)


class ListSampler(BaseSampler):
    """Proposes the configurations of a list in their order, then random ones."""

    def __init__(self, configurations: Sequence[Mapping[str, Any]]) -> None:
        self._configurations = configurations
        self._random = RandomSampler(seed=0)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:  # noqa: ARG002
        """Not used: the ledger proposes fixed distributions."""
        return {}

    def sample_relative(
        self,
        study: Study,  # noqa: ARG002
        trial: FrozenTrial,  # noqa: ARG002
        search_space: dict[str, BaseDistribution],  # noqa: ARG002
    ) -> dict[str, Any]:
        """Nothing: each setting is sampled on its own."""
        return {}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """The setting's value in the trial's configuration."""
        if trial.number < len(self._configurations):
            return self._configurations[trial.number][param_name]
        return self._random.sample_independent(study, trial, param_name, param_distribution)


def _report(study: StudyConfig, space: Space, trial: Trial, result: Mapping[str, Any]) -> TrialReport:
    simulated = trial.config[SIMULATED]
    candidate = Candidate(
        trial.trial_id,
        (simulated.costs[NUM_PARAMS], simulated.costs[FLOPS]),
        tuple(space.inputs(space.units([simulated.record.params]))[0].tolist()),
    )
    measured = (float(result[f"{METRICS}/{study.main_miss_rate}"]),)
    return TrialReport(candidate, int(result[TRAINING_ITERATION]), measured)
