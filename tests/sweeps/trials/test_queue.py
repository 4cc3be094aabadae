"""Which trial runs next."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sweeps.settings.study import StudyConfig
from sweeps.trials.front import front
from sweeps.trials.queue import TrialQueue
from sweeps.trials.records.ledger import Ledger, open_ledger
from sweeps.trials.records.trial import LedgerTrial

SEEDS = {"training.seed": {"type": "categorical", "choices": [1, 2, 3]}}


def study_of(num_trials: int, **changes: Any) -> StudyConfig:
    raw = {"name": "x", "base": {"teacher": None}, "space": SEEDS, "baselines": {"a": {}, "b": {"training.seed": 9}}}
    return StudyConfig.model_validate({**raw, "search": {"num_trials": num_trials}, **changes})


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "trials.journal"


def next_of(queue: TrialQueue) -> LedgerTrial:
    trial = queue.next()
    assert trial is not None
    return trial


def drain(queue: TrialQueue) -> list[LedgerTrial]:
    started = []
    while not queue.is_empty:
        if (trial := queue.next()) is not None:
            started.append(trial)
    return started


def ids(trials: list[LedgerTrial]) -> list[str]:
    return [trial.trial_id for trial in trials]


def end(ledger: Ledger, trial: LedgerTrial) -> None:
    ledger.fail(trial, "ended")


def test_baselines_come_before_proposed_trials(journal: Path) -> None:
    started = drain(TrialQueue(study_of(2), open_ledger(study_of(2), journal)))
    assert ids(started) == ["baseline-a", "baseline-b", "trial-001", "trial-002"]
    assert started[1].params == {"training.seed": 9}
    assert {trial.attempts for trial in started} == {1}


def test_interrupted_trials_come_first_after_reopening(journal: Path) -> None:
    study = study_of(2)
    ledger = open_ledger(study, journal)
    queue = TrialQueue(study, ledger)
    end(ledger, next_of(queue))
    interrupted = next_of(queue)
    assert interrupted.trial_id == "baseline-b"
    started = drain(TrialQueue(study, open_ledger(study, journal)))
    assert ids(started) == ["baseline-b", "trial-001", "trial-002"]
    assert [trial.attempts for trial in started] == [2, 1, 1]


def test_trial_with_lost_worker_runs_before_new_trials(journal: Path) -> None:
    queue = TrialQueue(study_of(1), open_ledger(study_of(1), journal))
    first = next_of(queue)
    queue.put_back(first)
    assert ids(drain(queue)) == ["baseline-a", "baseline-b", "trial-001"]
    assert queue.next() is None


def test_ended_study_is_empty_and_more_trials_refill_it(journal: Path) -> None:
    ledger = open_ledger(study_of(1), journal)
    for trial in drain(TrialQueue(study_of(1), ledger)):
        end(ledger, trial)
    assert TrialQueue(study_of(1), ledger).is_empty
    assert ids(drain(TrialQueue(study_of(3), ledger))) == ["trial-002", "trial-003"]


def test_exhausted_space_is_reported_once(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = study_of(3, baselines={})
    ledger = open_ledger(study, journal)
    reported: list[int] = []
    queue = TrialQueue(study, ledger, reported.append)
    next_of(queue)
    # As if the sampler only repeated earlier trials.
    monkeypatch.setattr(ledger, "start_proposed", lambda: None)
    was_empty = queue.is_empty
    assert queue.next() is None
    assert (was_empty, queue.is_empty) == (False, True)
    assert queue.next() is None
    assert reported == [1]


def test_number_of_proposals_is_limited_by_space(journal: Path) -> None:
    study = study_of(50, baselines={})
    reported: list[int] = []
    started = drain(TrialQueue(study, open_ledger(study, journal), reported.append))
    assert sorted(trial.params["training.seed"] for trial in started) == [1, 2, 3]
    assert reported == []


@pytest.mark.parametrize("objectives", [("mr2_all",), ("mr2_all", "flops"), ("mr2_all", "num_params", "flops")])
@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "front"])
def test_one_two_and_three_objectives(journal: Path, objectives: tuple[str, ...], sampler: str) -> None:
    space = {"training.learning_rate": {"type": "float", "low": 0.001, "high": 0.1, "log": True}}
    raw = {"name": "x", "base": {"teacher": None}, "space": space, "objectives": objectives, "baselines": {"a": {}}}
    study = StudyConfig.model_validate({**raw, "search": {"num_trials": 4, "startup_trials": 2, "sampler": sampler}})
    queue = TrialQueue(study, open_ledger(study, journal))
    while not queue.is_empty:
        trial = next_of(queue)
        # The first of them is the best in all objectives.
        number = len(queue.ledger.trials())
        queue.ledger.finish(queue.ledger.record_metrics(trial, dict.fromkeys(objectives, number / 10)))
    assert ids(front(queue.ledger.trials(), objectives)) == ["baseline-a"]
    assert len(queue.ledger.trials()) == 5
