from __future__ import annotations

import pickle
from collections.abc import Mapping
from typing import Any, cast

from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from sweeps.scheduling.rules import Decision, EarlyStopping, Rule, Verdict
from sweeps.scheduling.rungs import Candidate, Rungs
from sweeps.scheduling.tune_scheduler import RungScheduler, TrialReport


def report(trial: object, result: Mapping[str, Any]) -> TrialReport | None:
    if "epoch" not in result:
        return None
    return TrialReport(Candidate(str(trial)), result["epoch"], result.get("measured"))


def scheduler(rule: Rule, stopped: list[tuple[TrialReport, Verdict]]) -> RungScheduler:
    return RungScheduler(EarlyStopping([1, 3], rule), report, lambda *reason: stopped.append(reason))


def decide(scheduler: RungScheduler, trial: str, result: dict[str, Any]) -> str:
    return scheduler.on_trial_result(cast("Any", None), cast("Trial", trial), result)


def stop_b(rungs: Rungs, trial_id: str, epoch: int) -> Verdict:
    return Verdict(Decision.STOP if trial_id == "b" and epoch == 3 else Decision.CONTINUE, epoch, ("a",))


def test_stops_what_the_rule_rejects_and_reports_it_before() -> None:
    stopped: list[tuple[TrialReport, Verdict]] = []
    tune_scheduler = scheduler(stop_b, stopped)
    for trial in ("a", "b"):
        assert decide(tune_scheduler, trial, {"epoch": 1, "measured": (0.5,)}) == TrialScheduler.CONTINUE
        assert decide(tune_scheduler, trial, {"epoch": 2}) == TrialScheduler.CONTINUE
    assert decide(tune_scheduler, "a", {"epoch": 3, "measured": (0.5,)}) == TrialScheduler.CONTINUE
    assert not stopped
    assert decide(tune_scheduler, "b", {"epoch": 3, "measured": (0.6,)}) == TrialScheduler.STOP
    assert stopped == [
        (TrialReport(Candidate("b"), 3, (0.6,)), Verdict(Decision.STOP, 3, ("a",))),
    ]


def test_trials_that_are_not_compared_continue() -> None:
    assert decide(scheduler(stop_b, []), "b", {}) == TrialScheduler.CONTINUE


def test_tune_can_pickle_it() -> None:
    pickle.loads(pickle.dumps(scheduler(lambda *_: Verdict(Decision.STOP), [])))
