from __future__ import annotations

import json
import re

import jsonschema
import pytest

from analysis.budgets import Budgets
from analysis.records.study_records import StudyRecords
from analysis.report.summary import SUMMARY_SCHEMA_VERSION, summary
from analysis.results import compute_results
from tests.analysis.studies import TEACHER, found_in, record, records
from tests.conftest import REPOSITORY

STUDY = records(
    [
        record("t0", 0.3, 1e6, 1e9, params={"a.name": "x"}),
        record("t1", 0.25, 2e6, 2e9, params={"a.name": "y"}),
        record("b0", 0.5, 1e6, 1e9, role="baseline", baseline="undistilled"),
        record("f0", 0.9, 1e6, 1e9, status="failed", not_counted_because="failed after 25 % of its epochs"),
    ],
    TEACHER,
)


def test_summary_is_json_with_all_results() -> None:
    study = STUDY
    results = compute_results(study)
    read = json.loads(json.dumps(summary(study, results), allow_nan=False))
    assert read["schema_version"] == 4
    assert [student["trial_id"] for student in read["front"]] == ["t1", "t0"]
    assert read["front"][0]["settings"] == {"a.name": "y"}
    assert "up to 5 points" in read["recommendation"].pop("readiness_rule")
    assert read["recommendation"] == {
        "trial_id": "t1",
        "reason": "lowest miss rate",
        "readiness": "near",
        "is_determined": True,
        "limits": {},
        "exceeded": {},
        "larger": None,
        "verdict": "near",
    }
    assert read["findings"] == []
    assert read["teacher"]["num_params"] == 6_000_000
    assert read["knee"]["params"] is None
    assert read["hypervolume"]["fronts"][0]["reference_point"] == {"mr2_reasonable": 1.0, "num_params": 6e6}
    assert read["hypervolume"]["fronts"][0]["value"] == results.front.hypervolumes[0].value
    assert read["baselines"][0]["comparison"]["best_distilled"] == "t0"
    assert read["not_counted"] == [{"trial_id": "f0", "status": "failed", "because": "failed after 25 % of its epochs"}]
    assert read["count_by_status"] == {"failed": 1, "finished": 3}
    assert re.fullmatch(r"\d+\.\d+.*", read["versions"]["mlflow"])


def test_findings_are_in_summary() -> None:
    teacher = record("teacher", 0.26, 6e6, 10e9, role="teacher")
    study = records(STUDY.trials, teacher)
    (finding,) = json.loads(json.dumps(summary(study, compute_results(study))))["findings"]
    assert list(finding) == ["kind", "sentence", "remedy", "students"]
    assert (finding["kind"], finding["students"]) == ("teacher passed", ["t1"])


@pytest.mark.parametrize("budgets", [Budgets(), Budgets(max_params=5e5, max_miss_rate=0.2), Budgets(max_latency_ms=1)])
def test_summary_follows_its_schema(budgets: Budgets) -> None:
    confirmed = {"confirmed_mr2_reasonable": 0.3, "confirmed_seeds": 2.0, "latency_ms": 9.0}
    study = records([*STUDY.trials, record("t2", 0.2, 3e6, 3e9, metrics=confirmed)], TEACHER)
    stored = {"run-of-t1": found_in([True] * 75 + [False] * 25), "run-of-t2": found_in([True] * 80 + [False] * 20)}
    read = json.loads(json.dumps(summary(study, compute_results(study, budgets, lambda _: stored)), allow_nan=False))
    schema = json.loads((REPOSITORY / "docs" / "summary.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(read, schema)
    assert schema["properties"]["schema_version"]["const"] == SUMMARY_SCHEMA_VERSION
    # Every key is documented.
    documented = set(schema["properties"])
    assert {key for key in read if not key.endswith("_front")} <= documented
    assert set(read["uncertainty"]) <= set(schema["properties"]["uncertainty"]["properties"])
    assert set(read["recommendation"]) <= set(schema["properties"]["recommendation"]["properties"])


def test_equal_records_give_equal_summaries() -> None:
    def summarise(study: StudyRecords) -> str:
        return json.dumps(summary(study, compute_results(study)))

    assert summarise(STUDY) == summarise(STUDY)


def test_keys_of_default_objectives() -> None:
    read = summary(STUDY, compute_results(STUDY))
    assert list(read) == [
        *("schema_version", "study", "tracking_uri", "objectives", "basis", "headline", "recommendation", "findings"),
        *(
            "teacher",
            "front",
            "searched",
            "params_front",
            "flops_front",
            "knee",
            "hypervolume",
            "baselines",
            "importances",
            "importances_by_target",
            "ablations",
            "compute",
            "hypervolume_over_trials",
            "uncertainty",
            "confirmation",
            "variants",
            "count_by_status",
        ),
        *("not_counted", "notes", "versions"),
    ]
    assert read["objectives"] == ["mr2_reasonable", "num_params", "flops"]
    assert list(read["knee"]) == ["rule", "params", "flops"]
    assert list(read["teacher"]) == ["run_id", "mr2_reasonable", "num_params", "flops", "gmacs"]
    assert list(read["front"][0]) == [
        *("trial_id", "run_id", "role", "baseline", "is_distilled", "mr2_reasonable", "num_params", "flops", "gmacs"),
        *("gap_to_teacher", "times_fewer_params", "times_fewer_flops", "settings", "rank"),
        *("on_params_front", "on_flops_front"),
    ]
    assert read["front"][0]["gmacs"] is None
    assert read["front"][0]["times_fewer_params"] == 3.0
    assert read["front"][0]["on_params_front"] is True


def test_summary_follows_objectives_of_study() -> None:
    metrics = {"mr2_all": 0.5, "mr2_small": 0.75}
    teacher = record("teacher", 0.2, 6e6, 10e9, role="teacher", metrics={"mr2_all": 0.25, "mr2_small": 0.5})
    study = records(
        [record("t", 0.9, 1e6, 1e9, metrics=metrics)], teacher, objectives=("mr2_all", "mr2_small", "flops")
    )
    read = summary(study, compute_results(study))
    (student,) = read["front"]
    assert "mr2_reasonable" not in student
    assert (student["mr2_all"], student["mr2_small"], student["flops"]) == (0.5, 0.75, 1e9)
    assert (student["gap_to_teacher"], student["gap_to_teacher_mr2_small"]) == (0.25, 0.25)
    assert student["times_fewer_flops"] == 10.0
    # Not an objective, but logged by every trial.
    assert student["num_params"] == 1_000_000
    assert "times_fewer_params" not in student
    assert read["flops_front"] == read["flops_mr2_small_front"] == ["t"]


def test_hypervolume_that_is_not_defined_is_null() -> None:
    # The teacher's latency is unknown: the reference point is that of the only student with one.
    study = records([record("timed", 0.3, 1e6, 1e9, metrics={"latency_ms": 5.0})], TEACHER)
    read = json.loads(json.dumps(summary(study, compute_results(study))))
    values = {tuple(front["objectives"]): front["value"] for front in read["hypervolume"]["fronts"]}
    assert values["mr2_reasonable", "latency_ms"] is None
    # (1 - 0.3) x (6 - 1) / 6
    assert values["mr2_reasonable", "num_params"] == pytest.approx(0.7 * 5 / 6)
    schema = json.loads((REPOSITORY / "docs" / "summary.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(read)
