"""Ray Tune's interface to early stopping."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from sweeps.scheduling.rules import Decision, EarlyStopping, Verdict
from sweeps.scheduling.rungs import Candidate

if TYPE_CHECKING:
    from ray.tune.execution.tune_controller import TuneController
    from ray.tune.experiment import Trial


@dataclass(frozen=True)
class TrialReport:
    """A result of a trial, as early stopping needs it."""

    candidate: Candidate
    epoch: int
    """Epochs trained."""
    measured: tuple[float, ...] | None
    """Measured objectives; None where the trial was not evaluated after this epoch."""


class RungScheduler(FIFOScheduler):
    """Starts trials in the order in which they were proposed, and stops those that a rule rejects.

    Args:
        read: Returns what a trial of Tune reported, from the result that Tune hands to schedulers (nested keys are
            joined by ``/``); None for one that is not compared with others.
        on_stop: Called with a trial's report and the reason before it is stopped.
    """

    def __init__(
        self,
        early_stopping: EarlyStopping,
        read: Callable[[Trial, Mapping[str, Any]], TrialReport | None],
        on_stop: Callable[[TrialReport, Verdict], None] = lambda _, __: None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._early_stopping, self._read, self._on_stop = early_stopping, read, on_stop

    # Tune passes the controller to every method.
    def on_trial_result(self, tune_controller: TuneController, trial: Trial, result: dict[str, Any]) -> str:  # noqa: ARG002
        """Called by Tune after each epoch but a trial's last."""
        report = self._read(trial, result)
        if report is None:
            return TrialScheduler.CONTINUE
        verdict = self._early_stopping.report(report.candidate, report.epoch, report.measured)
        assert verdict.decision is not Decision.PAUSE, "a paused trial would occupy one of the study's places"
        if verdict.decision is Decision.CONTINUE:
            return TrialScheduler.CONTINUE
        self._on_stop(report, verdict)
        return TrialScheduler.STOP

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles its settings for Tuner.restore, which is not used.
        return {}
