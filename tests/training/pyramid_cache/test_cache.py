"""The teacher's pyramids on disk: no bit of a training changes, whatever happens to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from torch import Tensor

from hkd.data.prepare import PreparedData
from hkd.models.detector import Detector
from hkd.training.pyramid_cache import cache as teacher_cache
from hkd.training.pyramid_cache import capacity as capacity_module
from hkd.training.pyramid_cache.cache import (
    CACHED_FRACTION,
    DAMAGED_ENTRIES,
    UNWRITTEN_ENTRIES,
    open_cache,
)
from hkd.training.pyramid_cache.capacity import CacheBudget
from hkd.training.pyramid_cache.entry_file import read_pyramid
from hkd.training.trainer import Trainer
from tests.training.test_trainer import assert_same_weights
from tests.training.tiny import TEACHER_SHAPE, build, trial_config

PLENTY = 10**9
STEPS = 2
"""Of an epoch: five scenes in batches of two."""

MakeTrainer = Callable[..., Trainer]


@pytest.fixture(scope="module")
def teacher() -> Detector:
    return build(TEACHER_SHAPE, 1)


@pytest.fixture
def make(scenes_dir: Path, data: PreparedData, teacher: Detector, tmp_path: Path) -> MakeTrainer:
    """Builds a distilling trainer with a cache from changes of the configuration."""

    def make_trainer(budget: int | None = PLENTY, taught_by: Detector = teacher, **changes: Any) -> Trainer:
        cache = None if budget is None else CacheBudget(tmp_path / "outputs", budget)
        return Trainer(trial_config(scenes_dir, **changes), data, taught_by, teacher_cache=cache)

    return make_trainer


def losses_of(epoch: dict[str, float]) -> dict[str, float]:
    """What an epoch computed, less the clock's readings and the cache's."""
    others = {"seconds", "images_per_second", CACHED_FRACTION, DAMAGED_ENTRIES, UNWRITTEN_ENTRIES}
    return {name: value for name, value in epoch.items() if name not in others}


def train(trainer: Trainer, epochs: int = 2) -> list[dict[str, float]]:
    return [trainer.train_epoch() for _ in range(epochs)]


def fractions(epochs: list[dict[str, float]]) -> list[float]:
    return [epoch[CACHED_FRACTION] for epoch in epochs]


def assert_same(one: Trainer, of_one: list[dict[str, float]], other: Trainer, of_other: list[dict[str, float]]) -> None:
    """The same losses, gradients and weights, to the bit."""
    assert [losses_of(epoch) for epoch in of_one] == [losses_of(epoch) for epoch in of_other]
    assert_same_weights(one.student, other.student)


def entries(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "outputs").glob("*/*/*.pyramid"))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_training_is_equal_with_and_without_cache(make: MakeTrainer, tmp_path: Path, precision: str) -> None:
    plain = make(budget=None, training__precision=precision)
    expected = train(plain)
    assert plain.teacher_cache is None
    first = make(training__precision=precision)
    written = train(first)
    assert fractions(written) == [0, 0]
    assert len(entries(tmp_path)) == 2 * STEPS
    assert_same(first, written, plain, expected)
    second = make(training__precision=precision)
    read = train(second)
    assert fractions(read) == [1, 1]
    assert_same(second, read, plain, expected)
    assert first.teacher_cache is not None
    assert {path.stat().st_size for path in entries(tmp_path)} == {first.teacher_cache.plan.entry_bytes}


def test_other_student_with_other_weights_reads_entries_of_first(make: MakeTrainer) -> None:
    train(make())
    other = {
        "student__pyramid_channels": 24,
        "distillation__pyramid__loss": "mse",
        "distillation__logits__temperature": 3.0,
        "training__learning_rate": 1e-2,
        "training__total_epochs": 5,
    }
    plain, cached = make(budget=None, **other), make(**other)
    expected, read = train(plain, 3), train(cached, 3)
    # It trains longer than the first did, which wrote fewer entries.
    assert fractions(read) == [1, 1, 0]
    assert_same(cached, read, plain, expected)


def test_teachers_backbone_is_not_run_for_cached_steps(make: MakeTrainer, teacher: Detector) -> None:
    train(make())

    def refuse(*_: Any) -> None:
        raise AssertionError("the teacher computed its pyramid")

    # Not monkeypatch: before pytest 9.2 it leaves a bound method in the instance, which copies of it share.
    with patch.object(teacher, "forward_pyramid", refuse):
        assert fractions(train(make())) == [1, 1]


def test_other_teacher_of_same_configuration_has_its_own_entries(make: MakeTrainer, tmp_path: Path) -> None:
    train(make())
    other = build(TEACHER_SHAPE, 2)
    plain, cached = make(budget=None, taught_by=other), make(taught_by=other)
    expected, written = train(plain), train(cached)
    assert fractions(written) == [0, 0]
    assert_same(cached, written, plain, expected)
    assert len(entries(tmp_path)) == 2 * 2 * STEPS


def test_resumed_training_reads_entries_of_its_epochs(make: MakeTrainer, tmp_path: Path) -> None:
    straight = make(budget=None)
    expected = train(straight, 3)
    interrupted = make()
    measured = train(interrupted, 1)
    interrupted.save(tmp_path / "state.pt")
    train(interrupted, 1)  # lost, except for the entries that it wrote
    resumed = make()
    resumed.load(tmp_path / "state.pt")
    again = train(resumed, 2)
    assert fractions(again) == [1, 0]
    assert_same(resumed, measured + again, straight, expected)
    # With and without the cache is one and the same training.
    without = make(budget=None)
    without.load(tmp_path / "state.pt")
    assert [losses_of(epoch) for epoch in train(without, 2)] == [losses_of(epoch) for epoch in expected[1:]]


def test_damaged_entry_is_recomputed_and_counted(make: MakeTrainer, tmp_path: Path) -> None:
    expected = train(make())
    victim = entries(tmp_path)[1]
    content = bytearray(victim.read_bytes())
    content[5000] ^= 1
    victim.write_bytes(content)
    recomputed = train(make())
    assert [losses_of(epoch) for epoch in recomputed] == [losses_of(epoch) for epoch in expected]
    assert fractions(recomputed) == [0.5, 1]
    assert [epoch[DAMAGED_ENTRIES] for epoch in recomputed] == [1, 0]
    healed = train(make())
    assert fractions(healed) == [1, 1]
    assert [epoch[DAMAGED_ENTRIES] for epoch in healed] == [0, 0]


def test_entry_is_verified_once_per_process(make: MakeTrainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    identities: list[str | None] = []
    original = read_pyramid

    def note(path: Path, identity: str | None) -> dict[str, Tensor]:
        identities.append(identity)
        return original(path, identity)

    train(make(), 1)
    monkeypatch.setattr(teacher_cache, "read_pyramid", note)
    # What this process wrote it need not verify.
    train(make(), 1)
    assert identities == [None, None]
    teacher_cache._verified.clear()
    train(make(), 1)
    train(make(), 1)
    assert [identity is None for identity in identities[2:]] == [False, False, True, True]


def test_first_epochs_that_fit_are_cached(make: MakeTrainer, tmp_path: Path) -> None:
    plain = make(budget=None)
    expected = train(plain)
    full = make().teacher_cache
    assert full is not None
    assert str(full.plan) == (
        # 64 x 96 pixels: 16 * 24 + 8 * 12 + 4 * 6 + 2 * 3 + 1 * 2 = 512 cells of 16 channels, two images, in 2 or 4
        # bytes; rounded up to pages, with one of header.
        f"all are cached: 3 epochs of 2 steps, {full.plan.entry_bytes / 1e6:.1f} MB each, take 0.00 GB"
    )
    full.close()
    budget = 2 * full.plan.epoch_bytes - 1
    for fraction in (0, 1):
        trainer = make(budget)
        assert trainer.teacher_cache is not None
        assert trainer.teacher_cache.plan == replace(
            full.plan, cached_epochs=1, limit=f"the budget of {budget / 1e9:g} GB allows"
        )
        assert str(trainer.teacher_cache.plan).startswith("those of the first 1 epochs are cached: 3 epochs")
        measured = train(trainer)
        assert fractions(measured) == [fraction, 0]
        assert_same(trainer, measured, plain, expected)
        assert [path.parent.name for path in entries(tmp_path)] == ["0", "0"]


@pytest.mark.parametrize("budget", [0, 1000])
def test_nothing_is_cached_without_capacity(make: MakeTrainer, tmp_path: Path, budget: int) -> None:
    plain, trainer = make(budget=None), make(budget)
    expected, measured = train(plain), train(trainer)
    assert fractions(measured) == [0, 0]
    assert_same(trainer, measured, plain, expected)
    assert entries(tmp_path) == []
    assert trainer.teacher_cache is not None
    assert str(trainer.teacher_cache.plan).startswith("none is cached: 3 epochs of 2 steps")


def test_lower_budget_removes_epochs(make: MakeTrainer, tmp_path: Path) -> None:
    first = make()
    train(first)
    assert first.teacher_cache is not None
    first.teacher_cache.close()
    assert fractions(train(make(first.teacher_cache.plan.epoch_bytes))) == [1, 0]
    assert [path.parent.name for path in entries(tmp_path)] == ["0", "0"]


def test_errors_of_disk_do_not_stop_training(
    make: MakeTrainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = train(make(budget=None))
    tried = []

    def fail(path: Path, *_: Any) -> None:
        tried.append(path)
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patches:
        patches.setattr(teacher_cache, "write_pyramid", fail)
        measured = train(make())
    assert [losses_of(epoch) for epoch in measured] == [losses_of(epoch) for epoch in expected]
    assert len(tried) == 1, "it went on trying"
    assert [epoch[UNWRITTEN_ENTRIES] for epoch in measured] == [STEPS, STEPS]
    (tmp_path / "file").touch()
    cache = open_cache(
        CacheBudget(tmp_path / "file", PLENTY), "0123456789abcdef", entry_bytes=1, steps_per_epoch=1, total_epochs=1
    )
    assert str(cache.plan).startswith("none is cached")
    assert "File exists" in cache.plan.limit


def test_deleted_trainer_releases_its_cache(make: MakeTrainer, tmp_path: Path) -> None:
    trainer = make()
    (folder,) = (path for path in (tmp_path / "outputs").iterdir() if path.is_dir())
    assert capacity_module._is_in_use(folder)
    del trainer
    assert not capacity_module._is_in_use(folder)
