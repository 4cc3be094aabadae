"""The order of trainings and what becomes of them, with threads in place of worker processes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from benchmarks.distillation_gain import schedule
from benchmarks.distillation_gain.jobs import Jobs
from benchmarks.distillation_gain.schedule import Progress, run_all
from benchmarks.distillation_gain.trainings import Outcome, Training
from hkd.files import write_json
from sweeps.interruption import Interruption
from tests.benchmarks.distillation_gain.miniature import ALONE, DISTILLED, miniature_benchmark, miniature_jobs

Act = Callable[[Training], Outcome]
CONDITIONS = [ALONE, DISTILLED, dataclasses.replace(ALONE, seed=1)]


@pytest.fixture
def untrained(tmp_path: Path) -> Jobs:
    return miniature_jobs(miniature_benchmark(tmp_path), tmp_path / "out")


def finish(training: Training) -> Outcome:
    """Write what marks a training as finished."""
    result = {
        "condition": {}, "settings": {}, "metrics": {"mr2_reasonable": 0.5}, "resampled_mr2_reasonable": [],
        "num_params": 1, "flops": 1, "trained_steps": 1, "seconds": 1.0, "evaluation_seconds": 1.0,
    }  # fmt: skip
    write_json(training.result_path, result)
    if training.exported_weights is not None:
        training.exported_weights.parent.mkdir(parents=True, exist_ok=True)
        training.exported_weights.write_bytes(b"weights")
    return "finished"


def call(
    monkeypatch: pytest.MonkeyPatch, jobs: Jobs, acts: Mapping[str, Act] | None = None, **options: float
) -> tuple[Progress, list[str]]:
    """Run everything by one worker; ``acts`` replaces :func:`finish` for trainings whose names begin so."""
    started: list[str] = []

    def run(training: Training) -> Outcome:
        started.append(training.name.rpartition("-")[0])
        act = next((act for name, act in (acts or {}).items() if training.name.startswith(name)), finish)
        return act(training)

    monkeypatch.setattr(schedule, "run", run)
    monkeypatch.setattr(schedule, "ProcessPoolExecutor", lambda workers, *_: ThreadPoolExecutor(workers))
    monkeypatch.setattr(schedule, "_RETRY_SECONDS", 0.0)
    return run_all(jobs, CONDITIONS, workers=1, **options), started


def test_teacher_comes_first_and_all_are_finished(untrained: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    progress, started = call(monkeypatch, untrained)
    assert started == ["teacher-strong-training", "teacher-strong", *(condition.name for condition in CONDITIONS)]
    assert progress == Progress(finished=5, elsewhere=(), failed=(), left=0)
    assert progress.is_complete
    again, started = call(monkeypatch, untrained)
    assert (again, started) == (progress, [])


def test_failed_training_does_not_end_the_others(untrained: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    def diverge(_: Training) -> Outcome:
        raise ValueError("the loss is NaN")

    progress, _ = call(monkeypatch, untrained, {ALONE.name: diverge})
    assert progress.finished == 4
    (failed,) = progress.failed
    assert failed.startswith(ALONE.name)
    assert "the loss is NaN" in failed
    assert not progress.is_complete


def test_conditions_of_a_failed_teacher_are_left(untrained: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    def diverge(_: Training) -> Outcome:
        raise ValueError("the loss is NaN")

    progress, started = call(monkeypatch, untrained, {"teacher": diverge})
    # Its evaluation and the distilled student are left; the two students alone are trained.
    assert (progress.finished, len(progress.failed), progress.left) == (2, 1, 2)
    assert DISTILLED.name not in started


def test_training_of_another_process_is_counted(untrained: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    progress, _ = call(monkeypatch, untrained, {ALONE.name: lambda _: "locked"})
    assert [name.rpartition("-")[0] for name in progress.elsewhere] == [ALONE.name]
    assert (progress.finished, progress.left) == (4, 0)


def test_teacher_of_another_process_is_waited_for(untrained: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter(["locked", "locked"])

    def locked_twice(training: Training) -> Outcome:
        return "locked" if next(answers, None) else finish(training)

    progress, started = call(monkeypatch, untrained, {"teacher-strong-training": locked_twice})
    assert progress.is_complete
    assert started.count("teacher-strong-training") == 3


def test_nothing_is_started_after_the_time_limit(untrained: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    progress, started = call(monkeypatch, untrained, max_hours=0.0)
    assert started == []
    assert progress.left == 5


def test_stopped_training_is_left(untrained: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    class Requested(Interruption):
        def __init__(self) -> None:
            super().__init__()
            self.is_requested = True

    monkeypatch.setattr(schedule, "Interruption", Requested)
    progress, started = call(monkeypatch, untrained)
    assert started == []
    assert progress.left == 5


def test_crash_of_a_worker_is_raised(untrained: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(_: Training) -> Outcome:
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        call(monkeypatch, untrained, {ALONE.name: crash})


def test_given_teacher_is_not_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = tmp_path / "student.safetensors"
    weights.write_bytes(b"weights")
    jobs = miniature_jobs(miniature_benchmark(tmp_path), tmp_path / "out", given_teachers={"strong": weights})
    _, started = call(monkeypatch, jobs)
    assert "teacher-strong-training" not in started
    assert DISTILLED.name in started
