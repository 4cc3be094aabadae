"""Progress bars of trainings."""

from __future__ import annotations

import io

from rich.console import Console

from hkd.training.progress import TrainingProgress, progress_bars


def test_each_training_has_a_bar_with_its_epoch_loss_and_miss_rate() -> None:
    screen = io.StringIO()
    with progress_bars(Console(file=screen, width=120, force_terminal=False)) as show:
        show(TrainingProgress("teacher", 1, 4, 1, 2, {"loss_total": 2.5}))
        show(TrainingProgress("student", 2, 4, 1, 2))
        show(TrainingProgress("teacher", 3, 4, 2, 2, {"loss_total": 1.25, "mr2_reasonable": 0.5}))
    first, second = (line for line in screen.getvalue().splitlines() if line.strip())
    assert first.startswith("teacher")
    assert "3/4 epoch 2/2, loss 1.250, MR^-2 50.0 %" in first
    assert second.startswith("student")
    assert "2/4 epoch 1/2" in second
