from __future__ import annotations

from sweeps.trials.ends import EndGroup, ends_of
from sweeps.trials.records.trial import LedgerTrial


def trial(trial_id: str, status: str, trained: int, planned: int = 16) -> LedgerTrial:
    metrics = {"epoch": trained, "budget_fraction": trained / planned} if trained else {}
    return LedgerTrial(trial_id, "trial", None, {}, status, 1, None, 0, metrics, None, 0)


def test_trials_are_grouped_by_how_they_ended() -> None:
    ends = ends_of(
        [
            trial("a", "failed", 0),
            trial("b", "stopped", 9),
            trial("c", "finished", 16),
            trial("d", "stopped", 1),
            trial("e", "stopped", 1),
            trial("f", "finished", 7, planned=7),  # a baseline with its own schedule
        ],
        planned_epochs=16,
    )
    assert ends.groups == (
        EndGroup("finished", None, ("c", "f"), 23, 23),
        EndGroup("stopped", 1, ("d", "e"), 2, 32),
        EndGroup("stopped", 9, ("b",), 9, 16),
        EndGroup("failed", None, ("a",), 0, 16),
    )
    # Not trained: 15 + 15 + 7 epochs of the three that were stopped. Full: 16 + 7 of the finished, 3 x 16.
    assert (ends.num_stopped, ends.saved_epochs, ends.full_epochs) == (3, 37, 71)


def test_nothing_is_saved_where_none_is_stopped() -> None:
    ends = ends_of([trial("a", "finished", 16), trial("b", "failed", 3)], 16)
    assert (ends.num_stopped, ends.saved_epochs, ends.full_epochs) == (0, 0, 16)
