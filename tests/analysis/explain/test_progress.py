from __future__ import annotations

from dataclasses import replace

import pytest

from analysis.explain.progress import progress_of, trained_epochs
from tests.analysis.studies import record, records

PLANNED = {"training.total_epochs": 4}
REFERENCE = (1.0, 4e6, 4e9)


def test_hypervolume_grows_with_trials_in_the_order_of_their_ends() -> None:
    # By (1 - mr2) (1 - params / 4e6) (1 - flops / 4e9): late 0.5 x 0.5 x 0.5, early 0.8 x 0.25 x 0.25, and what both
    # dominate, 0.5 x 0.25 x 0.25, once.
    late = replace(record("late", 0.5, 2e6, 2e9, params=PLANNED), ended_at=200.0)
    early = replace(record("early", 0.2, 3e6, 3e9, params=PLANNED), ended_at=100.0)
    beaten = replace(record("beaten", 0.6, 3e6, 3e9, params=PLANNED), ended_at=300.0)
    running = record("running", 0.1, 1e6, 1e9, status="running", not_counted_because="unfinished")
    progress = progress_of(records([late, early, beaten, running]), REFERENCE)
    steps = progress.hypervolume
    assert [(step.trial_id, step.num_trials, step.epochs, step.seconds) for step in steps] == [
        ("early", 1, 4, 30.0),
        ("late", 2, 8, 60.0),
        ("beaten", 3, 12, 90.0),
    ]
    assert [step.value for step in steps] == pytest.approx([0.05, 0.125 + 0.05 - 0.03125, 0.14375])


def test_compute_saved_by_stopped_trials() -> None:
    # Stopped after one of four epochs, of 30 s: 3 epochs and 90 s are saved.
    stopped = replace(
        record("s", 0.5, 1e6, 1e9, params=PLANNED, status="stopped", not_counted_because="stopped"),
        budget_fraction=0.25,
        epoch=1,
    )
    failed = replace(stopped, trial_id="f", status="failed")
    progress = progress_of(records([record("t", 0.4, 1e6, 1e9, params=PLANNED), stopped, failed]), REFERENCE)
    compute = progress.compute
    assert (compute.epochs, compute.seconds, compute.num_stopped) == (6, 90.0, 1)
    assert (compute.saved_epochs, compute.saved_seconds, compute.stops) == (3, 90.0, ((1, 1),))
    assert compute.saved_share == pytest.approx(3 / 9)
    curves = {curve.trial_id: curve for curve in progress.curves}
    assert (curves["s"].stopped_at, curves["t"].stopped_at, curves["f"].stopped_at) == (1, None, None)


def test_epochs_of_a_trial_whose_plan_is_unknown_are_those_evaluated() -> None:
    assert trained_epochs(record("t", 0.4, 1e6, 1e9)) == 4
    assert trained_epochs(replace(record("t", 0.4, 1e6, 1e9), epoch=None)) == 0
