"""Tune's interface to the queue."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import cast

from ray.tune.search import Searcher

from sweeps.execution.tune.searcher import QueueSearcher
from sweeps.trials.worker import SPEC, TrialSpec


def test_searcher_finishes_only_when_no_running_trial_can_be_queued_again(tmp_path: Path) -> None:
    specs: list[TrialSpec | None] = [cast("TrialSpec", "first"), None]
    finished = [False, False, True]
    searcher = QueueSearcher(lambda: specs.pop(0), lambda: finished.pop(0))
    assert searcher.suggest("a") == {SPEC: "first"}
    assert searcher.suggest("b") is None  # nothing now
    assert searcher.suggest("c") == Searcher.FINISHED
    searcher.save(str(tmp_path / "state"))
    assert (tmp_path / "state").read_bytes() == b""


def test_searcher_can_be_pickled() -> None:
    pickle.dumps(QueueSearcher(lambda: None, lambda: True))
