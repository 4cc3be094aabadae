"""What a study prints and closes when its cluster is lost; with a real one: tests/end_to_end/test_lost_cluster.py."""

from __future__ import annotations

import re
from typing import Any

import pytest

from sweeps import ready_teacher as teacher_module
from tests.sweeps.study_doubles import Place, TuneDouble


def test_loss_of_the_cluster_names_the_command_and_leaves_no_run_open(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    statuses: list[dict[str, tuple[str, str]]] = []
    prepare = teacher_module.prepare_teacher

    def lose_before_trials(*given: Any) -> Any:
        place.lose_cluster("no answer")
        statuses.append(place.status)
        return prepare(*given)

    def lose_with_trials(tune: TuneDouble) -> None:
        tune.start_one()
        place.lose_cluster("no answer")
        statuses.append(place.status)

    place.trials = lose_with_trials
    monkeypatch.setattr(teacher_module, "prepare_teacher", lose_before_trials)
    place.run()
    assert statuses == [{}, {"x": ("stopped", "KILLED"), "baseline-b": ("running", "KILLED")}]
    before, with_trials = re.findall(r"no answer(.*)\nResume with:  THE COMMAND", place.out.getvalue())
    assert "epochs of the teacher are saved" in before
    assert "0 trials ended, 1 resume" in with_trials
