from __future__ import annotations

import pytest

from analysis.front import find_front
from analysis.report import tables
from analysis.report.tables import Table
from analysis.results import compute_results
from tests.analysis.studies import DISTILLED, TEACHER, found_in, record, records

GOOD = record("good", 0.25, 3e6, 5e9, params={"student.width_multiplier": 1.0, "distillation.logits.weight": 1.0})
BENT = record("bent", 0.30, 1e6, 1e9, params={"student.width_multiplier": 0.5, "distillation.logits.weight": 0.123456})
SMALL = record("small", 0.80, 5e5, 6e8, params={"student.width_multiplier": 0.25, "distillation.logits.weight": 2.0})
PLAIN = record("b0", 0.5, 1e6, 1e9, role="baseline", baseline="undistilled")


def test_front_table() -> None:
    table = tables.front_table(compute_results(records([SMALL, BENT, GOOD], TEACHER)))
    assert table.rows == (
        ("-", "teacher", "20.0", "-", "6.00", "-", "10.0", "-", ""),
        ("1", "good", "25.0", "+5.0", "3.00", "2.0x", "5.00", "2.0x", "logits.weight=1, width_multiplier=1"),
        ("2", "bent (knee)", "30.0", "+10.0", "1.00", "6.0x", "1.00", "10.0x",
         "logits.weight=0.1235, width_multiplier=0.5"),
        ("3", "small", "80.0", "+60.0", "0.500", "12.0x", "0.600", "16.7x", "logits.weight=2, width_multiplier=0.25"),
    )  # fmt: skip
    assert len(table.header) == 9
    assert table.is_number == (False, False, True, True, True, True, True, True, False)
    # The knee is the student to ship.
    assert table.marked_row == 2


def test_front_table_for_terminal_has_no_settings() -> None:
    table = tables.front_table(compute_results(records([BENT], TEACHER)), with_settings=False)
    assert table.header[-1] == "fewer"
    assert table.rows[1] == ("1", "bent", "30.0", "+10.0", "1.00", "6.0x", "1.00", "10.0x")


def test_front_table_without_teacher() -> None:
    table = tables.front_table(compute_results(records([BENT])))
    assert table.rows == (("1", "bent", "30.0", "-", "1.00", "-", "1.00", "-", ""),)


def test_baseline_table() -> None:
    table = tables.baseline_table(compute_results(records([PLAIN, BENT], TEACHER)))
    assert table.rows == (("undistilled", "50.0", "+30.0", "1.00", "1.00", "bent", "30.0", "-20.0"),)
    alone = tables.baseline_table(compute_results(records([PLAIN], TEACHER)))
    assert alone.rows == (("undistilled", "50.0", "+30.0", "1.00", "1.00", "none is as small", "-", "-"),)


def test_difference_from_baseline_has_an_interval() -> None:
    # Of 100 people, b0 misses 50, and t0 the last 40 of them: they differ by 10 points. The interval of a share of 10 %
    # of 100 images is 10 +- 1.96 x 3, about 4 to 16 points.
    study = records([record("b0", 0.5, 1e6, 1e9, role="baseline", baseline="undistilled"),
                     record("t0", 0.4, 1e6, 1e9, params=DISTILLED)], TEACHER)  # fmt: skip
    stored = {f"run-of-{name}": found_in([index >= missed for index in range(100)])
              for name, missed in (("b0", 50), ("t0", 40))}  # fmt: skip
    table = tables.baseline_table(compute_results(study, read_detections=lambda _: stored))
    assert table.header[-1] == "95 % interval"
    low, high = map(float, table.rows[0][-1].split(" to "))
    assert low == pytest.approx(-16, abs=1.5)
    assert high == pytest.approx(-4, abs=1.5)


def test_hypervolume_that_is_not_defined_is_absent() -> None:
    timed = record("timed", 0.3, 1e6, 1e9, metrics={"latency_ms": 5.0})
    rows = {row[0]: row for row in tables.hypervolume_table(compute_results(records([timed, PLAIN], TEACHER))).rows}
    assert rows["miss rate, latency"][1:3] == ("-", "1")


def test_numbers_of_each_table_are_aligned() -> None:
    study = records([PLAIN, BENT], TEACHER)
    results = compute_results(study)
    numbers = {
        header
        for table in (
            tables.baseline_table(results),
            tables.not_counted_table(study),
            tables.hypervolume_table(results),
        )
        for header, is_number in zip(table.header, table.is_number, strict=True)
        if is_number
    }
    assert numbers == {
        *("miss rate %", "gap", "params M", "GFLOPs", "its miss rate %", "difference"),
        "last miss rate %",
        *("hypervolume", "students", "points beyond it"),
    }


def test_tables_follow_objectives_of_study() -> None:
    metrics = {"mr2_all": 0.5, "gmacs": 2.5}
    teacher = record("teacher", 0.2, 6e6, 10e9, role="teacher", metrics={"mr2_all": 0.25, "gmacs": 5.0})
    baseline = record("b0", 0.5, 1e6, 1e9, role="baseline", baseline="undistilled", metrics=metrics)
    failed = record("f", 0.9, 1e6, 1e9, status="failed", not_counted_because="failed", metrics={"mr2_all": 0.75})
    study = records([baseline, failed], teacher, objectives=("mr2_all", "gmacs"))
    results = compute_results(study)
    table = tables.front_table(results)
    assert table.header == ("rank", "trial", "miss rate (all) %", "gap", "GMACs", "fewer", "searched settings")
    assert table.rows == (
        ("-", "teacher", "25.0", "-", "5.00", "-", ""),
        ("1", "b0 (undistilled baseline)", "50.0", "+25.0", "2.50", "2.0x", ""),
    )
    compared = tables.baseline_table(results)
    assert compared.header[:4] == ("baseline", "miss rate (all) %", "gap", "GMACs")
    assert compared.rows == (("undistilled", "50.0", "+25.0", "2.50", "none is as small", "-", "-"),)
    assert tables.not_counted_table(study).header[2] == "last miss rate (all) %"
    assert tables.not_counted_table(study).rows == (("f", "failed", "75.0", "failed"),)
    # (1 - 0.5) * (5 - 2.5) / 5 = 0.25
    assert tables.hypervolume_table(results).rows == (
        ("miss rate (all), multiply-adds", "0.2500", "1", "miss rate (all) of 100.0 %, 5.00 GMACs an image", "0"),
    )  # fmt: skip
    assert list(tables.trials_table(study, results).columns[:4]) == ["trial_id", "front_rank", "on_gmacs_front", "role"]


def test_not_counted_table() -> None:
    failed = record("f", 0.9, 1e6, 1e9, status="failed", not_counted_because="failed after 25 % of its epochs")
    study = records([BENT, failed], TEACHER)
    assert tables.not_counted_table(study).rows == (("f", "failed", "90.0", "failed after 25 % of its epochs"),)


def test_trials_table_has_place_of_each_trial() -> None:
    beaten = record("beaten", 0.35, 2e6, 2e9)
    failed = record("f", 0.9, 1e6, 1e9, status="failed", not_counted_because="failed")
    study = records([beaten, BENT, failed], TEACHER)
    table = tables.trials_table(study, compute_results(study))
    assert list(table["trial_id"]) == ["teacher", "beaten", "bent", "f"]
    assert table["front_rank"].to_list()[2] == 1
    assert list(table["front_rank"].isna()) == [True, True, False, True]
    assert list(table["on_params_front"]) == [False, False, True, False]


def test_short_names_are_unique() -> None:
    names = ["student.norm", "teacher.norm", "distillation.pyramid.weight", "distillation.region.weight", "teacher"]
    assert tables.short_names(names) == {
        "student.norm": "student.norm",
        "teacher.norm": "teacher.norm",
        "distillation.pyramid.weight": "pyramid.weight",
        "distillation.region.weight": "region.weight",
        "teacher": "teacher",
    }


def test_as_text_aligns_columns() -> None:
    table = Table(("a", "long header"), (("wide cell", "1"), ("b", "")), (False, True))
    assert table.as_text() == "a          long header\nwide cell  1\nb"


def test_as_markdown_escapes_cells() -> None:
    assert Table(("a",), (("x|y\n<b>",),), (False,)).as_markdown() == "| a |\n| --- |\n| x\\|y\\\\n\\<b\\> |"


def test_label_has_name_of_baseline_once() -> None:
    trials = [PLAIN, record("baseline_default-weights", 0.4, 1e6, 2e9, role="baseline", baseline="default-weights")]
    front = find_front(records(trials, TEACHER))
    assert tables.label(front.student("b0")) == "b0 (undistilled baseline)"
    assert tables.label(front.student("baseline_default-weights")) == "baseline_default-weights"
