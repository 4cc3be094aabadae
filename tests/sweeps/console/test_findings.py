"""What the trials of a study show, from the ledger's records of them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from sweeps.console.findings import PassedTeacher, find
from sweeps.settings.study import NO_DISTILLATION, StudyConfig
from sweeps.trials.records.trial import LedgerTrial
from tests.sweeps.tiny import tiny_trial

TEACHER = {"mr2_reasonable": 0.3, "mr2_all": 0.6}


@pytest.fixture
def study(tmp_path: Path) -> StudyConfig:
    return StudyConfig.model_validate({"name": "x", "base": tiny_trial(tmp_path), "storage_path": tmp_path})


def trial(trial_id: str, mr2: float, num_params: float = 1e6, **params: Any) -> LedgerTrial:
    metrics = {"mr2_reasonable": mr2, "mr2_all": 0.5, "num_params": num_params, "flops": 1e9}
    return LedgerTrial(trial_id, "trial", None, params, "finished", 1, None, 2, metrics, None, 0)


def undistilled(mr2: float) -> LedgerTrial:
    named = trial("baseline-undistilled", mr2, **NO_DISTILLATION)
    return dataclasses.replace(named, role="baseline", baseline="undistilled")


def test_baseline_that_no_distilled_trial_surpasses(study: StudyConfig) -> None:
    (finding,) = find(study, [undistilled(0.31), trial("trial-001", 0.4), trial("trial-002", 0.31, 2e6)], TEACHER)
    assert (finding.kind, finding.students) == ("no gain", ("baseline-undistilled", "trial-001"))
    assert find(study, [undistilled(0.31), trial("trial-001", 0.305)], TEACHER) == ()


def test_trials_that_did_not_finish_are_not_compared(study: StudyConfig) -> None:
    stopped = dataclasses.replace(trial("trial-001", 0.1), status="stopped")
    assert find(study, [stopped], TEACHER) == ()
    assert PassedTeacher(study, TEACHER, []).warning(stopped) is None


def test_first_trial_of_its_kind_that_passes_the_teacher_is_warned_about(study: StudyConfig) -> None:
    passed = PassedTeacher(study, TEACHER, [])
    assert passed.warning(trial("trial-001", 0.35)) is None
    warning = passed.warning(trial("trial-002", 0.29))
    assert warning is not None
    for fact in ("trial-002", "29.0 %", "30.0 %", "Train the teacher longer"):
        assert fact in warning
    assert passed.warning(trial("trial-003", 0.25)) is None
    alone = passed.warning(undistilled(0.2))
    assert alone is not None
    assert "without distillation" in alone


def test_resumed_study_does_not_repeat_the_warning(study: StudyConfig) -> None:
    assert PassedTeacher(study, TEACHER, [trial("trial-001", 0.2)]).warning(trial("trial-002", 0.2)) is None
    assert PassedTeacher(study, None, []).warning(trial("trial-002", 0.2)) is None


def test_first_miss_rate_of_objectives_is_compared(study: StudyConfig) -> None:
    study = study.model_copy(update={"objectives": ("flops", "mr2_all", "mr2_reasonable")})
    warning = PassedTeacher(study, TEACHER, []).warning(trial("trial-001", 0.9))
    assert warning is not None
    assert "MR^-2 all 50.0 %" in warning
