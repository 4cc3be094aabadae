"""Settings of early stopping, and all of their mistakes in one report."""

from __future__ import annotations

from pathlib import Path

import pytest

from hkd.config_files.problems import ConfigError
from sweeps.settings.scheduler import SchedulerConfig, scheduler_problems
from sweeps.settings.study import StudyConfig, load_study

FRONT = "name: x\nbase: {training: {total_epochs: 16}}\nscheduler: "


def read(tmp_path: Path, text: str, *overrides: str) -> StudyConfig:
    path = tmp_path / "study.yaml"
    path.write_text(text, encoding="utf-8")
    return load_study(path, overrides)


def test_trials_are_not_stopped_by_default(tmp_path: Path) -> None:
    study = read(tmp_path, "name: x")
    assert (study.scheduler.type, study.rungs) == ("fifo", ())


@pytest.mark.parametrize(
    ("scheduler", "rungs"),
    [
        ("{type: front}", (1, 3, 9)),
        ("{type: front, first_rung: 2, reduction_factor: 2}", (2, 4, 8)),
        ("{type: front, rungs: [8, 2]}", (2, 8)),
        # One switch: without early stopping, rungs have no meaning.
        ("{type: fifo, rungs: [99]}", ()),
    ],
)
def test_rungs_of_a_study(tmp_path: Path, scheduler: str, rungs: tuple[int, ...]) -> None:
    assert read(tmp_path, FRONT + scheduler).rungs == rungs


@pytest.mark.parametrize(
    ("scheduler", "facts"),
    [
        ("{type: front, rungs: [4, 16, 20]}", ("scheduler.rungs: found 16, 20", "base.training.total_epochs = 16")),
        ("{type: front, rungs: [4]}", ("scheduler.rungs: found 4", "allowed: 2 or more", "fifo")),
        ("{type: front, rungs: []}", ("scheduler.rungs: found",)),
        ("{type: front, rungs: [2, 2, 4]}", ("scheduler.rungs: found 2, 2, 4", "each epoch once")),
        ("{type: front, rungs: [0, 4]}", ("scheduler.rungs", "found 0")),
        ("{type: front, first_rung: 8}", ("scheduler: found 1 rung (", "first_rung 8", "allowed: 2 or more", "fifo")),
        ("{type: front, first_rung: 16}", ("scheduler: found 0 rungs", "base.training.total_epochs = 16")),
        ("{type: front, reduction_factor: 1}", ("scheduler.reduction_factor: found 1", "allowed")),
        ("{type: front, reduction_factor: 20}", ("scheduler: found 1 rung (", "reduction_factor 20")),
        ("{type: front, rungs: [2, 4], first_rung: 2}", ("scheduler.first_rung", "scheduler.rungs", "remove one")),
        ("{type: front, min_dominators: 0}", ("scheduler.min_dominators: found 0",)),
        ("{type: front, noise_multiple: -1}", ("scheduler.noise_multiple: found -1",)),
        ("{type: asha}", ("scheduler.type: found \"asha\"", "allowed: fifo, front")),
    ],
)  # fmt: skip
def test_mistake_is_reported_once_with_path_and_remedy(tmp_path: Path, scheduler: str, facts: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, FRONT + scheduler)
    (problem,) = caught.value.problems
    for fact in facts:
        assert fact in problem


def test_mistakes_are_reported_with_those_of_other_parts(tmp_path: Path) -> None:
    text = FRONT + "{type: front, rungs: [16]}\nsearch: {num_trials: 0}\nobjectives: [flops]"
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    keys = [problem.split(":")[0] for problem in caught.value.problems]
    assert sorted(keys) == ["objectives", "scheduler.rungs", "search.num_trials"]


def test_trials_of_different_length_are_not_compared(tmp_path: Path) -> None:
    space = "\nspace: {training.total_epochs: {type: int, low: 8, high: 16}}"
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, FRONT + "{type: front}" + space)
    (problem,) = caught.value.problems
    assert problem.startswith("space.training.total_epochs")
    assert "scheduler.type to fifo" in problem
    assert read(tmp_path, FRONT + "{type: fifo}" + space).rungs == ()


def test_written_study_is_read_again() -> None:
    # study.yaml has every default, also those that explicit rungs replace.
    scheduler = SchedulerConfig(type="front", rungs=(2, 4))
    assert scheduler_problems(SchedulerConfig(**scheduler.model_dump()), 16, ()) == []
