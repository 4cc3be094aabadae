"""Which trial runs next: interrupted ones first, then the baselines, then what the sampler proposes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from hkd.metric_names import ROLE_TRIAL
from sweeps.settings.space import num_proposals
from sweeps.settings.study import StudyConfig
from sweeps.trials.ledger import Ledger, LedgerTrial


class TrialQueue:
    """The trials of a study that are left to run; each is recorded in the ledger as it leaves the queue.

    Args:
        on_exhausted: Called once, with the number of proposed trials, if the sampler finds no further one.
    """

    def __init__(
        self, study: StudyConfig, ledger: Ledger, on_exhausted: Callable[[int], None] = lambda _: None
    ) -> None:
        self._study = study
        self.ledger = ledger
        self._on_exhausted = on_exhausted
        self._interrupted = deque(ledger.running())
        self._is_exhausted = False
        """Whether the sampler found no trial that was not run before."""

    @property
    def is_empty(self) -> bool:
        """Whether no trial is left to start or to resume."""
        if self._interrupted or self._baselines_left():
            return False
        planned = num_proposals(self._study.space, self._study.search.num_trials)
        return self._is_exhausted or self._num_proposed() >= planned

    def next(self) -> LedgerTrial | None:
        """Start the next trial, or another attempt at an interrupted one; None if no trial is left."""
        if self._interrupted:
            return self.ledger.restart(self._interrupted.popleft())
        if baselines := self._baselines_left():
            return self.ledger.start_baseline(baselines[0], self._study.baselines[baselines[0]])
        if self.is_empty:
            return None
        proposed = self.ledger.start_proposed()
        if proposed is None:
            self._is_exhausted = True
            self._on_exhausted(self._num_proposed())
        return proposed

    def put_back(self, trial: LedgerTrial) -> None:
        """Queue another attempt at a trial whose worker was lost."""
        self._interrupted.append(trial)

    def _baselines_left(self) -> list[str]:
        started = {trial.baseline for trial in self.ledger.trials()}
        return [name for name in self._study.baselines if name not in started]

    def _num_proposed(self) -> int:
        return sum(trial.role == ROLE_TRIAL for trial in self.ledger.trials())
