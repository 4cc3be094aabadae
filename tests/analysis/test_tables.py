from __future__ import annotations

import pytest

from analysis import tables
from analysis.front import analyse
from analysis.tables import Table
from tests.analysis.studies import TEACHER, record, records

GOOD = record("good", 0.25, 3e6, 5e9, params={"student.width_multiplier": 1.0, "distillation.logits.weight": 1.0})
BENT = record("bent", 0.30, 1e6, 1e9, params={"student.width_multiplier": 0.5, "distillation.logits.weight": 0.123456})
SMALL = record("small", 0.80, 5e5, 6e8, params={"student.width_multiplier": 0.25, "distillation.logits.weight": 2.0})
PLAIN = record("b0", 0.5, 1e6, 1e9, role="baseline", baseline="undistilled")


def test_front_table() -> None:
    table = tables.front_table(analyse(records([SMALL, BENT, GOOD], TEACHER)))
    assert table.rows == (
        ("-", "teacher", "20.0", "-", "6.00", "-", "10.0", "-", ""),
        ("1", "good", "25.0", "+5.0", "3.00", "2.0x", "5.00", "2.0x", "logits.weight=1, width_multiplier=1"),
        ("2", "bent (knee)", "30.0", "+10.0", "1.00", "6.0x", "1.00", "10.0x",
         "logits.weight=0.1235, width_multiplier=0.5"),
        ("3", "small", "80.0", "+60.0", "0.500", "12.0x", "0.600", "16.7x", "logits.weight=2, width_multiplier=0.25"),
    )  # fmt: skip
    assert len(table.header) == 9


def test_front_table_for_a_terminal_has_no_settings() -> None:
    table = tables.front_table(analyse(records([BENT], TEACHER)), with_settings=False)
    assert table.header[-1] == "fewer"
    assert table.rows[1] == ("1", "bent", "30.0", "+10.0", "1.00", "6.0x", "1.00", "10.0x")


def test_front_table_without_a_teacher() -> None:
    table = tables.front_table(analyse(records([BENT])))
    assert table.rows == (("1", "bent", "30.0", "-", "1.00", "-", "1.00", "-", ""),)


def test_headline() -> None:
    assert tables.headline(analyse(records([SMALL, BENT, GOOD], TEACHER))) == (
        "Ship bent: 1.00 M parameters, 6.0x fewer than the teacher's 6.00 M, and 1.00 GFLOPs an image "
        "(10.0x fewer than the teacher's), at a miss rate of 30.0 %, 10.0 points worse than the teacher's 20.0 %."
    )


@pytest.mark.parametrize(
    ("mr2", "ending"),
    [
        (0.21, "21.0 %, 1.0 points worse than the teacher's 20.0 %."),
        (0.15, "15.0 %, 5.0 points better than the teacher's 20.0 %."),
        (0.2, "20.0 %, the same as the teacher's 20.0 %."),
        # 0.04 points round to nothing.
        (0.2004, "20.0 %, the same as the teacher's 20.0 %."),
    ],
)
def test_headline_of_a_student_that_matches_its_teacher(mr2: float, ending: str) -> None:
    assert tables.headline(analyse(records([record("t", mr2, 1e6, 1e9)], TEACHER))).endswith(ending)


def test_headline_of_a_student_larger_than_its_teacher() -> None:
    headline = tables.headline(analyse(records([record("t", 0.1, 12e6, 5e9)], TEACHER)))
    assert "12.0 M parameters, 2.0x as many as the teacher's 6.00 M," in headline


def test_headline_without_a_teacher() -> None:
    assert tables.headline(analyse(records([BENT]))) == (
        "Ship bent: 1.00 M parameters and 1.00 GFLOPs an image, at a miss rate of 30.0 %."
    )


def test_a_student_that_finds_nothing_is_not_to_be_shipped() -> None:
    assert tables.headline(analyse(records([record("t", 0.9999, 1e6, 1e9)], TEACHER))) == (
        "There is nothing to ship yet: t, which the front suggests, finds hardly a pedestrian."
    )


def test_reasons_name_the_other_candidates() -> None:
    why, *others = tables.reasons(analyse(records([SMALL, BENT, GOOD], TEACHER)))
    assert why.startswith("It is the knee of the front")
    assert others == [
        "Lowest miss rate: good (25.0 %, 3.00 M, 5.00 GFLOPs).",
        "Fewest parameters: small (80.0 %, 0.500 M, 0.600 GFLOPs).",
        "Fewest FLOPs: small (80.0 %, 0.500 M, 0.600 GFLOPs).",
    ]


def test_reasons_of_a_front_of_one() -> None:
    (why,) = tables.reasons(analyse(records([BENT], TEACHER)))
    assert why.startswith("It alone makes the front")


def test_baseline_table() -> None:
    table = tables.baseline_table(analyse(records([PLAIN, BENT], TEACHER)))
    assert table.rows == (("undistilled", "50.0", "+30.0", "1.00", "1.00", "bent", "30.0", "-20.0"),)
    alone = tables.baseline_table(analyse(records([PLAIN], TEACHER)))
    assert alone.rows == (("undistilled", "50.0", "+30.0", "1.00", "1.00", "none is as small", "-", "-"),)


def test_not_counted_table_and_counts() -> None:
    failed = record("f", 0.9, 1e6, 1e9, status="failed", not_counted_because="failed after 25 % of its epochs")
    study = records([BENT, failed], TEACHER)
    assert tables.not_counted_table(study).rows == (("f", "failed", "90.0", "failed after 25 % of its epochs"),)
    assert tables.counts(analyse(study)) == "2 trials and baselines: 1 failed, 1 finished"


def test_trials_table_tells_each_trials_place() -> None:
    beaten = record("beaten", 0.35, 2e6, 2e9)
    failed = record("f", 0.9, 1e6, 1e9, status="failed", not_counted_because="failed")
    study = records([beaten, BENT, failed], TEACHER)
    table = tables.trials_table(study, analyse(study))
    assert list(table["trial_id"]) == ["teacher", "beaten", "bent", "f"]
    assert table["front_rank"].to_list()[2] == 1
    assert list(table["front_rank"].isna()) == [True, True, False, True]
    assert list(table["on_params_front"]) == [False, False, True, False]


@pytest.mark.parametrize(
    ("count", "shown"),
    [(41.3e6, "41.3"), (123.4e6, "123"), (1500e6, "1500"), (0.4235e6, "0.423"), (999.9e3, "1.00"), (21_300, "0.0213")],
)
def test_millions_has_three_digits(count: float, shown: str) -> None:
    # 0.4235 lies just below itself in binary, hence 0.423.
    assert tables.millions(count) == shown


def test_short_names_stay_apart() -> None:
    names = ["student.norm", "teacher.norm", "distillation.pyramid.weight", "distillation.region.weight", "teacher"]
    assert tables.short_names(names) == {
        "student.norm": "student.norm",
        "teacher.norm": "teacher.norm",
        "distillation.pyramid.weight": "pyramid.weight",
        "distillation.region.weight": "region.weight",
        "teacher": "teacher",
    }


def test_as_text_lines_columns_up() -> None:
    assert Table(("a", "long header"), (("wide cell", "1"), ("b", ""))).as_text() == (
        "a          long header\nwide cell  1\nb"
    )


def test_as_markdown_escapes_what_would_break_the_table() -> None:
    assert Table(("a",), (("x|y\n<b>",),)).as_markdown() == "| a |\n| --- |\n| x\\|y &lt;b> |"


def test_label_names_the_baseline_once() -> None:
    trials = [PLAIN, record("baseline_default-weights", 0.4, 1e6, 2e9, role="baseline", baseline="default-weights")]
    analysis = analyse(records(trials, TEACHER))
    assert tables.label(analysis.student("b0")) == "b0 (undistilled baseline)"
    assert tables.label(analysis.student("baseline_default-weights")) == "baseline_default-weights"
