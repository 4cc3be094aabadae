"""Tables of running, ended and confirmed trials."""

from __future__ import annotations

import io
import re
from dataclasses import replace

from rich.console import Console, RenderableType

from sweeps.console.display import Display
from sweeps.console.tables import MOST_ROWS_AT_END, RunningTrial, confirmation_table, ended_table, live_tables
from sweeps.trials.confirmation import Confirmation, ConfirmedTrial
from tests.sweeps.console.test_display import FINISHED, OBJECTIVES, trial


def rows_of(table: RenderableType, width: int = 160) -> list[list[str]]:
    out = io.StringIO()
    Console(file=out, width=width).print(table)
    return [re.split(r"\s{2,}", line.strip()) for line in out.getvalue().splitlines() if line.strip()]


def test_running_trials_and_front() -> None:
    running = {
        "trial-002": RunningTrial(1, 4, {"mr2_reasonable": 0.5, "num_params": 5}),
        "trial-[3]": RunningTrial(0, 4),
    }
    rows = rows_of(live_tables(running, [FINISHED], OBJECTIVES, height=40))
    assert ["trial-002", "1 of 4", "50.0"] in rows
    assert ["trial-[3]", "0 of 4", "-"] in rows
    assert ["trial-001", "25.0", "1.23", "2.50"] in rows


def test_live_tables_fit_the_terminal() -> None:
    running = {f"trial-{number:03d}": RunningTrial(1, 4) for number in range(100)}
    front = [replace(FINISHED, trial_id=f"trial-{number:03d}") for number in range(100)]
    tables = live_tables(running, front, OBJECTIVES, height=24)
    out = io.StringIO()
    Console(file=out, width=100).print(tables)
    # Below the line of progress.
    assert len(out.getvalue().splitlines()) <= 23
    # (24 - 9) // 2 = 7 rows of each.
    assert rows_of(tables).count(["and 93 more"]) == 2


def test_display_shows_details_on_terminals_only() -> None:
    for is_terminal in (True, False):
        out = io.StringIO()
        console = Console(file=out, force_terminal=is_terminal, width=100, height=30)
        heights: list[int] = []

        def details(height: int, heights: list[int] = heights) -> str:
            heights.append(height)
            return "DETAILS"

        with Display(console) as display:
            display.show_progress("progress", details)
        assert ("DETAILS" in out.getvalue()) == is_terminal
        assert heights == ([30] if is_terminal else [])
        assert "progress" in out.getvalue()


def test_every_end_is_listed() -> None:
    failed = trial("trial-002", status="failed", error="Traceback\nValueError: boom\n", num_params=2e6)
    stopped = trial("trial-003", status="stopped", mr2_reasonable=0.1, num_params=3e6, flops=1e9, epoch=1)
    running = replace(trial("trial-004", status="running"), epoch=2)
    trials = [replace(FINISHED, metrics={**FINISHED.metrics, "epoch": 4}), failed, stopped, running]
    rows = rows_of(ended_table(trials, OBJECTIVES, dict.fromkeys((each.trial_id for each in trials), 4)))
    assert ["trial-001", "finished", "4 of 4", "25.0", "1.23", "2.50"] in rows
    assert ["trial-002", "failed", "0 of 4", "-", "2.00", "-", "ValueError: boom"] in rows
    assert ["trial-003", "stopped", "1 of 4", "-", "3.00", "1.00"] in rows
    assert ["trial-004", "interrupted", "2 of 4", "-", "-", "-"] in rows


def test_long_study_lists_trials_that_did_not_finish() -> None:
    finished = [replace(FINISHED, trial_id=f"trial-{number}") for number in range(MOST_ROWS_AT_END)]
    failed = trial("trial-x", status="failed")
    trials = [*finished, failed]
    rows = rows_of(ended_table(trials, OBJECTIVES, dict.fromkeys((each.trial_id for each in trials), 4)))
    assert [row[0] for row in rows if row[0].startswith("trial-")] == ["trial-x"]
    assert f"1 of {len(trials)} trials" in rows[0][0]


def test_confirmed_trials() -> None:
    confirmed = ConfirmedTrial(
        FINISHED,
        num_seeds=2,
        means={"mr2_reasonable": 0.3, "test_mr2_reasonable": 0.35},
        spreads={"mr2_reasonable": 0.01, "test_mr2_reasonable": 0.02},
        values={"mr2_reasonable": 0.35, "num_params": 1_234_000, "flops": 2.5e9},
    )
    other = ConfirmedTrial(
        trial("trial-002", mr2_reasonable=0.2, num_params=2e6, flops=3e9), 1, confirmed.means, {}, {}
    )
    found = Confirmation(True, (confirmed, other), frozenset({"trial-001"}))
    teacher = {"mr2_reasonable": 0.2, "test_mr2_reasonable": 0.22, "num_params": 4e7, "flops": 1e10}
    rows = rows_of(confirmation_table(found, OBJECTIVES, teacher))
    assert ["trial-001 *", "25.0", "30.0 ± 1.0", "35.0 ± 2.0", "1.23", "2.50", "2"] in rows
    assert ["trial-002", "20.0", "30.0", "35.0", "2.00", "3.00", "1"] in rows
    assert ["teacher", "20.0", "-", "22.0", "40.00", "10.00"] in rows
