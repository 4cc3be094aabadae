"""The table of the benchmark, and its study."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import trial_overhead
from benchmarks.trial_overhead import Overhead, heading, overhead_study, row


def test_row_has_medians_and_memory_over_first_and_last_trials() -> None:
    resident = [number * 2**20 for number in range(1, 13)]
    seconds, in_worker = [0.1, 0.2, 0.9], [0.1, 0.1, 0.2]
    line = row("reused", Overhead(seconds, in_worker, [0.05, 0.07, 0.09], resident, 1))
    # Tune's part: 0.0, 0.1 and 0.7. Means of 1 to 10 and of 3 to 12: 5.5 and 7.5, rounded to even numbers.
    assert line == "| reused | 12 | 1 | **0.20** | 0.90 | 0.10 | 0.07 | 0.10 | 6 | 8 | 12 |"
    assert all(each.count("|") == line.count("|") for each in heading())


def test_either_kind_of_worker_can_be_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(trial_overhead, "write_teacher", lambda path: path)
    monkeypatch.setattr("sys.argv", ["trial_overhead", "--trials", "0", "--new-trials", "0"])
    trial_overhead.main()
    assert capsys.readouterr().out.splitlines() == list(heading())


def test_students_share_teacher_and_batches(tmp_path: Path) -> None:
    study = overhead_study(tmp_path, "x", num_trials=3)
    assert study.base.teacher is not None
    assert not [name for name in study.space if name.startswith(("training.", "data."))]
