"""Capacity of caches: budget, eviction and use."""

from __future__ import annotations

import os
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from hkd.training.pyramid_cache import capacity as capacity_module
from hkd.training.pyramid_cache.capacity import CacheBudget, end_use, remove_epochs_from, reserve_capacity, start_use

OLDEST, OLD, NEW, OWN = ("0" * 16, "1" * 16, "2" * 16, "3" * 16)
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def budget(tmp_path: Path) -> CacheBudget:
    """A budget of 1,000 bytes, of which three keys take 300 each."""
    for second, key in enumerate((OLDEST, OLD, NEW)):
        fill(tmp_path / key, 300, used_at=second)
    return CacheBudget(tmp_path, 1000)


def fill(folder: Path, size: int, used_at: float, epoch: int = 0) -> None:
    end_use(start_use(folder, size))
    (folder / str(epoch)).mkdir()
    (folder / str(epoch) / "0.pyramid").write_bytes(bytes(size))
    os.utime(folder / "plan.json", (used_at, used_at))


def keys_left(budget: CacheBudget) -> set[str]:
    return {path.name for path in budget.folder.iterdir()}


def give_disk(monkeypatch: pytest.MonkeyPatch, free_bytes: int) -> None:
    """A disk with this many free bytes above the reserve."""
    free = capacity_module._RESERVE_BYTES + free_bytes
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**12, 0, free))


def test_nothing_is_evicted_within_budget(budget: CacheBudget) -> None:
    # 1,000 - 3 * 300 = 100.
    assert reserve_capacity(budget, OWN, unit_bytes=50, wanted_bytes=100) == (100, "the budget of 1e-06 GB allows")
    assert keys_left(budget) == {OLDEST, OLD, NEW}


def test_least_recently_used_are_evicted_as_needed(budget: CacheBudget) -> None:
    # Without the oldest 400 bytes are free, without the two oldest 700.
    assert reserve_capacity(budget, OWN, unit_bytes=50, wanted_bytes=101)[0] == 400
    assert keys_left(budget) == {OLD, NEW}
    assert reserve_capacity(budget, OWN, unit_bytes=50, wanted_bytes=700)[0] == 700
    assert keys_left(budget) == {NEW}


def test_cache_in_use_is_not_evicted_and_counts_with_planned_size(budget: CacheBudget) -> None:
    # A training uses the oldest and planned 500 bytes: 1,000 - 500 remain when the others are evicted.
    user = start_use(budget.folder / OLDEST, 500)
    assert reserve_capacity(budget, OWN, unit_bytes=50, wanted_bytes=1000)[0] == 500
    assert keys_left(budget) == {OLDEST}
    end_use(user)
    # Now it counts with its present 300 bytes, and may be evicted.
    assert reserve_capacity(budget, OWN, unit_bytes=50, wanted_bytes=700)[0] == 700
    assert keys_left(budget) == {OLDEST}
    assert reserve_capacity(budget, OWN, unit_bytes=50, wanted_bytes=701)[0] == 1000
    assert keys_left(budget) == set()


def test_cache_is_in_use_until_last_user_ends(budget: CacheBudget) -> None:
    first, second = start_use(budget.folder / OLDEST, 300), start_use(budget.folder / OLDEST, 200)
    end_use(first)
    reserve_capacity(budget, OWN, unit_bytes=50, wanted_bytes=1000)
    # The greater of the sizes that both users planned.
    assert keys_left(budget) == {OLDEST}
    assert reserve_capacity(budget, OWN, unit_bytes=50, wanted_bytes=1000)[0] == 700
    end_use(second)


def test_nothing_is_evicted_if_capacity_stays_too_small(budget: CacheBudget) -> None:
    assert reserve_capacity(budget, OWN, unit_bytes=1001, wanted_bytes=5000)[0] == 100
    assert keys_left(budget) == {OLDEST, OLD, NEW}


def test_present_entries_count_for_their_own_key(budget: CacheBudget) -> None:
    # Its 300 bytes and the 100 that are free.
    assert reserve_capacity(budget, NEW, unit_bytes=50, wanted_bytes=400)[0] == 400
    assert keys_left(budget) == {OLDEST, OLD, NEW}


def test_disk_keeps_reserve(budget: CacheBudget, monkeypatch: pytest.MonkeyPatch) -> None:
    give_disk(monkeypatch, 30)
    amount, limit = reserve_capacity(budget, OWN, unit_bytes=10, wanted_bytes=30)
    assert (amount, limit) == (30, "the disk has free, less 4 GB in reserve")
    # The oldest's 300 bytes and the 30; the faked disk does not grow when they are removed.
    assert reserve_capacity(budget, OWN, unit_bytes=10, wanted_bytes=300)[0] == 330
    assert keys_left(budget) == {OLD, NEW}
    give_disk(monkeypatch, -(10**9))
    assert reserve_capacity(budget, OWN, unit_bytes=10, wanted_bytes=300)[0] == 0
    assert keys_left(budget) == {OLD, NEW}, "removing them would not help"


def test_other_files_are_not_evicted(budget: CacheBudget) -> None:
    (budget.folder / "thesis").mkdir()
    (budget.folder / "thesis" / "chapter.tex").write_bytes(bytes(900))
    (budget.folder / ("4" * 16)).write_bytes(b"a file")
    reserve_capacity(budget, OWN, unit_bytes=50, wanted_bytes=1000)
    assert keys_left(budget) == {"thesis", "4" * 16}


def test_partially_removed_cache_is_evicted_first(budget: CacheBudget) -> None:
    (budget.folder / NEW / "plan.json").unlink()
    reserve_capacity(budget, OWN, unit_bytes=50, wanted_bytes=400)
    assert keys_left(budget) == {OLDEST, OLD}


def test_epochs_above_budget_are_removed_unless_in_use(tmp_path: Path) -> None:
    folder = tmp_path / OWN
    for epoch in range(3):
        fill(folder, 100, used_at=1, epoch=epoch)
    user = start_use(folder, 300)
    remove_epochs_from(folder, 1)
    assert {path.name for path in folder.glob("[0-9]*")} == {"0", "1", "2"}
    end_use(user)
    remove_epochs_from(folder, 1)
    assert {path.name for path in folder.glob("[0-9]*")} == {"0"}
