from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import pytest
from mlflow.tracking import MlflowClient

from analysis.records import ParameterValue, StudyRecords, TrialRecord, parse_parameter, read_study
from analysis.store import RecordsError
from tests.analysis.studies import Written, write_study

TEACHER = Written("teacher", mr2=(0.2,), num_params=6e6, flops=10e9, role="teacher")

ReadBack = Callable[..., StudyRecords]


@pytest.fixture
def read_back(client: MlflowClient, database: Path) -> ReadBack:
    """Writes runs as a study and reads it."""

    def write_and_read(*runs: Written, parent: bool = True) -> StudyRecords:
        write_study(client, "demo", runs, parent=parent)
        return read_study("demo", f"sqlite:///{database}")

    return write_and_read


def why_not(trials: Sequence[TrialRecord]) -> dict[str, str | None]:
    return {trial.trial_id: trial.not_counted_because for trial in trials}


def test_a_finished_trial_is_read_whole(read_back: ReadBack) -> None:
    params = {"student.width_multiplier": 0.5, "student.backbone": "resnet18", "training.ema_decay": None}
    study = read_back(TEACHER, Written("t0", params=params, metrics={"mr2_small": 0.7, "ap50": 0.3}))
    (trial,) = study.trials
    assert (trial.trial_id, trial.role, trial.baseline, trial.status) == ("t0", "trial", None, "finished")
    assert trial.is_counted
    assert (trial.epoch, trial.budget_fraction) == (4, 1.0)
    assert trial.duration_seconds == 30.0
    assert trial.history == ((1, 0.9), (2, 0.6), (3, 0.5), (4, 0.4))
    assert trial.metrics == {
        "mr2_reasonable": 0.4,
        "mr2_small": 0.7,
        "ap50": 0.3,
        "budget_fraction": 1.0,
        "num_params": 1e6,
        "flops": 2e9,
        "gmacs": 1.0,
    }
    assert trial.params == {**params, "training.total_epochs": 4}
    assert study.teacher is not None
    assert study.teacher.metrics["mr2_reasonable"] == 0.2
    assert study.settings == {"objectives": "mr2_reasonable, num_params, flops", "seed": "0"}
    assert study.tags["mlflow.source.git.commit"] == "0123abc"
    assert not any(tag.startswith("mlflow.") for tag in study.tags if tag != "mlflow.source.git.commit")
    assert study.notes == ()


def test_what_was_not_trained_to_its_end_is_kept_with_the_reason(read_back: ReadBack) -> None:
    study = read_back(
        TEACHER,
        Written("good"),
        Written("failed", mr2=(0.9,), status="failed"),
        Written("failed-at-once", mr2=(), status="failed", error="RuntimeError: out of memory " + 300 * "!"),
        Written("stopped", mr2=(0.9, 0.8), status="stopped"),
        Written("running", mr2=(0.9, 0.8, 0.7), status="running"),
        Written("odd", status="paused"),
    )
    assert why_not(study.trials) == {
        "good": None,
        "failed": "failed after 25 % of its epochs",
        "failed-at-once": "failed: RuntimeError: out of memory " + 172 * "!",
        "stopped": "stopped after 50 % of its epochs",
        "running": "not at its end after 75 % of its epochs: still running, or cut off",
        "odd": "its status 'paused' is none of running, finished, stopped, failed",
    }
    assert [trial.trial_id for trial in study.counted] == ["good"]
    assert len(study.not_counted) == 5
    running = study.trials[4]
    assert (running.duration_seconds, running.epoch) == (None, 3)


def test_finished_is_not_enough_without_the_whole_budget(read_back: ReadBack) -> None:
    study = read_back(
        Written("good"),
        Written("half", mr2=(0.9, 0.8)),
        Written("unknown", mr2=()),
        # Claims its whole budget, but was last evaluated an epoch before.
        Written("unevaluated", mr2=(0.9, 0.6, 0.5), metrics={"budget_fraction": 1.0}),
    )
    assert why_not(study.not_counted) == {
        "half": "budget_fraction is 0.5, not 1: it was not trained to its end",
        "unknown": "budget_fraction is missing, not 1: it was not trained to its end",
        "unevaluated": "its last evaluation is of epoch 3 of 4",
    }


def test_objectives_must_be_there_and_make_sense(read_back: ReadBack) -> None:
    study = read_back(
        Written("good"),
        Written("nan", mr2=(0.9, 0.8, 0.7, math.nan)),
        # MLflow's SQL stores keep infinity as the largest float.
        Written("infinite", mr2=(0.9, 0.8, 0.7, math.inf)),
        Written("per-cent", mr2=(90.0, 80.0, 70.0, 60.0)),
        Written("negative", mr2=(0.9, 0.8, 0.7, -0.1)),
        Written("no-params", num_params=None),
        Written("no-flops", flops=None),
        Written("no-weights", num_params=0.0),
    )
    assert why_not(study.not_counted) == {
        "nan": "mr2_reasonable is missing or not finite",
        "infinite": "mr2_reasonable is missing or not finite",
        "per-cent": "mr2_reasonable is 60, outside [0, 1]",
        "negative": "mr2_reasonable is -0.1, outside [0, 1]",
        "no-params": "num_params is missing or not finite",
        "no-flops": "flops is missing or not finite",
        "no-weights": "num_params is 0, not above 0",
    }


def test_a_miss_rate_of_zero_or_one_counts(read_back: ReadBack) -> None:
    study = read_back(Written("all-found", mr2=(1.0, 0.5, 0.2, 0.0)), Written("all-missed", mr2=(1.0, 1.0, 1.0, 1.0)))
    assert [trial.metrics["mr2_reasonable"] for trial in study.counted] == [0.0, 1.0]


def test_without_tags_mlflows_own_status_and_name_serve(read_back: ReadBack) -> None:
    study = read_back(Written("good"), Written("killed", mr2=(0.9,), status=None, mlflow_status="KILLED"))
    assert study.trials[1].status == "stopped"


def test_no_study_of_hkds_is_an_error(read_back: ReadBack) -> None:
    with pytest.raises(RecordsError, match=r"study 'demo' has no trials: .*tag hkd\.role"):
        read_back(Written("t0", role=None), parent=False)


def test_no_finished_trial_is_an_error_that_counts_the_reasons(read_back: ReadBack) -> None:
    with pytest.raises(
        RecordsError,
        match=r"no finished trials to report on: of its 3 none .*"
        r"\(2 x failed after 25 % of its epochs; 1 x stopped after 50 % of its epochs\).*--resume",
    ):
        read_back(
            TEACHER,
            Written("a", mr2=(0.9,), status="failed"),
            Written("b", mr2=(0.9,), status="failed"),
            Written("c", mr2=(0.9, 0.8), status="stopped"),
        )


def test_a_doubled_trial_is_one_record_and_a_note(read_back: ReadBack) -> None:
    # Resumed: the first run was cut off, the second finished, a third failed.
    study = read_back(
        Written("t0", mr2=(0.9,), status="running"),
        Written("t0", mr2=(0.9, 0.8, 0.7, 0.3)),
        Written("t0", mr2=(0.9,), status="failed"),
    )
    (trial,) = study.trials
    assert trial.metrics["mr2_reasonable"] == 0.3
    assert f"Trial t0 has 3 runs in MLflow; run {trial.run_id} is the one used." in study.notes


def test_of_two_finished_runs_of_a_trial_the_later_counts(read_back: ReadBack) -> None:
    study = read_back(Written("t0", mr2=(0.9, 0.8, 0.7, 0.3)), Written("t0", mr2=(0.9, 0.8, 0.7, 0.5)))
    assert [trial.metrics["mr2_reasonable"] for trial in study.trials] == [0.5]


@pytest.mark.parametrize(
    ("teachers", "note"),
    [
        ([], "The study has no teacher run: gaps and ratios to a teacher are not given."),
        (
            [Written("teacher", mr2=(0.9,), status="failed", role="teacher")],
            "The teacher's run is failed, not finished: gaps and ratios to it are not given.",
        ),
    ],
)
def test_a_study_without_a_finished_teacher_is_read_with_a_note(
    read_back: ReadBack, teachers: list[Written], note: str
) -> None:
    study = read_back(*teachers, Written("t0"))
    assert study.teacher is None
    assert study.notes == (note,)


def test_a_teacher_without_its_miss_rate_is_noted(read_back: ReadBack) -> None:
    study = read_back(Written("teacher", mr2=(), role="teacher"), Written("t0"))
    assert study.teacher is not None
    assert study.notes == ("The teacher's run has no finite mr2_reasonable: comparisons that need it are not given.",)


def test_a_missing_parent_and_foreign_runs_are_noted(read_back: ReadBack) -> None:
    study = read_back(TEACHER, Written("t0"), Written("scratch", role=None), parent=False)
    assert study.settings == {}
    assert study.notes == (
        "The study has no parent run: its settings are not known.",
        "1 run of the experiment without a role of hkd's (tag hkd.role) left aside.",
    )


def test_searched_parameters_are_those_in_which_trials_differ(read_back: ReadBack) -> None:
    study = read_back(
        Written("b", role="baseline", baseline="undistilled", params={"a.weight": 0.0, "a.width": 1.0, "a.seed": 0}),
        Written("t0", params={"a.weight": 1.0, "a.width": 1.0, "a.seed": 0}),
        # A failed trial's settings were searched as well.
        Written("t1", mr2=(0.9,), status="failed", params={"a.weight": 1.0, "a.width": 0.5, "a.seed": 0}),
    )
    assert study.searched_parameters() == ("a.width",)


def test_table_has_a_row_a_detector_and_typed_columns(read_back: ReadBack) -> None:
    study = read_back(
        TEACHER,
        Written("b", role="baseline", baseline="undistilled", params={"a.width": 0.25}),
        Written("t0", mr2=(), status="failed", num_params=None, params={"a.width": None, "a.name": "x"}),
    )
    table = study.table()
    assert list(table["trial_id"]) == ["teacher", "b", "t0"]
    assert list(table["role"]) == ["teacher", "baseline", "trial"]
    assert list(table["counted"]) == [False, True, False]
    assert list(table.columns[10:14]) == ["mr2_reasonable", "num_params", "flops", "gmacs"]
    assert table["num_params"].dtype == pd.Int64Dtype()
    assert list(table["num_params"].isna()) == [False, False, True]
    assert table["num_params"][0] == 6_000_000
    assert table["mr2_reasonable"].dtype == pd.Float64Dtype()
    assert table["a.width"][1] == 0.25


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("-3", -3),
        ("0.5", 0.5),
        ("1e-05", 1e-5),
        (".5", 0.5),
        ("None", None),
        ("True", True),
        ("false", False),
        ("resnet18", "resnet18"),
        ("(0.41,)", "(0.41,)"),
        ("", ""),
        # Python would take these for numbers.
        ("1_000", "1_000"),
        ("nan", "nan"),
        ("inf", "inf"),
        ("1e999", "1e999"),
        ("9" * 5000, "9" * 5000),
    ],
)
def test_parse_parameter(text: str, value: ParameterValue) -> None:
    parsed = parse_parameter(text)
    assert parsed == value
    assert type(parsed) is type(value)
