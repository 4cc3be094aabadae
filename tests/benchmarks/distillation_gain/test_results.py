"""What is computed from results: spreads, differences, expected hours and tables."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.distillation_gain.conditions import Condition
from benchmarks.distillation_gain.listing import Expectation, listing
from benchmarks.distillation_gain.plots import draw, panels_of
from benchmarks.distillation_gain.report import report
from benchmarks.distillation_gain.results import Cell, Result, Spread, Table, difference

_RESAMPLES = 1001


def result(
    miss_rate: float, resampled: float | list[float] = 0.5, *, steps: int = 400, seconds: float = 40.0
) -> Result:
    values = resampled if isinstance(resampled, list) else [resampled] * _RESAMPLES
    return Result(
        condition={},
        settings={},
        metrics={"mr2_reasonable": miss_rate, "mr2_all": miss_rate + 0.1, "ap": 0.25},
        resampled_mr2_reasonable=list(values),
        num_params=1_000_000,
        flops=10**9,
        trained_steps=steps,
        seconds=40.0,
        evaluation_seconds=20.0,
    )


def condition(
    row: str, seed: int, *, steps: int = 400, labels: int = 1600, teacher: str | None = "strong"
) -> Condition:
    return Condition("6x", row, None if row == "alone" else teacher, steps, labels, seed)


TEACHERS = {"strong": result(0.15), "weak": result(0.25)}
DESCRIPTIONS = {"strong": "3,200 labelled scenes, 6,400 steps", "weak": "weights from a file"}


def two_seeds() -> Table:
    """Alone 30 and 20 %, distilled 20 and 14 %."""
    return Table(
        [
            (condition("alone", 0), result(0.30, 0.5)),
            (condition("alone", 1), result(0.20, 0.5)),
            (condition("default", 0), result(0.20, list(np.linspace(0.0, 1.0, _RESAMPLES)))),
            (condition("default", 1), result(0.14, 0.5)),
        ],
        TEACHERS,
    )


def test_difference_of_pairs_with_both_intervals() -> None:
    table = two_seeds()
    cell = table.cell("6x", "default", "strong", 400, 1600)
    assert cell is not None
    found = table.against_alone(cell)
    assert found is not None
    assert found.over_seeds.by_seed == pytest.approx({0: -0.10, 1: -0.06})
    assert found.over_seeds.mean == pytest.approx(-0.08)
    # Deviations of 0.02 either way: sqrt(2 * 0.02^2 / (2 - 1)).
    assert found.over_seeds.deviation == pytest.approx(0.02 * 2**0.5)
    # Standard error 0.02 * sqrt(2) / sqrt(2); t of one degree of freedom at 97.5 % is tan(0.475 pi) = 12.706.
    half = 0.02 * np.tan(0.475 * np.pi)
    assert found.over_seeds.interval() == pytest.approx((-0.08 - half, -0.08 + half))
    # Changes: seed 0 evenly from -0.5 to 0.5, seed 1 none; their mean evenly from -0.25 to 0.25.
    assert found.image_interval == pytest.approx((-0.25 + 0.5 * 0.025, 0.25 - 0.5 * 0.025))


def test_difference_uses_common_seeds_only() -> None:
    table = Table(
        [
            (condition("alone", 0), result(0.3)),
            (condition("alone", 2), result(0.9)),
            (condition("default", 0), result(0.2)),
            (condition("default", 1), result(0.1)),
        ],
        TEACHERS,
    )
    alone, default = table.cells[("6x", "alone", None, 400, 1600)], table.cells[("6x", "default", "strong", 400, 1600)]
    found = difference(alone, default)
    assert found is not None
    assert found.over_seeds.by_seed == pytest.approx({0: -0.1})
    assert found.over_seeds.interval() is None
    assert difference(default, table.cells[("6x", "alone", None, 400, 1600)]) is not None
    only = Table([(condition("alone", 5), result(0.3)), (condition("default", 0), result(0.2))], TEACHERS)
    assert only.against_alone(only.cells[("6x", "default", "strong", 400, 1600)]) is None


def test_resamples_without_a_value_are_left_out() -> None:
    first = Cell("6x", "alone", None, 400, 1600, {0: result(0.3, [0.5, 0.5, 0.5])})
    second = Cell("6x", "default", "strong", 400, 1600, {0: result(0.2, [0.4, 0.4, 0.4])})
    second.results[0].resampled_mr2_reasonable[2] = None
    found = difference(first, second)
    assert found is not None
    assert found.image_interval == pytest.approx((-0.1, -0.1))


def test_row_passes_its_teacher_by_its_mean() -> None:
    table = two_seeds()
    cell = table.cells[("6x", "default", "strong", 400, 1600)]
    # The mean is 17 %: above the strong teacher's 15 %, below the weak one's 25 %.
    assert not table.passes_teacher(cell, "strong")
    assert table.passes_teacher(cell, "weak")


def test_report_states_spread_difference_and_teacher() -> None:
    text = report(two_seeds(), ["alone", "default"], DESCRIPTIONS)
    assert "| strong (3,200 labelled scenes, 6,400 steps) | 1.00 M | 15.0 | 25.0 | 25.0 |" in text
    (heading,) = (line for line in text.splitlines() if line.startswith("### Student 6x"))
    assert heading.endswith("teacher strong (3,200 labelled scenes, 6,400 steps)")
    # Alone 25 ± 7.07, default 17 ± 4.24; (-10, -6): -8 ± 2.83, +-25.4 by the test above.
    assert "| alone | 25.0 ± 7.1 (2) |" in text
    assert "| -8.0 ± 2.8 | -33.4 to +17.4 | -23.8 to +23.8 | -10.0, -6.0 |" in text
    assert "passes its teacher" not in text
    # No table for a teacher without results of its own.
    assert "teacher weak" not in text


def test_student_alone_is_reported_under_a_second_teacher_only_beside_its_rows() -> None:
    table = Table(
        [
            *((condition("alone", 0, labels=labels), result(0.3)) for labels in (100, 1600)),
            (condition("default", 0, teacher="strong"), result(0.2)),
            (condition("default", 0, teacher="weak"), result(0.2)),
        ],
        TEACHERS,
    )
    strong, weak = report(table, ["alone", "default"], DESCRIPTIONS).split("teacher weak")
    assert "100 labelled scenes" in strong
    assert "100 labelled scenes" not in weak
    assert "| alone | 400 | 1 |" in weak


def test_report_marks_a_row_that_passes_its_teacher() -> None:
    table = Table([(condition("default", 0, teacher="weak"), result(0.2))], TEACHERS)
    text = report(table, ["default"], DESCRIPTIONS)
    assert "| default | 20.0 (1) * |" in text
    assert "passes its teacher" in text


def test_report_states_what_twice_the_steps_change() -> None:
    table = Table(
        [
            (condition("alone", seed, steps=steps), result(rate))
            for steps, seed, rate in [(400, 0, 0.3), (800, 0, 0.25)]
        ],
        {},
    )
    assert "| 6x | alone |  | 1,600 | 400 | -5.0 |" in report(table, ["alone"], DESCRIPTIONS)


def test_report_states_steps_that_differ_from_the_tables() -> None:
    table = Table([(condition("alone", 0, labels=100), result(0.3, steps=396))], {})
    assert "| 400 (396 trained) |" in report(table, ["alone"], DESCRIPTIONS)


def test_spread_of_one_seed_has_no_deviation() -> None:
    assert Spread({0: 0.2}).deviation is None


def test_expected_time_follows_finished_trainings() -> None:
    table = two_seeds()
    expectation = Expectation.of(table)
    # 40 s for 400 steps, and 20 s of evaluation.
    assert expectation.seconds(condition("default", 2, steps=6400)) == pytest.approx(0.1 * 6400 + 20)
    assert Expectation.of(Table([], {})).seconds(condition("alone", 0)) is None
    chosen = [condition("default", seed) for seed in (0, 1, 2)]
    text = listing(chosen, table, workers=2)
    assert "finished: 0 1; missing: 2, 0.02 h" in text
    assert "2 finished, 1 missing" in text


def test_panels_need_two_places_on_the_axis() -> None:
    table = two_seeds()
    assert panels_of(table, "steps") == []
    more = Table(
        [
            *((condition(row, 0, steps=steps), result(0.2)) for row in ("alone", "default") for steps in (400, 1600)),
            *((condition(row, 0, labels=100), result(0.4)) for row in ("alone", "default")),
            (condition("pyramid", 0), result(0.2)),
            # Beside the student alone, this teacher has a single place on either axis.
            (condition("default", 0, teacher="weak"), result(0.2)),
        ],
        TEACHERS,
    )
    (panel,) = panels_of(more, "steps")
    assert panel.teacher_miss_rate == 0.15
    assert {(cell.row, cell.steps) for cell in panel.cells} == {
        ("alone", 400), ("alone", 1600), ("default", 400), ("default", 1600), ("pyramid", 400)
    }  # fmt: skip
    (by_labels,) = panels_of(more, "labels")
    assert {(cell.row, cell.labels) for cell in by_labels.cells} == {
        ("alone", 100), ("alone", 1600), ("default", 100), ("default", 1600)
    }  # fmt: skip
    assert draw([panel], ["alone", "default"], "steps").startswith(b"\x89PNG")
