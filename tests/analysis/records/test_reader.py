from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import pytest
from mlflow.tracking import MlflowClient

from analysis.records.reader import parse_parameter, read_study
from analysis.records.store import RecordsError
from analysis.records.study_records import ParameterValue, StudyRecords, TrialRecord
from hkd import metric_names as names
from tests.analysis.studies import DISTILLED, Written, write_study

TEACHER = Written("teacher", mr2=(0.2,), num_params=6e6, flops=10e9, role="teacher")

ReadBack = Callable[..., StudyRecords]


@pytest.fixture
def read_back(client: MlflowClient, database: Path) -> ReadBack:
    """Writes runs as a study and reads it."""

    def write_and_read(
        *runs: Written, parent: bool = True, objectives: Sequence[str] | None = names.DEFAULT_OBJECTIVES
    ) -> StudyRecords:
        write_study(client, "demo", runs, parent=parent, objectives=objectives)
        return read_study("demo", f"sqlite:///{database}")

    return write_and_read


def why_not(trials: Sequence[TrialRecord]) -> dict[str, str | None]:
    return {trial.trial_id: trial.not_counted_because for trial in trials}


def test_finished_trial_is_read_completely(read_back: ReadBack) -> None:
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
    assert trial.params == {**params, **DISTILLED, "training.total_epochs": 4}
    assert study.teacher is not None
    assert study.teacher.metrics["mr2_reasonable"] == 0.2
    assert study.settings == {"objectives": "mr2_reasonable, num_params, flops", "seed": "0"}
    assert study.tags["mlflow.source.git.commit"] == "0123abc"
    assert not any(tag.startswith("mlflow.") for tag in study.tags if tag != "mlflow.source.git.commit")
    assert study.notes == ()


def test_unfinished_trials_are_kept_with_reason(read_back: ReadBack) -> None:
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
        "running": "unfinished after 75 % of its epochs: still running, or interrupted",
        "odd": "its status is 'paused', which is not one of running, finished, stopped, failed",
    }
    assert [trial.trial_id for trial in study.counted] == ["good"]
    assert len(study.not_counted) == 5
    running = study.trials[4]
    assert (running.duration_seconds, running.epoch) == (None, 3)


def test_finished_trial_without_full_budget_is_not_counted(read_back: ReadBack) -> None:
    study = read_back(
        Written("good"),
        Written("half", mr2=(0.9, 0.8)),
        Written("unknown", mr2=()),
        # Its full budget is logged, but its last evaluation is of an earlier epoch.
        Written("unevaluated", mr2=(0.9, 0.6, 0.5), metrics={"budget_fraction": 1.0}),
    )
    assert why_not(study.not_counted) == {
        "half": "budget_fraction is 0.5, not 1: it was not trained for all its epochs",
        "unknown": "budget_fraction is missing, not 1: it was not trained for all its epochs",
        "unevaluated": "its last evaluation is of epoch 3 of 4",
    }


def test_trial_without_valid_objectives_is_not_counted(read_back: ReadBack) -> None:
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


def test_evaluation_that_is_not_a_number_is_no_point_of_the_curve(read_back: ReadBack) -> None:
    nan = math.nan
    study = read_back(
        Written("good", mr2=(nan, 0.6, math.inf, 0.4)),
        Written("bad", mr2=(0.9, 0.6, nan, nan)),
        Written("teacher", mr2=(nan, 0.3), num_params=6e6, flops=10e9, role="teacher"),
    )
    assert [(trial.history, trial.epoch, trial.is_counted) for trial in study.trials] == [
        (((2, 0.6), (4, 0.4)), 4, True),
        (((1, 0.9), (2, 0.6)), 4, False),
    ]
    assert study.teacher is not None
    assert study.teacher.history == ((2, 0.3),)


def test_miss_rate_of_zero_or_one_is_valid(read_back: ReadBack) -> None:
    study = read_back(Written("all-found", mr2=(1.0, 0.5, 0.2, 0.0)), Written("all-missed", mr2=(1.0, 1.0, 1.0, 1.0)))
    assert [trial.metrics["mr2_reasonable"] for trial in study.counted] == [0.0, 1.0]


def test_status_of_mlflow_is_used_without_tag(read_back: ReadBack) -> None:
    study = read_back(Written("good"), Written("killed", mr2=(0.9,), status=None, mlflow_status="KILLED"))
    assert study.trials[1].status == "stopped"


def test_experiment_without_runs_of_hkd_is_error(read_back: ReadBack) -> None:
    with pytest.raises(RecordsError, match=r"study 'demo' has no trials: .*tag hkd\.role"):
        read_back(Written("t0", role=None), parent=False)


def test_study_without_finished_trial_is_error_with_reasons(read_back: ReadBack) -> None:
    with pytest.raises(
        RecordsError,
        match=r"study 'demo' has no finished trials: .* 3 .*"
        r"\(2 x failed after 25 % of its epochs; 1 x stopped after 50 % of its epochs\).*--resume",
    ):
        read_back(
            TEACHER,
            Written("a", mr2=(0.9,), status="failed"),
            Written("b", mr2=(0.9,), status="failed"),
            Written("c", mr2=(0.9, 0.8), status="stopped"),
        )


def test_trial_with_duplicate_runs_is_one_record_with_note(read_back: ReadBack) -> None:
    # Resumed: the first run was interrupted, the second finished, a third failed.
    study = read_back(
        Written("t0", mr2=(0.9,), status="running"),
        Written("t0", mr2=(0.9, 0.8, 0.7, 0.3)),
        Written("t0", mr2=(0.9,), status="failed"),
    )
    (trial,) = study.trials
    assert trial.metrics["mr2_reasonable"] == 0.3
    (note,) = [note for note in study.notes if "t0" in note]
    assert "3 runs" in note
    assert trial.run_id in note


def test_later_of_two_unfinished_runs_is_used(read_back: ReadBack) -> None:
    study = read_back(
        Written("t0"), Written("t1", mr2=(0.9,), status="stopped"), Written("t1", mr2=(0.9,), status="failed")
    )
    assert why_not(study.not_counted) == {"t1": "failed after 25 % of its epochs"}


def test_later_of_two_finished_runs_is_used(read_back: ReadBack) -> None:
    study = read_back(Written("t0", mr2=(0.9, 0.8, 0.7, 0.3)), Written("t0", mr2=(0.9, 0.8, 0.7, 0.5)))
    assert [trial.metrics["mr2_reasonable"] for trial in study.trials] == [0.5]


@pytest.mark.parametrize(
    ("teachers", "note"),
    [
        ([], "no teacher run"),
        (
            [Written("teacher", mr2=(0.9,), status="failed", role="teacher")],
            "teacher's run is failed",
        ),
    ],
)
def test_study_without_finished_teacher_is_read_with_note(
    read_back: ReadBack, teachers: list[Written], note: str
) -> None:
    study = read_back(*teachers, Written("t0"))
    assert study.teacher is None
    (found,) = study.notes
    assert note in found


def test_teacher_without_miss_rate_is_noted(read_back: ReadBack) -> None:
    study = read_back(Written("teacher", mr2=(), role="teacher"), Written("t0"))
    assert study.teacher is not None
    (note,) = study.notes
    assert "teacher" in note
    assert "no finite mr2_reasonable" in note


def test_missing_parent_and_foreign_runs_are_noted(read_back: ReadBack) -> None:
    study = read_back(TEACHER, Written("t0"), Written("scratch", role=None), parent=False)
    assert study.settings == {}
    no_parent, foreign, no_objectives = study.notes
    assert "no parent run" in no_parent
    assert "hkd.role" in foreign
    assert foreign.endswith(": 1.")
    assert "objectives" in no_objectives


def test_objectives_of_study_decide_which_trials_are_counted(read_back: ReadBack) -> None:
    # The validation set has no reasonable pedestrians, so that mr2_reasonable was never logged.
    study = read_back(
        Written("teacher", mr2=(0.3,), miss_rate="mr2_all", role="teacher"),
        Written("good", miss_rate="mr2_all", flops=None),
        Written("no-params", miss_rate="mr2_all", num_params=None),
        Written("other", miss_rate="mr2_reasonable"),
        objectives=("mr2_all", "num_params"),
    )
    assert [objective.name for objective in study.objectives] == ["mr2_all", "num_params"]
    assert why_not(study.trials) == {
        "good": None,
        "no-params": "num_params is missing or not finite",
        "other": "mr2_all is missing or not finite",
    }
    assert study.trials[0].history == ((1, 0.9), (2, 0.6), (3, 0.5), (4, 0.4))
    assert study.notes == ()


def test_second_miss_rate_must_be_valid_as_well(read_back: ReadBack) -> None:
    study = read_back(
        Written("good", metrics={"mr2_small": 0.5}),
        Written("bad", metrics={"mr2_small": 1.5}),
        objectives=("mr2_reasonable", "mr2_small"),
    )
    assert why_not(study.not_counted) == {"bad": "mr2_small is 1.5, outside [0, 1]"}


def test_error_names_objective_that_no_trained_trial_has(read_back: ReadBack) -> None:
    with pytest.raises(RecordsError) as caught:
        read_back(Written("t0"), Written("t1"), objectives=("mr2_reasonable", "mr2_small"))
    assert "2 x mr2_small is missing or not finite" in str(caught.value)
    assert "all its objectives" in str(caught.value)
    # Both were trained for all their epochs: resuming the study adds nothing.
    assert "--resume" not in str(caught.value)
    assert "epochs" not in str(caught.value)


def test_default_objectives_with_note_where_none_are_recorded(read_back: ReadBack) -> None:
    study = read_back(TEACHER, Written("t0"), objectives=None)
    assert [objective.name for objective in study.objectives] == ["mr2_reasonable", "num_params", "flops"]
    (note,) = study.notes
    assert "objectives" in note
    assert "mr2_reasonable, num_params, flops" in note


def test_trial_without_distillation_settings_is_noted(client: MlflowClient, database: Path) -> None:
    write_study(client, "demo", [TEACHER, Written("t0"), Written("t1", params={"distillation.pyramid.weight": "?"})])
    (note,) = read_study("demo", f"sqlite:///{database}").notes
    assert "t1" in note
    assert "t0" not in note
    assert "undistilled" in note


def test_searched_parameters_are_those_in_which_trials_differ(read_back: ReadBack) -> None:
    study = read_back(
        Written("b", role="baseline", baseline="undistilled", params={"a.weight": 0.0, "a.width": 1.0, "a.seed": 0}),
        Written("t0", params={"a.weight": 1.0, "a.width": 1.0, "a.seed": 0}),
        # A failed trial's settings were searched as well.
        Written("t1", mr2=(0.9,), status="failed", params={"a.weight": 1.0, "a.width": 0.5, "a.seed": 0}),
    )
    assert study.searched_parameters() == ("a.width",)


def test_table_has_row_per_detector_and_typed_columns(read_back: ReadBack) -> None:
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
        # Python would parse these as numbers.
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
