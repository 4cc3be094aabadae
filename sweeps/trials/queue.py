"""Which trial runs next: interrupted ones, the baselines, what the sampler proposes, and last the confirmations."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from hkd.metric_names import ROLE_CONFIRMATION
from sweeps.settings.space import num_proposals
from sweeps.settings.study import StudyConfig
from sweeps.trials.confirmation import trainings_left
from sweeps.trials.patience import is_patience_over
from sweeps.trials.records.ledger import Ledger
from sweeps.trials.records.trial import LedgerTrial


class TrialQueue:
    """The trials of a study that are left to run; each is recorded in the ledger as it leaves the queue.

    Args:
        on_exhausted: Called once, with the number of proposed trials, if the sampler finds no further one.
        test_images: Hash of the annotations of the test images, on which winners are confirmed; None without these.
    """

    def __init__(
        self,
        study: StudyConfig,
        ledger: Ledger,
        on_exhausted: Callable[[int], None] = lambda _: None,
        *,
        test_images: str | None = None,
    ) -> None:
        self._study = study
        self.ledger = ledger
        self._on_exhausted = on_exhausted
        self._interrupted = deque(ledger.running())
        self._is_exhausted = False
        """Whether the sampler found no trial that was not run before."""
        self._has_no_patience = False
        self.on_patience: Callable[[], None] = lambda: None
        """Called once if the search ends because of ``search.patience``."""
        self.test_images = test_images
        self.on_confirmation: Callable[[int], None] = lambda _: None
        """Called with the number of trainings when a confirmation starts or is resumed."""
        self._confirmations: deque[tuple[LedgerTrial, int]] | None = None
        """Trials to train again, and their seeds; None before the front is final."""
        self._is_confirming = False

    @property
    def is_empty(self) -> bool:
        """Whether no trial is left to start or to resume."""
        if self._interrupted or not self._is_search_over():
            return False
        return self._has_final_front() and not self._confirmations_left()

    def next(self) -> LedgerTrial | None:
        """Start the next trial, or another attempt at an interrupted one; None if none can be started now."""
        if self._interrupted:
            return self.ledger.restart(self._interrupted.popleft(), self.test_images)
        if baselines := self._baselines_left():
            return self.ledger.start_baseline(baselines[0], self._study.baselines[baselines[0]])
        if self._is_search_over():
            return self._next_confirmation()
        proposed = self.ledger.start_proposed()
        if proposed is None:
            self._is_exhausted = True
            self._on_exhausted(self.num_proposed)
        return proposed

    def put_back(self, trial: LedgerTrial) -> None:
        """Queue another attempt at a trial whose worker was lost."""
        self._interrupted.append(trial)

    def _is_search_over(self) -> bool:
        """Whether no baseline and no proposal is left to start; some may be running."""
        if self._baselines_left():
            return False
        planned = num_proposals(self._study.space, self._study.search.num_trials)
        return self._is_exhausted or self.num_proposed >= planned or self._is_patience_over()

    def _is_patience_over(self) -> bool:
        patience = self._study.search.patience
        if not self._has_no_patience and is_patience_over(self.ledger.trials(), self._study.objectives, patience):
            self._has_no_patience = True
            self.on_patience()
        return self._has_no_patience

    def _has_final_front(self) -> bool:
        """Whether no trial that runs can change the front."""
        if not self._study.confirm_seeds:
            return True
        return all(trial.role == ROLE_CONFIRMATION for trial in self.ledger.running())

    def _confirmations_left(self) -> deque[tuple[LedgerTrial, int]]:
        if self._confirmations is None:
            self._confirmations = deque(
                trainings_left(
                    self.ledger.trials(),
                    self.ledger.confirmations(),
                    objectives=self._study.objectives,
                    num_seeds=self._study.confirm_seeds,
                    base_seed=self._study.base.training.seed,
                    test_images=self.test_images,
                )
            )
        return self._confirmations

    def _next_confirmation(self) -> LedgerTrial | None:
        if not self._has_final_front() or not self._confirmations_left():
            return None
        left = self._confirmations_left()
        if not self._is_confirming:
            self._is_confirming = True
            self.on_confirmation(len(left))
        return self.ledger.start_confirmation(*left.popleft(), self.test_images)

    def _baselines_left(self) -> list[str]:
        started = self.ledger.started_baselines
        return [name for name in self._study.baselines if name not in started]

    @property
    def num_proposed(self) -> int:
        """Proposed trials that were started."""
        return self.ledger.num_proposed
