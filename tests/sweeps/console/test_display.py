"""What the console shows while a study runs."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest
from rich.console import Console

from hkd.training.progress import TrainingProgress
from sweeps.console.display import (
    Display,
    TeacherBoard,
    TrialBoard,
    closing_table,
    describe_end,
    duration,
)
from sweeps.trials.records.trial import LedgerTrial


def plain_display() -> tuple[Display, io.StringIO]:
    out = io.StringIO()
    return Display(Console(file=out, width=200)), out


def trial(trial_id: str, status: str = "finished", error: str | None = None, **metrics: float) -> LedgerTrial:
    return LedgerTrial(trial_id, "trial", None, {}, status, 1, None, 0, metrics, error, 0)


OBJECTIVES = ("mr2_reasonable", "num_params", "flops")
FINISHED = trial("trial-001", mr2_reasonable=0.25, num_params=1_234_000, flops=2.5e9)


def test_end_of_trial_shows_objectives() -> None:
    expected = "trial-001 finished: MR^-2 reasonable 25.0 %, 1.23 M parameters, 2.50 GFLOPs"
    assert describe_end(FINISHED, OBJECTIVES) == expected
    other = trial("trial-001", mr2_reasonable=0.25, mr2_all=0.5, num_params=1_234_000)
    assert describe_end(other, ("mr2_all", "num_params")) == "trial-001 finished: MR^-2 all 50.0 %, 1.23 M parameters"


def test_end_of_stopped_trial_shows_no_miss_rate() -> None:
    stopped = trial("trial-002", status="stopped", mr2_reasonable=0.25, num_params=1_234_000)
    assert describe_end(stopped, OBJECTIVES) == "trial-002 stopped: 1.23 M parameters"


def test_end_of_trial_that_others_dominate_names_them() -> None:
    stopped = trial("trial-002", status="stopped", num_params=1_234_000, epoch=4, budget_fraction=0.25)
    stopped = replace(stopped, dominators=("trial-001", "baseline-a"))
    line = describe_end(stopped, OBJECTIVES)
    assert line.startswith("trial-002 stopped after 4 of 16 epochs: 1.23 M parameters; ")
    assert line.endswith("trial-001, baseline-a")
    many = replace(stopped, dominators=("a", "b", "c"))
    assert describe_end(many, OBJECTIVES).endswith("a, b, ...")


def test_time_left_accounts_for_early_stopping(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("sweeps.console.display.time.monotonic", lambda: clock[0])
    display, out = plain_display()
    board = TrialBoard(display, objectives=OBJECTIVES, total=4, ended=[], epochs_per_trial=10)
    board.start("trial-001", 0, 10)
    for epoch in range(1, 6):
        board.epoch("trial-001", epoch)
    clock[0] = 50.0
    # 10 s for an epoch. Stopped after half of its epochs: half of 30 epochs are left, 150 s.
    board.end(trial("trial-001", status="stopped", epoch=5, budget_fraction=0.5))
    assert "(1 of 4; about 2 min left)" in out.getvalue()
    clock[0] = 200.0
    board.update()
    assert "1 of 4 ended; 1 stopped" in out.getvalue()


def test_end_of_failed_trial_shows_last_line_of_error() -> None:
    failed = trial("trial-002", status="failed", error="Traceback\n  x\nValueError: boom\n")
    assert describe_end(failed, OBJECTIVES) == "trial-002 failed: ValueError: boom"
    assert describe_end(trial("trial-003", status="failed"), OBJECTIVES).startswith("trial-003 failed: ")


@pytest.mark.parametrize(
    ("seconds", "text"), [(5, "5 s"), (89, "89 s"), (90, "2 min"), (3600, "60 min"), (9000, "2.5 h")]
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_ended_trials_are_counted_and_remaining_time_is_estimated(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("sweeps.console.display.time.monotonic", lambda: clock[0])
    display, out = plain_display()
    board = TrialBoard(
        display,
        objectives=OBJECTIVES,
        total=4,
        ended=[trial("baseline-undistilled", status="stopped")],
        epochs_per_trial=5,
    )
    board.start("trial-001", 0, 5)
    board.start("trial-002", 3, 5)
    assert "trial-002 resumes after epoch 3 of 5" in out.getvalue()
    clock[0] = 60.0
    for epoch in range(1, 6):
        board.epoch("trial-001", epoch)
    board.epoch("trial-002", 4)
    board.end(FINISHED)
    # 6 epochs took 60 s. Left: 1 of trial-002 and 5 of a trial that was not proposed yet: 6 epochs, 60 s.
    assert "2.50 GFLOPs  (2 of 4; about 60 s left)" in out.getvalue()
    clock[0] = 200.0
    board.update()
    last = out.getvalue().splitlines()[-1]
    # 6 epochs took 200 s now.
    assert last == (
        "trials: 2 of 4 ended; 1 stopped; lowest MR^-2 reasonable 25.0 %; epochs of trial-002 4/5; about 3 min left"
    )


def test_warning_follows_end_of_trial() -> None:
    display, out = plain_display()
    board = TrialBoard(
        display,
        objectives=OBJECTIVES,
        total=1,
        ended=[],
        epochs_per_trial=5,
        warning_at_end=lambda trial: f"{trial.trial_id} is odd",
    )
    board.end(FINISHED)
    assert out.getvalue().splitlines()[-1].strip() == "Warning: trial-001 is odd"


def test_progress_without_terminal_is_printed_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr("sweeps.console.display.time.monotonic", lambda: clock[0])
    display, out = plain_display()
    with display:
        display.print_line("started")
        for _ in range(100):
            clock[0] += 1.0
            display.show_progress("under way [x]")
    # 100 s: one line after 60 s, and the next would come after 120 s.
    assert out.getvalue().splitlines() == ["started", "under way [x]"]


def test_terminal_shows_live_line_and_restores_cursor() -> None:
    out = io.StringIO()
    with Display(Console(file=out, force_terminal=True, width=100)) as display:
        display.print_line("runs/[demo] of 3")
        display._last_update = 0.0
        display.show_progress("trials: [1] of 3")
    text = out.getvalue()
    assert "runs/[demo] of 3" in text
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")


def test_epochs_of_teacher_are_printed_once() -> None:
    display, out = plain_display()
    board = TeacherBoard(display, OBJECTIVES)
    for step in range(1, 9):
        epoch = (step - 1) // 4 + 1
        board.update(TrainingProgress("teacher", step, 8, epoch, 2, {"mr2_reasonable": 0.5} if epoch > 1 else {}))
    assert [line for line in out.getvalue().splitlines() if "epochs" in line] == [
        "  teacher: 1 of 2 epochs, MR^-2 reasonable 50.0 %"
    ]


def test_labelling_is_shown_without_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    display, out = plain_display()
    shown: list[str] = []
    monkeypatch.setattr(display, "show_progress", shown.append)
    TeacherBoard(display, OBJECTIVES).update(TrainingProgress("labels of unlabelled images", 16, 40, 0, 0))
    assert shown == ["labels of unlabelled images: 16 of 40"]
    assert out.getvalue() == ""


def rows_of(objectives: tuple[str, ...], front: list[LedgerTrial], teacher: dict[str, float] | None) -> list[list[str]]:
    out = io.StringIO()
    Console(file=out, width=80).print(closing_table(front, objectives, teacher))
    return [re.split(r"\s{2,}", line.strip()) for line in out.getvalue().splitlines() if line.strip()]


def test_closing_table_holds_teacher_and_front() -> None:
    rows = rows_of(OBJECTIVES, [FINISHED], {"mr2_reasonable": 0.2, "num_params": 4e7, "flops": 1e10})
    assert ["MR^-2 reasonable (%)", "parameters (M)", "GFLOPs"] in rows
    assert ["teacher", "20.0", "40.00", "10.00"] in rows
    assert ["trial-001", "25.0", "1.23", "2.50"] in rows


def test_columns_of_closing_table_are_objectives() -> None:
    trials = [trial("trial-001", mr2_all=0.5, num_params=1_234_000, flops=2.5e9, gmacs=1.25)]
    rows = rows_of(("gmacs", "mr2_all"), trials, {"mr2_reasonable": 0.2, "num_params": 4e7})
    assert rows[1] == ["GMACs", "MR^-2 all (%)"]
    assert rows[-2:] == [["teacher", "-", "-"], ["trial-001", "1.25", "50.0"]]
