"""Entries of the pyramid cache without a network: a step's "images" are constant, and so is its "pyramid"."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock
from torch import Tensor

from hkd.training.pyramid_cache import cache as teacher_cache
from hkd.training.pyramid_cache import capacity as capacity_module
from hkd.training.pyramid_cache.cache import (
    CACHED_FRACTION,
    DAMAGED_ENTRIES,
    TeacherCache,
    open_cache,
    plan_cache,
)
from hkd.training.pyramid_cache.capacity import CacheBudget

KEY = "0123456789abcdef"
PLENTY = 10**9

# Processes that import torch again would take ten times as long; these run nothing but single-threaded arithmetic.
FORKS = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


def images_of(step: int) -> Tensor:
    return torch.full((2, 3, 32, 32), float(step))


def pyramid_of(epoch: int, step: int) -> dict[str, Tensor]:
    return {"p2": torch.full((2, 8, 8, 8), epoch + step / 64).bfloat16()}


def open_plain(folder: Path) -> TeacherCache:
    # 2 * 8 * 8 * 8 * 2 bytes are half a page; with the header two pages.
    return open_cache(CacheBudget(folder, PLENTY), KEY, entry_bytes=8192, steps_per_epoch=30, total_epochs=2)


def test_entry_of_other_images_is_not_used(tmp_path: Path) -> None:
    # As after a change of the loader that the key does not cover.
    cache = open_plain(tmp_path)
    cache.pyramid(0, 0, images_of(0), lambda: pyramid_of(0, 0))
    teacher_cache._verified.clear()
    found = cache.pyramid(0, 0, images_of(1), lambda: pyramid_of(0, 1))
    assert torch.equal(found["p2"], pyramid_of(0, 1)["p2"])
    assert cache.take_counts() == {CACHED_FRACTION: 0, DAMAGED_ENTRIES: 1}


def test_entry_removed_while_read_is_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = open_plain(tmp_path)
    cache.pyramid(0, 0, images_of(0), lambda: pyramid_of(0, 0))
    map_file = torch.from_file

    def vanish(name: str, **arguments: Any) -> Tensor:
        Path(name).unlink(missing_ok=True)
        return map_file(name, **arguments)

    monkeypatch.setattr(torch, "from_file", vanish)
    found = cache.pyramid(0, 0, images_of(0), lambda: pyramid_of(0, 0))
    assert torch.equal(found["p2"], pyramid_of(0, 0)["p2"])


def test_wait_for_other_training_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = open_plain(tmp_path)
    (tmp_path / KEY / "0").mkdir()
    monkeypatch.setattr(teacher_cache, "_MAX_WAIT_SECONDS", 0.01)
    with FileLock(tmp_path / KEY / "0" / "lock-0"):
        found = cache.pyramid(0, 0, images_of(0), lambda: pyramid_of(0, 0))
    assert torch.equal(found["p2"], pyramid_of(0, 0)["p2"])
    assert not list(tmp_path.glob("*/*/*.pyramid")), "it wrote what another one was writing"


def train_plainly(folder: Path, results: Queue[tuple[int, bool]]) -> None:
    """All steps of a process whose teacher takes 5 ms, its student nothing."""
    cache = open_plain(folder)
    computed = 0
    is_right = True

    def compute(epoch: int, step: int) -> dict[str, Tensor]:
        nonlocal computed
        computed += 1
        time.sleep(0.005)
        return pyramid_of(epoch, step)

    for epoch in range(2):
        for step in range(30):
            found = cache.pyramid(epoch, step, images_of(step), lambda of=(epoch, step): compute(*of))  # type: ignore[misc]
            is_right &= torch.equal(found["p2"], pyramid_of(epoch, step)["p2"])
    results.put((computed, is_right))


def train_in_step(folder: Path, results: Queue[int], together: Barrier) -> None:
    """An epoch whose steps start at the same time in all processes."""
    cache, computed = open_plain(folder), 0

    def compute(step: int) -> dict[str, Tensor]:
        nonlocal computed
        computed += 1
        time.sleep(0.02)
        return pyramid_of(0, step)

    for step in range(30):
        together.wait(timeout=60)
        cache.pyramid(0, step, images_of(step), partial(compute, step), lambda s: (images_of(s), partial(compute, s)))
    results.put(computed)


def be_killed_while_writing(folder: Path) -> None:
    def kill(*_: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    cache = open_plain(folder)
    cache.pyramid(0, 0, images_of(0), lambda: pyramid_of(0, 0))
    Path.replace = kill  # type: ignore[method-assign, assignment]
    cache.pyramid(0, 1, images_of(1), lambda: pyramid_of(0, 1))


@FORKS
def test_concurrent_processes_compute_each_entry_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    processes = [context.Process(target=train_plainly, args=(tmp_path, results)) for _ in range(2)]
    for process in processes:
        process.start()
    found = [results.get(timeout=120) for _ in processes]
    for process in processes:
        process.join()
    assert [is_right for _, is_right in found] == [True, True]
    assert sum(computed for computed, _ in found) == 60
    assert len(list(tmp_path.glob("*/*/*.pyramid"))) == 60


def test_training_that_waits_computes_the_next_free_entry(tmp_path: Path) -> None:
    cache, folder = open_plain(tmp_path), tmp_path / KEY / "0"
    folder.mkdir()
    asked: list[int] = []

    def later(step: int) -> tuple[Tensor, Callable[[], dict[str, Tensor]]]:
        asked.append(step)
        computing.release()  # the other training has written neither entry, but ends
        return images_of(step), lambda: pyramid_of(0, step)

    # Other trainings compute the entries of steps 0 and 1.
    computing = FileLock(folder / "lock-0")
    with FileLock(folder / "lock-1"), computing:
        found = cache.pyramid(0, 0, images_of(0), lambda: pyramid_of(0, 0), later)
    assert torch.equal(found["p2"], pyramid_of(0, 0)["p2"])
    assert asked == [2]
    assert sorted(path.name for path in folder.glob("*.pyramid")) == ["0.pyramid", "2.pyramid"]
    assert cache.take_counts()[CACHED_FRACTION] == 0
    # Its own work counts as computed when it is read, and only once.
    found = cache.pyramid(0, 2, images_of(2), lambda: pytest.fail("computed twice"), later)
    assert torch.equal(found["p2"], pyramid_of(0, 2)["p2"])
    assert cache.take_counts()[CACHED_FRACTION] == 0
    cache.pyramid(0, 2, images_of(2), lambda: pytest.fail("computed twice"), later)
    assert cache.take_counts()[CACHED_FRACTION] == 1


@FORKS
def test_trainings_that_start_together_share_the_work(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    results, together = context.Queue(), context.Barrier(2)
    processes = [context.Process(target=train_in_step, args=(tmp_path, results, together)) for _ in range(2)]
    for process in processes:
        process.start()
    found = [results.get(timeout=120) for _ in processes]
    for process in processes:
        process.join()
    # Both are at the same step at any time: each entry is computed once, some by each.
    assert sum(found) == 30
    assert min(found) > 0


@FORKS
def test_process_killed_while_writing_blocks_no_other(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    process = context.Process(target=be_killed_while_writing, args=(tmp_path,))
    process.start()
    process.join(timeout=120)
    assert process.exitcode == -signal.SIGKILL
    folder = tmp_path / KEY
    assert len(list((folder / "0").glob(".1.pyramid.*"))) == 1
    assert list((folder / "users").iterdir())
    assert not capacity_module._is_in_use(folder), "a killed process uses the cache"
    cache = open_plain(tmp_path)
    for step in (0, 1):
        found = cache.pyramid(0, step, images_of(step), lambda of=step: pyramid_of(0, of))  # type: ignore[misc]
        assert torch.equal(found["p2"], pyramid_of(0, step)["p2"])
    assert cache.take_counts() == {CACHED_FRACTION: 0.5, DAMAGED_ENTRIES: 0}
    assert sorted(path.name for path in (folder / "0").iterdir() if "lock" not in path.name) == [
        "0.pyramid",
        "1.pyramid",
    ]


def test_plan_changes_nothing(tmp_path: Path) -> None:
    budget = CacheBudget(tmp_path / "none" / "yet", 3 * 30 * 8192)
    plan = plan_cache(budget, entry_bytes=8192, steps_per_epoch=30, total_epochs=4)
    assert (plan.cached_epochs, plan.limit) == (3, "the budget of 0.00073728 GB allows")
    assert plan_cache(budget, entry_bytes=8192, steps_per_epoch=30, total_epochs=3).limit == ""
    assert list(tmp_path.iterdir()) == []
