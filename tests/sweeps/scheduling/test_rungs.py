from __future__ import annotations

import math

import pytest

from sweeps.scheduling.rungs import Candidate, Rungs, rung_epochs


@pytest.mark.parametrize(
    ("total", "first", "factor", "expected"),
    [
        (16, 1, 3.0, (1, 3, 9)),
        (9, 1, 3.0, (1, 3)),  # the last epoch is no rung
        (16, 2, 2.0, (2, 4, 8)),
        (10, 4, 1.5, (4, 6, 9)),
        (5, 1, 1.2, (1, 2, 3, 4)),  # 1, 1.2, 1.44, 1.728, 2.07, 2.49, 2.99, 3.58, 4.3: rounded, each once
        (4, 4, 3.0, ()),
    ],
)
def test_rungs_grow_by_the_factor(total: int, first: int, factor: float, expected: tuple[int, ...]) -> None:
    assert rung_epochs(total, first, factor) == expected


def test_repeated_epoch_replaces_the_result_of_its_trial() -> None:
    rungs = Rungs([4, 2])
    candidate = Candidate("trial-001", (10.0,))
    rungs.record(candidate, 2, [0.5])
    rungs.record(candidate, 2, [0.4])  # another attempt, after its worker was lost
    rungs.record(candidate, 3, [0.3])  # not a rung
    rungs.record(candidate, 4, [0.2])
    assert rungs.epochs == (2, 4)
    assert rungs.at(2).measured.tolist() == [[0.4]]
    assert rungs.reached_by("trial-001") == [4, 2]
    assert rungs.reached_by("trial-002") == []


def test_many_results_keep_their_order_and_settings() -> None:
    rungs = Rungs([1])
    rungs.record(Candidate("baseline-a", (0.5, 0.5)), 1, [0.9])  # outside of the searched space
    for i in range(20):
        rungs.record(Candidate(f"trial-{i}", (float(i), 2.0 * i), (i / 20, 0.5, 0.5)), 1, [i / 10])
    results = rungs.at(1)
    assert list(results.trial_ids) == ["baseline-a", *(f"trial-{i}" for i in range(20))]
    assert results.measured[1:, 0].tolist() == [i / 10 for i in range(20)]
    assert results.costs[20].tolist() == [19.0, 38.0]
    assert results.settings[20].tolist() == [0.95, 0.5, 0.5]
    assert all(math.isnan(value) for value in results.settings[0])
    assert rungs.row(1, "trial-7") == 8


def test_nan_and_failed_trials_are_infinite() -> None:
    rungs = Rungs([1, 2])
    rungs.record(Candidate("a"), 1, [math.nan])
    for epoch in (1, 2):
        rungs.record(Candidate("b"), epoch, [0.1])
    rungs.remove("b")
    rungs.remove("c")  # failed before its first rung
    assert rungs.at(1).measured.tolist() == [[math.inf], [math.inf]]
    assert rungs.at(2).measured.tolist() == [[math.inf]]
    assert rungs.failed == {"b", "c"}
