"""Best values, hypervolume and front of a study in MLflow: each step once, as trials end and studies resume."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.entities import Run

from hkd.config import TrialConfig
from hkd.dominance import hypervolume, non_dominated
from hkd.models.cost import Cost
from sweeps.tracking.front import GrowingFront
from sweeps.tracking.tracker import Tracker
from sweeps.trials.records.trial import EpochRecord, LedgerTrial
from tests.sweeps.mlflow_double import MlflowDouble

OBJECTIVES = ("mr2_reasonable", "num_params")
REFERENCE = {"mr2_reasonable": 1.0, "num_params": 1000.0}
COST = Cost(num_params=1000, flops=4_000_000_000)
TRIAL = LedgerTrial("trial-001", "trial", None, {}, "running", 1, None, 0, {}, None, 0)


def ended(number: int, miss_rate: float, num_params: float, status: str = "finished") -> LedgerTrial:
    """A trial that ended at the time ``number``."""
    metrics = {"mr2_reasonable": miss_rate, "num_params": num_params, "epoch": 1}
    epochs = {1: EpochRecord(metrics, time_ms=number)}
    return replace(TRIAL, trial_id=f"trial-{number:03d}", status=status, metrics=metrics, epochs=epochs)


def opened(store: MlflowDouble, *so_far: LedgerTrial) -> Tracker:
    tracker = Tracker(store.client(), "sqlite:///mlflow.db", "study", None)
    tracker.start_study({}, {}, "")
    tracker.follow_front(OBJECTIVES, REFERENCE, so_far)
    return tracker


def run_trial(tracker: Tracker, trial: LedgerTrial) -> None:
    tracker.start_trial(replace(trial, status="running", epochs={}), TrialConfig(), COST)
    tracker.end_trial(trial, None)
    tracker.flush()


def history(store: MlflowDouble, metric: str) -> list[tuple[int, float]]:
    return [(step, value) for name, step, value in store.named("study").history if name == metric]


def tags(store: MlflowDouble) -> dict[str, str | None]:
    return {run.name: run.tags.get("hkd.on_front") for run in store.runs.values() if run.name != "study"}


def test_front_is_logged_as_trials_end() -> None:
    store = MlflowDouble()
    tracker = opened(store)
    run_trial(tracker, ended(1, 0.5, 500))
    run_trial(tracker, ended(2, 0.4, 800))
    run_trial(tracker, ended(3, 0.9, 100, status="failed"))
    assert tags(store) == {"trial-001": "true", "trial-002": "true", "trial-003": None}
    # Better than the second in both, so that this leaves the front.
    run_trial(tracker, ended(4, 0.3, 600))
    assert tags(store) == {"trial-001": "true", "trial-002": "false", "trial-003": None, "trial-004": "true"}
    assert history(store, "finished_trials") == [(1, 1), (2, 2), (3, 3)]
    assert history(store, "best_mr2_reasonable") == [(1, 0.5), (2, 0.4), (3, 0.3)]
    assert not history(store, "best_num_params")  # known before any training
    # In the unit square: 0.5 * 0.5; 0.02 more from the second; 0.25 + 0.7 * 0.4 - 0.5 * 0.4.
    assert history(store, "hypervolume") == [(1, 0.25), (2, pytest.approx(0.27)), (3, pytest.approx(0.33))]


def test_resumed_study_logs_what_is_missing_once() -> None:
    store = MlflowDouble()
    first, second, third = ended(1, 0.5, 500), ended(2, 0.4, 800), ended(3, 0.3, 600)
    tracker = opened(store)
    run_trial(tracker, first)
    store.is_unreachable = True
    tracker.end_trial(second, None)  # never written
    store.is_unreachable = False
    resumed = opened(store, second, first)  # in any order
    resumed.flush()
    assert history(store, "finished_trials") == [(1, 1), (2, 2)]
    run_trial(resumed, third)
    again = opened(store, first, second, third)
    again.flush()
    assert history(store, "finished_trials") == [(1, 1), (2, 2), (3, 3)]
    assert history(store, "best_mr2_reasonable") == [(1, 0.5), (2, 0.4), (3, 0.3)]
    assert tags(store) == {"trial-001": "true", "trial-003": "true"}


def test_lost_response_repeats_no_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sweeps.tracking.background.RETRY_SECONDS", 0.0)
    store = MlflowDouble()
    tracker = opened(store)
    tracker.start_trial(TRIAL, TrialConfig(), COST)
    tracker.flush()
    store.loses_responses = True
    tracker.end_trial(ended(1, 0.5, 500), None)
    while tracker.num_pending:
        tracker.flush()
    assert history(store, "finished_trials") == [(1, 1)]
    assert tags(store) == {"trial-001": "true"}


def test_trials_that_ended_before_any_write_have_tags(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MlflowDouble()
    is_open, create_run = threading.Event(), store.create_run

    def wait(*arguments: Any, **named: Any) -> Run:
        assert is_open.wait(60)
        return create_run(*arguments, **named)

    monkeypatch.setattr(store, "create_run", wait)
    tracker = opened(store)
    for trial in (ended(1, 0.5, 500), ended(2, 0.4, 800), ended(3, 0.3, 600)):
        tracker.start_trial(replace(trial, status="running", epochs={}), TrialConfig(), COST)
        tracker.end_trial(trial, None)
    is_open.set()
    tracker.flush()
    assert tags(store) == {"trial-001": "true", "trial-002": "false", "trial-003": "true"}
    assert history(store, "finished_trials") == [(1, 1), (2, 2), (3, 3)]


def test_confirmations_do_not_count() -> None:
    store = MlflowDouble()
    run_trial(opened(store), replace(ended(1, 0.5, 500), role="confirmation"))
    assert history(store, "finished_trials") == []


def test_objective_without_reference_has_no_hypervolume() -> None:
    front = GrowingFront(("mr2_reasonable", "latency_ms"), {"mr2_reasonable": 1.0})
    front.add(replace(TRIAL, metrics={"mr2_reasonable": 0.5, "latency_ms": 3.0}))
    assert front.metrics() == {"finished_trials": 1, "best_mr2_reasonable": 0.5}


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=12))
def test_growing_front_equals_front_of_all(points: list[tuple[int, int]]) -> None:
    front = GrowingFront(OBJECTIVES, {"mr2_reasonable": 5.0, "num_params": 5.0})
    on_front: dict[str, bool] = {}
    for number, point in enumerate(points):
        changed = front.add(ended(number, float(point[0]), float(point[1])))
        on_front |= {name: name in front.members for name in {*changed, f"trial-{number:03d}"}}
    array = np.array(points, dtype=np.float64)
    expected = non_dominated(array).tolist()
    assert on_front == {f"trial-{number:03d}": is_kept for number, is_kept in enumerate(expected)}
    assert front.metrics()["hypervolume"] == pytest.approx(hypervolume(array / 5, np.ones(2)))
