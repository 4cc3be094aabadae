"""Early stopping of a study: what Tune's results become, what the ledger keeps, and what a resumed study knows."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from sweeps.execution.tune.early_stopping import StudyStopping
from sweeps.scheduling.front import MIN_RESULTS, FrontRule
from sweeps.settings.space import trial_config
from sweeps.settings.study import StudyConfig
from sweeps.trials.cost import student_cost
from sweeps.trials.records.ledger import Ledger, open_ledger
from sweeps.trials.records.trial import LedgerTrial
from sweeps.trials.worker import METRICS, SPEC, TrialSpec, WorkerSettings
from tests.sweeps.tiny import tiny_trial


def make_study(folder: Path, **baselines: Any) -> StudyConfig:
    """Trials of four epochs with rungs after 1 and 2, of one size in 16."""
    return StudyConfig.model_validate(
        {
            "name": "x",
            "base": {**tiny_trial(folder / "cache", total_epochs=4), "teacher": None},
            "space": {
                "student.pyramid_channels": {"type": "int", "low": 16, "high": 32, "step": 16},
                "training.learning_rate": {"type": "float", "low": 1e-4, "high": 1e-2, "log": True},
            },
            "search": {"num_trials": 40, "sampler": "random"},
            "scheduler": {"type": "front", "first_rung": 1, "reduction_factor": 2, "min_dominators": 1},
            "baselines": {"b": {}, **baselines},
            "storage_path": folder,
        }
    )


class Session:
    """A study's stopping and ledger, driven as Tune and the recorder do."""

    def __init__(self, study: StudyConfig, journal: Path) -> None:
        self.study = study
        self.ledger: Ledger = open_ledger(study, journal)
        self.stopping = StudyStopping(study, self.ledger)
        self.running: dict[str, LedgerTrial] = {}

    def start(self, trial: LedgerTrial | None) -> str:
        assert trial is not None
        self.stopping.expect(trial, trial_config(self.study.base, trial.params))
        self.running[trial.trial_id] = trial
        return trial.trial_id

    def result(self, trial_id: str, epoch: int, miss_rate: float | None) -> bool:
        """Report an epoch; returns whether the trial is stopped."""
        metrics = {"epoch": epoch, "budget_fraction": epoch / 4, "loss_total": 1.0}
        metrics |= {} if miss_rate is None else {"mr2_reasonable": miss_rate}
        config = trial_config(self.study.base, self.running[trial_id].params)
        spec = TrialSpec(trial_id, config, None, None, trial_id, WorkerSettings(1, False, Path()))
        trial = cast("Trial", SimpleNamespace(config={SPEC: spec}))
        flat = {f"{METRICS}/{name}": value for name, value in metrics.items()} | {"training_iteration": epoch}
        decision = self.stopping.scheduler.on_trial_result(cast("Any", None), trial, flat)
        known = self.ledger.record_metrics(self.running[trial_id], metrics)
        self.running[trial_id] = known
        if decision == TrialScheduler.STOP:
            verdict = self.stopping.verdict_on(trial_id)
            assert verdict is not None
            self.ledger.stop(known, verdict.dominators)
        return decision == TrialScheduler.STOP


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return Session(make_study(tmp_path), tmp_path / "trials.journal")


def learn_noise(session: Session) -> list[str]:
    """Eight proposed trials at the first rung, with results near 0.5; each is better than those before."""
    ids = [session.start(session.ledger.start_proposed()) for _ in range(MIN_RESULTS)]
    assert not any(session.result(each, 1, 0.5 - 0.001 * i) for i, each in enumerate(ids))
    return ids


def test_dominated_trial_is_stopped_with_its_rung_and_metrics(session: Session) -> None:
    learn_noise(session)
    bad = session.start(session.ledger.start_proposed())
    assert session.result(bad, 1, 0.9)
    (stopped,) = [trial for trial in session.ledger.trials() if trial.status == "stopped"]
    assert stopped.trial_id == bad
    assert stopped.epochs[1].metrics["mr2_reasonable"] == 0.9
    assert stopped.metrics["epoch"] == 1
    verdict = session.stopping.verdict_on(bad)
    assert verdict is not None
    assert verdict.epoch == 1
    # The smaller ones of eight are its peers, or all of them.
    sizes = {trial.trial_id: trial.params["student.pyramid_channels"] for trial in session.ledger.trials()}
    assert verdict.dominators
    assert all(sizes[each] <= sizes[bad] for each in verdict.dominators)
    assert stopped.dominators == verdict.dominators[:10]


def test_baseline_is_compared_but_not_stopped(session: Session) -> None:
    learn_noise(session)
    baseline = session.start(session.ledger.start_baseline("b", {}))
    assert not session.result(baseline, 1, 0.99)
    # The baseline's student, of 16 channels as in base, costs no more than any other.
    other = session.start(session.ledger.start_baseline("c", {"training.seed": 3}))
    assert not session.result(other, 1, 0.1)
    trial = session.start(session.ledger.start_proposed())
    assert session.result(trial, 1, 0.4)
    assert session.ledger.trials()[-1].dominators == ("baseline-c",)


def test_baseline_with_another_schedule_is_not_compared(tmp_path: Path) -> None:
    longer = {"training.total_epochs": 8}
    session = Session(make_study(tmp_path, longer=longer), tmp_path / "trials.journal")
    learn_noise(session)
    baseline = session.start(session.ledger.start_baseline("longer", longer))
    assert not session.result(baseline, 1, 0.01)
    trial = session.start(session.ledger.start_proposed())
    assert not session.result(trial, 1, 0.45)  # lower than all others


def test_epoch_without_evaluation_checks_again_what_was_measured_before(session: Session) -> None:
    late = session.start(session.ledger.start_proposed())
    assert not session.result(late, 1, 0.9)  # the first at the rung
    learn_noise(session)
    assert session.result(late, 3, None)
    assert session.ledger.trials()[0].metrics["epoch"] == 3


def test_costs_are_those_of_the_objectives(session: Session) -> None:
    trial = session.start(session.ledger.start_proposed())
    session.result(trial, 1, 0.5)
    cost = student_cost(trial_config(session.study.base, session.running[trial].params))
    assert session.stopping.rules.rungs.candidates[trial].costs == (cost.num_params, cost.flops)


def test_resumed_study_knows_what_an_uninterrupted_one_does(session: Session, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    session.result(session.start(session.ledger.start_baseline("b", {})), 1, 0.45)
    for _ in range(14):
        trial = session.start(session.ledger.start_proposed())
        # Some are interrupted after the first rung, some after the second; one is not a number, one fails.
        for epoch in range(1, int(random.integers(2, 4))):
            if session.result(trial, epoch, math.nan if trial == "trial-005" else float(random.uniform(0.3, 0.9))):
                break
    running = session.ledger.running()
    session.ledger.fail(running[3], "boom")
    session.stopping.fail(running[3].trial_id)
    resumed = Session(session.study, tmp_path / "trials.journal")
    rungs, again = session.stopping.rules.rungs, resumed.stopping.rules.rungs
    assert rungs.epochs == again.epochs == (1, 2)
    for epoch in rungs.epochs:
        before, after = rungs.at(epoch), again.at(epoch)
        assert len(before.trial_ids) == len(after.trial_ids) > 3
        for trial_id in before.trial_ids:
            row, other = rungs.row(epoch, trial_id), again.row(epoch, trial_id)
            assert before.measured[row].tolist() == after.measured[other].tolist()
            assert before.costs[row].tolist() == after.costs[other].tolist()
            assert np.array_equal(before.settings[row], after.settings[other], equal_nan=True)
            assert rungs.candidates[trial_id] == again.candidates[trial_id]
    rule = FrontRule(1)
    for interrupted in session.ledger.running():
        expected = rule(rungs, interrupted.trial_id, 3)
        found = rule(again, interrupted.trial_id, 3)
        assert (found.decision, sorted(found.dominators)) == (expected.decision, sorted(expected.dominators))


def test_repeated_epoch_of_another_attempt_counts_once_also_after_resume(session: Session, tmp_path: Path) -> None:
    trial = session.start(session.ledger.start_proposed())
    session.result(trial, 1, 0.5)
    session.start(session.ledger.restart(session.running[trial]))
    session.result(trial, 1, 0.6)
    session.result(trial, 3, 0.4)  # no rung
    resumed = Session(session.study, tmp_path / "trials.journal")
    for each in (session, resumed):
        assert each.stopping.rules.rungs.at(1).measured.tolist() == [[0.6]]
        assert each.stopping.rules.rungs.reached_by(trial) == [1]


def test_baseline_with_more_than_searched_settings_is_no_repetition_of_a_trial(session: Session) -> None:
    searched = {"student.pyramid_channels": 16, "training.learning_rate": 1e-3}
    for name, params in (("same", searched), ("other", {**searched, "training.weight_decay": 0.1})):
        session.result(session.start(session.ledger.start_baseline(name, params)), 1, 0.5)
    candidates = session.stopping.rules.rungs.candidates
    assert candidates["baseline-same"].settings is not None
    assert candidates["baseline-other"].settings is None
