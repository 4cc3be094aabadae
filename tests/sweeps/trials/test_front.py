"""The front of a study."""

from __future__ import annotations

from sweeps.trials.front import front
from sweeps.trials.records.trial import LedgerTrial

OBJECTIVES = ("mr2_reasonable", "flops")


def trial_with(trial_id: str, values: tuple[float, float], status: str = "finished") -> LedgerTrial:
    metrics = dict(zip(OBJECTIVES, values, strict=True))
    return LedgerTrial(trial_id, "trial", None, {}, status, 1, None, 0, metrics, None, 0)


def ids(trials: list[LedgerTrial]) -> list[str]:
    return [trial.trial_id for trial in trials]


def test_front_holds_non_dominated_finished_trials_by_first_objective() -> None:
    trials = [
        trial_with("dominated", (0.5, 5.0)),  # by "good": as many operations, fewer misses
        trial_with("good", (0.4, 5.0)),
        trial_with("small", (0.9, 1.0)),
        trial_with("twin", (0.4, 5.0)),  # equal to "good": neither dominates the other
        trial_with("stopped", (0.0, 0.0), status="stopped"),
    ]
    assert ids(front(trials, OBJECTIVES)) == ["good", "twin", "small"]
    assert front([], OBJECTIVES) == []


def test_front_considers_given_objectives_only() -> None:
    trials = [trial_with("good", (0.4, 5.0)), trial_with("small", (0.9, 1.0))]
    assert ids(front(trials, ("mr2_reasonable",))) == ["good"]
    assert ids(front(trials, ("flops",))) == ["small"]
    assert ids(front(trials, ("flops", "mr2_reasonable"))) == ["small", "good"]
