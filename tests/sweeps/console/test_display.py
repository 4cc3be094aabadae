"""What is told while a study runs."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from hkd.training.progress import TrainingProgress
from sweeps.console.display import Display, TeacherBoard, TrialBoard, describe, duration, front_table
from sweeps.trials.ledger import LedgerTrial


def plain_display() -> tuple[Display, io.StringIO]:
    out = io.StringIO()
    return Display(Console(file=out, width=200)), out


def trial(trial_id: str, status: str = "finished", error: str | None = None, **metrics: float) -> LedgerTrial:
    return LedgerTrial(trial_id, "trial", None, {}, status, 1, None, 0, metrics, error, 0)


FINISHED = trial("trial-001", mr2_reasonable=0.25, num_params=1_234_000, flops=2.5e9)


def test_describe() -> None:
    assert describe(FINISHED) == "trial-001 finished: 25.0 % missed, 1.23 M parameters, 2.50 GFLOPs"
    failed = trial("trial-002", status="failed", error="Traceback\n  x\nValueError: boom\n")
    assert describe(failed) == "trial-002 failed: ValueError: boom"
    assert describe(trial("trial-003", status="failed")) == "trial-003 failed: no reason is known"


@pytest.mark.parametrize(
    ("seconds", "text"), [(5, "5 s"), (89, "89 s"), (90, "2 min"), (3600, "60 min"), (9000, "2.5 h")]
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_trials_are_counted_and_the_rest_is_estimated(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("sweeps.console.display.time.monotonic", lambda: clock[0])
    display, out = plain_display()
    board = TrialBoard(display, total=4, ended=[trial("baseline-undistilled")], epochs_per_trial=5)
    board.start("trial-001", 0, 5)
    board.start("trial-002", 3, 5)
    assert "trial-002 goes on after epoch 3 of 5" in out.getvalue()
    clock[0] = 60.0
    for epoch in range(1, 6):
        board.epoch("trial-001", epoch)
    board.epoch("trial-002", 4)
    board.end(FINISHED)
    # 6 epochs took 60 s. Left: 1 of trial-002 and 5 of a trial that was not proposed yet: 6 epochs, 60 s.
    assert (
        "trial-001 finished: 25.0 % missed, 1.23 M parameters, 2.50 GFLOPs  (2 of 4; about 60 s left)" in out.getvalue()
    )
    clock[0] = 200.0
    board.update()
    last = out.getvalue().splitlines()[-1]
    # 6 epochs took 200 s now.
    assert last == "trials: 2 of 4 done; best 25.0 % missed; epochs of trial-002 4/5; about 3 min left"


def test_where_there_is_no_terminal_news_comes_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr("sweeps.console.display.time.monotonic", lambda: clock[0])
    display, out = plain_display()
    with display:
        display.say("begun")
        for _ in range(100):
            clock[0] += 1.0
            display.show("under way [x]")
    # 100 s: one line after 60 s, and the next would come after 120 s.
    assert out.getvalue().splitlines() == ["begun", "under way [x]"]


def test_a_terminal_shows_a_live_line_and_leaves_it_clean() -> None:
    out = io.StringIO()
    with Display(Console(file=out, force_terminal=True, width=100)) as display:
        display.say("runs/[demo] of 3")
        display._last_update = 0.0
        display.show("trials: [1] of 3")
    text = out.getvalue()
    assert "runs/[demo] of 3" in text
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")  # the cursor, hidden meanwhile, is back


def test_the_teachers_epochs_are_told_once() -> None:
    display, out = plain_display()
    board = TeacherBoard(display)
    for step in range(1, 9):
        epoch = (step - 1) // 4 + 1
        board.update(TrainingProgress("teacher", step, 8, epoch, 2, {"mr2_reasonable": 0.5} if epoch > 1 else {}))
    assert [line for line in out.getvalue().splitlines() if "epochs" in line] == [
        "  teacher: 1 of 2 epochs, 50.0 % missed"
    ]


def test_front_table_holds_the_teacher_and_the_front() -> None:
    out = io.StringIO()
    Console(file=out, width=80).print(
        front_table([FINISHED], {"mr2_reasonable": 0.2, "num_params": 4e7, "flops": 1e10})
    )
    rows = [line.split() for line in out.getvalue().splitlines()]
    assert ["teacher", "20.0", "40.00", "10.00"] in rows
    assert ["trial-001", "25.0", "1.23", "2.50"] in rows
