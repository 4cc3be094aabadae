"""Hands the study's next trial to Ray Tune whenever it has room for one.

Tune's own ``OptunaSearch`` (ray 2.60 with optuna 5) proposes well, but cannot be resumed, and mistakes ends of
trials: one that was stopped early is told to the sampler as complete, one that reports NaN stays running for ever,
points to evaluate are queued again each time a kept study is opened, and trials that ran when the process was killed
are never finished. Its state is a pickle, written every ten seconds. What is left to run is therefore decided from the
ledger.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray.tune.search import Searcher

from sweeps.trials.worker import SPEC, TrialSpec

NextTrial = Callable[[], TrialSpec | None]
"""Gives the next trial; None where there is none now."""


class Proposals(Searcher):
    """Tune's way to ask for trials.

    Args:
        next_trial: Asked whenever there is room.
        is_finished: Whether no trial will come any more. As long as one runs, it may be lost with its machine and come
            again.
    """

    def __init__(self, next_trial: NextTrial, is_finished: Callable[[], bool]) -> None:
        super().__init__()
        self._next_trial = next_trial
        self._is_finished = is_finished

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]  # noqa: ARG002
        """Called by Tune; its own id of the trial is of no interest."""
        if self._is_finished():
            return Searcher.FINISHED
        spec = self._next_trial()
        return None if spec is None else {SPEC: spec}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Called by Tune; the recorder tells the ledger."""

    def save(self, checkpoint_path: str) -> None:
        """Called by Tune; the state is the ledger's, and is on disk already."""
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        """Never called: studies are resumed from the ledger."""

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles its settings for Tuner.restore, which is not used; databases and terminals cannot be pickled.
        return {}
