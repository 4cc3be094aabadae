from __future__ import annotations

import dataclasses

from analysis.records.study_records import TrialRecord
from analysis.report.certainty_tables import difference_tables, repeated_table
from analysis.report.explanation_tables import ablations_table, compute_sentence, importances_table
from analysis.results import compute_results
from tests.analysis.report.large_studies import large_results, large_study
from tests.analysis.studies import TEACHER, record, records


def with_weight(trial_id: str, mr2: float, weight: float) -> TrialRecord:
    return record(trial_id, mr2, 1e6, 1e9, params={"distillation.logits.weight": weight, "training.total_epochs": 4})


def test_stage_with_and_without() -> None:
    study = records([with_weight("a", 0.3, 1.0), with_weight("b", 0.34, 0.0)], TEACHER)
    table = ablations_table(compute_results(study))
    assert table is not None
    # a and b differ in the weight alone: 30 - 34.
    assert table.rows == (("logits", "1", "30.0", "1", "34.0", "1", "-4.0"),)


def test_study_of_one_distilled_trial_has_no_ablation() -> None:
    assert ablations_table(compute_results(records([with_weight("a", 0.3, 1.0)], TEACHER))) is None


def test_importances_need_trials() -> None:
    assert importances_table(compute_results(records([with_weight("a", 0.3, 1.0)], TEACHER))) is None


def test_compute_states_what_stopping_saved() -> None:
    stopped = dataclasses.replace(
        with_weight("s", 0.5, 1.0),
        status="stopped",
        not_counted_because="stopped after 25 % of its epochs",
        budget_fraction=0.25,
        duration_seconds=3600.0,
    )
    text = compute_sentence(compute_results(records([with_weight("a", 0.3, 1.0), stopped], TEACHER)))
    # 4 epochs and 1; 3 of 8 were saved, an hour each.
    assert "5 epochs" in text
    assert "1 trials (1 after epoch 1), which saved 3 epochs (38 %), about 3.0 hours" in text


def test_differences_have_intervals() -> None:
    study = large_study(20)
    results = large_results(study)
    tables = dict(difference_tables(results))
    assert len(tables) == 3
    (row,) = tables["Undistilled students and the distilled ones of the same costs"].rows
    assert row[:2] == ("baseline-undistilled", "baseline-default-weights")
    assert row[4] == "yes"
    assert repeated_table(results) is None
    assert difference_tables(compute_results(records(study.trials[:3], TEACHER))) == ()


def test_students_that_were_trained_again() -> None:
    metrics = {"confirmed_seeds": 2, "confirmed_mr2_reasonable": 0.33, "confirmed_mr2_reasonable_std": 0.01}
    metrics |= {"confirmed_test_mr2_reasonable": 0.35}
    trial = record("a", 0.3, 1e6, 1e9, metrics=metrics)
    table = repeated_table(compute_results(records([trial], TEACHER)))
    assert table is not None
    assert table.rows == (("a", "2", "30.0", "33.0 \N{PLUS-MINUS SIGN} 1.0", "+3.0", "35.0", "+5.0", "yes"),)
    # With the teacher's 25 % on the test images, a is 10 points above it.
    teacher = record("teacher", 0.2, 6e6, 10e9, role="teacher", metrics={"test_mr2_reasonable": 0.25})
    table = repeated_table(compute_results(records([trial], teacher)))
    assert table is not None
    assert table.rows[0][table.header.index("test minus teacher")] == "+10.0"
