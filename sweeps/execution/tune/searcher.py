"""Ray Tune's interface to the trial queue.

Tune's ``OptunaSearch`` (ray 2.60 with optuna 5) cannot be resumed and records wrong ends: it reports a trial that was
stopped early to the sampler as complete, keeps one that reports NaN running, queues ``points_to_evaluate`` again each
time a stored study is opened, and never ends trials that ran when the process was killed. Its state is a pickle that is
written every ten seconds. The ledger decides instead.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray.tune.search import Searcher

from sweeps.trials.worker import SPEC, TrialSpec

NextTrial = Callable[[], TrialSpec | None]
"""Returns the next trial; None if no trial is queued now."""


class QueueSearcher(Searcher):
    """Suggests the next trial of the queue.

    Args:
        next_trial: Called whenever Tune has resources for a trial.
        is_finished: Whether no trial will follow. While one runs, its worker may be lost and the trial queued again.
    """

    def __init__(self, next_trial: NextTrial, is_finished: Callable[[], bool]) -> None:
        super().__init__()
        self._next_trial = next_trial
        self._is_finished = is_finished

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]  # noqa: ARG002
        """Called by Tune with its own id of the trial, which is not ours."""
        if self._is_finished():
            return Searcher.FINISHED
        spec = self._next_trial()
        return None if spec is None else {SPEC: spec}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Called by Tune; the recorder updates the ledger."""

    def save(self, checkpoint_path: str) -> None:
        """Called by Tune; the ledger, on disk already, holds the state."""
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        """Never called: studies are resumed from the ledger."""

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles its settings for Tuner.restore, which is not used; databases and consoles cannot be pickled.
        return {}
