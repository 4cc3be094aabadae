"""What a rule for stopping trials decides, and the object that asks it after each result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from sweeps.scheduling.rungs import Candidate, Rungs


class Decision(Enum):
    """What happens to a trial after a result."""

    CONTINUE = "continue"
    STOP = "stop"
    PAUSE = "pause"
    """Wait, without a worker, until the rule decides otherwise."""


@dataclass(frozen=True)
class Verdict:
    """A decision, and why."""

    decision: Decision
    epoch: int | None = None
    """The latest rung at which the trial was compared."""
    dominators: tuple[str, ...] = ()
    """Ids of the trials because of which it is stopped, where the rule names them."""


CONTINUE = Verdict(Decision.CONTINUE)

Rule = Callable[[Rungs, str, int], Verdict]
"""From all results, a trial's id and its trained epochs to a verdict. Rules depend on nothing else: a study that is
resumed with the same results decides alike."""


class EarlyStopping:
    """Records results and asks a rule.

    Args:
        epochs: The rungs.
    """

    def __init__(self, epochs: Sequence[int], rule: Rule) -> None:
        self.rungs = Rungs(epochs)
        self._rule = rule

    def report(self, candidate: Candidate, epoch: int, measured: Sequence[float] | None) -> Verdict:
        """What to do with a trial after an epoch.

        A trial that passed a rung before its peers arrived there is compared with them again after each epoch.

        Args:
            epoch: Epochs trained, fewer than planned.
            measured: Measured objectives; None where the trial was not evaluated after this epoch.
        """
        if measured is not None:
            self.rungs.record(candidate, epoch, measured)
        return self.verdict(candidate.trial_id, epoch)

    def verdict(self, trial_id: str, epoch: int) -> Verdict:
        """What to do with a trial that has trained this many epochs, running or paused."""
        candidate = self.rungs.candidates.get(trial_id)
        if candidate is None or candidate.is_protected:
            return CONTINUE
        return self._rule(self.rungs, trial_id, epoch)

    def fail(self, trial_id: str) -> None:
        """Ignore a trial that failed."""
        self.rungs.remove(trial_id)
