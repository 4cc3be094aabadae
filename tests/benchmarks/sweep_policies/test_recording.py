"""Tests of the recorder: which trainings it makes, in which order, and that it resumes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.sweep_policies.__main__ import main
from benchmarks.sweep_policies.curves import CurvesError, read_curves, write_curves
from benchmarks.sweep_policies.recording import listing, record, recordings
from benchmarks.sweep_policies.task import SEEDS, TASK, configurations, load_task
from sweeps.settings.study import load_study

MINIATURE = [
    "base.data.image_height=64",
    "base.data.image_width=64",
    "base.data.synthetic={train_images: 4, validation_images: 8, height: 192, width: 256}",
    "base.teacher.training.total_epochs=1",
    "base.student.reconstruction_images=0",
    "base.training.total_epochs=2",
]


def test_configurations_are_distinct_and_a_third_is_held_back() -> None:
    task = load_task()
    found = configurations(task)
    assert len({tuple(each.params.items()) for each in found}) == 96
    # Of 96 fair draws of one in three: 32 expected, with a standard deviation of 4.6.
    assert 20 <= sum(each.is_held_back for each in found) <= 44
    # Fewer are the first of more: an interrupted recording is a part of the whole one.
    assert configurations(task, 16) == found[:16]


def test_another_configuration_of_each_seed_is_first() -> None:
    """It computes the teacher's pyramids for the others, which makes its time longer."""
    task = load_task()
    found = recordings(task, configurations(task), SEEDS, Path("out"))
    assert len(found) == 96 * 3
    assert [found[96 * turn].configuration.number for turn in range(3)] == [0, 32, 64]
    assert [found[96 * turn].seed for turn in range(3)] == [0, 1, 2]


def test_files_are_named_by_all_settings() -> None:
    task = load_task()
    first, *_ = recordings(task, configurations(task, 16), (0,), Path("out"))
    shorter, *_ = recordings(load_study(TASK, ["base.training.total_epochs=2"]), configurations(task, 16), (0,), Path())
    assert first.name.startswith("000-0-")
    assert len({first.name, shorter.name, replace(first, teacher_images=2).name}) == 3


def test_curve_is_recorded_once_and_survives_the_table(tmp_path: Path) -> None:
    task = load_study(TASK, MINIATURE)
    todo = recordings(task, configurations(task, 2), (0,), tmp_path / "out", teacher_images=6)
    for folder in ("trainings", "locks"):
        (tmp_path / "out" / folder).mkdir(parents=True)
    assert listing(todo, workers=2) == "0 finished, 2 missing: of unknown duration, none is finished"
    curve = record(todo[0])
    assert curve is not None
    assert len(curve.miss_rates) == 2
    assert all(0 <= value <= 1 for value in curve.miss_rates)
    assert curve.cpu_seconds > 0
    assert todo[0].curve() == curve
    written = todo[0].path.stat().st_mtime_ns
    assert record(todo[0]) == curve
    assert todo[0].path.stat().st_mtime_ns == written
    assert listing(todo, workers=2).startswith("1 finished, 1 missing: ")

    write_curves([curve], tmp_path / "curves.csv")
    (read,) = read_curves(tmp_path / "curves.csv")
    assert read == replace(curve, miss_rates=tuple(round(value, 5) for value in curve.miss_rates))


@pytest.mark.parametrize("content", ["", "configuration,seed\n0\n", "configuration,seed\n0,0\n"])
def test_damaged_table_is_refused_by_name(tmp_path: Path, content: str) -> None:
    path = tmp_path / "curves.csv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(CurvesError, match="curves.csv"):
        read_curves(path)


def test_list_trains_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["record", "--list", "--configurations", "4", "--out", str(tmp_path / "out")]) == 0
    assert "0 finished, 12 missing" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()
