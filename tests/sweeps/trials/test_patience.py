"""When a search ends because it finds nothing better."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sweeps.settings.study import StudyConfig
from sweeps.trials.patience import is_patience_over
from sweeps.trials.queue import TrialQueue
from sweeps.trials.records.ledger import open_ledger
from sweeps.trials.records.trial import LedgerTrial

OBJECTIVES = ("mr2_reasonable", "num_params")


def trial(miss_rate: float, num_params: float, role: str = "trial", status: str = "finished") -> LedgerTrial:
    metrics = {"mr2_reasonable": miss_rate, "num_params": num_params}
    return LedgerTrial("trial", role, None, {}, status, 1, None, 2, metrics, None, 0)


BASELINE = trial(0.5, 10, "baseline")
BETTER, SMALLER, WORSE, EQUAL = trial(0.4, 10), trial(0.6, 5), trial(0.7, 20), trial(0.4, 10)
RUNNING = trial(0.1, 1, status="running")
STOPPED, FAILED = trial(0.1, 1, status="stopped"), trial(0.1, 1, status="failed")


@pytest.mark.parametrize(
    ("trials", "is_over"),
    [
        ([BASELINE, WORSE], False),
        ([BASELINE, WORSE, WORSE], True),
        # A smaller student enlarges the front, though it misses more.
        ([BASELINE, WORSE, SMALLER], False),
        ([BASELINE, BETTER, EQUAL, STOPPED], True),
        # A failed trial says nothing.
        ([BASELINE, BETTER, EQUAL, FAILED], False),
        ([BASELINE, BETTER, EQUAL, FAILED, WORSE], True),
        # A stopped trial is no part of the front: the next one is compared with finished trials.
        ([BASELINE, WORSE, STOPPED, SMALLER], False),
        # Trials that are stopped end before the better ones that were started with them.
        ([BASELINE, RUNNING, STOPPED, STOPPED, STOPPED], False),
        ([BASELINE, WORSE, STOPPED, RUNNING, SMALLER], True),
        # The first trial of a study without baselines enlarges it.
        ([WORSE, WORSE], False),
    ],
)
def test_patience_of_two(trials: list[LedgerTrial], is_over: bool) -> None:
    assert is_patience_over(trials, OBJECTIVES, 2) is is_over


def test_without_patience_a_search_runs_all_trials() -> None:
    assert not is_patience_over([BASELINE, *[WORSE] * 100], OBJECTIVES, None)


def test_one_objective() -> None:
    assert is_patience_over([BASELINE, replace(WORSE)], ("mr2_reasonable",), 1)
    assert not is_patience_over([BASELINE, BETTER], ("mr2_reasonable",), 1)


def test_queue_ends_the_search(tmp_path: Path) -> None:
    space = {"training.learning_rate": {"type": "float", "low": 0.1, "high": 0.2}}
    raw = {"name": "x", "base": {"teacher": None}, "space": space, "search": {"num_trials": 50, "patience": 3}}
    study = StudyConfig.model_validate({**raw, "objectives": OBJECTIVES})
    queue = TrialQueue(study, open_ledger(study, tmp_path / "journal"))
    announced: list[str] = []
    queue.on_patience = lambda: announced.append("over")
    while not queue.is_empty:
        started = queue.next()
        assert started is not None
        queue.ledger.finish(queue.ledger.record_metrics(started, {"mr2_reasonable": 0.5, "num_params": 10}))
    # The first one is the front, and three more are equal to it.
    assert len(queue.ledger.trials()) == 4
    assert announced == ["over"]
    assert queue.next() is None
