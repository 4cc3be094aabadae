"""Room on a disk: who makes way for whom, and who never does."""

from __future__ import annotations

import os
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from hkd.training.pyramid_cache import capacity as cache_room
from hkd.training.pyramid_cache.capacity import CacheRoom, begin_use, cut, end_use, make_room

OLDEST, OLD, NEW, OWN = ("0" * 16, "1" * 16, "2" * 16, "3" * 16)
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def room(tmp_path: Path) -> CacheRoom:
    """A budget of 1,000 bytes, of which three keys take 300 each."""
    for second, key in enumerate((OLDEST, OLD, NEW)):
        fill(tmp_path / key, 300, used_at=second)
    return CacheRoom(tmp_path, 1000)


def fill(folder: Path, size: int, used_at: float, epoch: int = 0) -> None:
    end_use(begin_use(folder, size))
    (folder / str(epoch)).mkdir()
    (folder / str(epoch) / "0.pyramid").write_bytes(bytes(size))
    os.utime(folder / "plan.json", (used_at, used_at))


def keys_left(room: CacheRoom) -> set[str]:
    return {path.name for path in room.folder.iterdir()}


def give_disk(monkeypatch: pytest.MonkeyPatch, free_bytes: int) -> None:
    """A disk with this much left beside what must be left free."""
    free = cache_room._RESERVE_BYTES + free_bytes
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**12, 0, free))


def test_nothing_makes_way_while_there_is_room(room: CacheRoom) -> None:
    # 1,000 - 3 * 300 = 100.
    assert make_room(room, OWN, unit_bytes=50, wanted_bytes=100) == (100, "the budget of 1e-06 GB has room for")
    assert keys_left(room) == {OLDEST, OLD, NEW}


def test_the_least_recently_used_make_way_as_far_as_needed(room: CacheRoom) -> None:
    # Without the oldest 400 can be had, without the two oldest 700.
    assert make_room(room, OWN, unit_bytes=50, wanted_bytes=101)[0] == 400
    assert keys_left(room) == {OLD, NEW}
    assert make_room(room, OWN, unit_bytes=50, wanted_bytes=700)[0] == 700
    assert keys_left(room) == {NEW}


def test_what_is_in_use_never_makes_way_and_counts_as_what_it_may_grow_to(room: CacheRoom) -> None:
    # The oldest is used by somebody who planned 500 bytes: 1,000 - 500 are left when the others are gone.
    user = begin_use(room.folder / OLDEST, 500)
    assert make_room(room, OWN, unit_bytes=50, wanted_bytes=1000)[0] == 500
    assert keys_left(room) == {OLDEST}
    end_use(user)
    # Now it counts as the 300 bytes that it has, and may go.
    assert make_room(room, OWN, unit_bytes=50, wanted_bytes=700)[0] == 700
    assert keys_left(room) == {OLDEST}
    assert make_room(room, OWN, unit_bytes=50, wanted_bytes=701)[0] == 1000
    assert keys_left(room) == set()


def test_several_users_hold_a_key_until_the_last_ends(room: CacheRoom) -> None:
    first, second = begin_use(room.folder / OLDEST, 300), begin_use(room.folder / OLDEST, 200)
    end_use(first)
    make_room(room, OWN, unit_bytes=50, wanted_bytes=1000)
    # The greater of what two users at a time have planned.
    assert keys_left(room) == {OLDEST}
    assert make_room(room, OWN, unit_bytes=50, wanted_bytes=1000)[0] == 700
    end_use(second)


def test_nothing_makes_way_where_that_would_be_of_no_use(room: CacheRoom) -> None:
    assert make_room(room, OWN, unit_bytes=1001, wanted_bytes=5000)[0] == 100
    assert keys_left(room) == {OLDEST, OLD, NEW}


def test_what_a_key_has_already_is_its_own(room: CacheRoom) -> None:
    # Its 300 bytes and the 100 that are free.
    assert make_room(room, NEW, unit_bytes=50, wanted_bytes=400)[0] == 400
    assert keys_left(room) == {OLDEST, OLD, NEW}


def test_the_disk_keeps_a_reserve(room: CacheRoom, monkeypatch: pytest.MonkeyPatch) -> None:
    give_disk(monkeypatch, 30)
    amount, limit = make_room(room, OWN, unit_bytes=10, wanted_bytes=30)
    assert (amount, limit) == (30, "the disk has free, less 4 GB for all else")
    # The oldest's 300 bytes and the 30; the disk's answer stands for all calls, so they are not there afterwards.
    assert make_room(room, OWN, unit_bytes=10, wanted_bytes=300)[0] == 330
    assert keys_left(room) == {OLD, NEW}
    give_disk(monkeypatch, -(10**9))
    assert make_room(room, OWN, unit_bytes=10, wanted_bytes=300)[0] == 0
    assert keys_left(room) == {OLD, NEW}, "removing them would not help"


def test_other_peoples_files_are_no_caches(room: CacheRoom) -> None:
    (room.folder / "thesis").mkdir()
    (room.folder / "thesis" / "chapter.tex").write_bytes(bytes(900))
    (room.folder / ("4" * 16)).write_bytes(b"a file")
    make_room(room, OWN, unit_bytes=50, wanted_bytes=1000)
    assert keys_left(room) == {"thesis", "4" * 16}


def test_a_key_that_was_half_removed_goes_first(room: CacheRoom) -> None:
    (room.folder / NEW / "plan.json").unlink()
    make_room(room, OWN, unit_bytes=50, wanted_bytes=400)
    assert keys_left(room) == {OLDEST, OLD}


def test_epochs_without_room_are_cut_unless_somebody_reads_them(tmp_path: Path) -> None:
    folder = tmp_path / OWN
    for epoch in range(3):
        fill(folder, 100, used_at=1, epoch=epoch)
    user = begin_use(folder, 300)
    cut(folder, 1)
    assert {path.name for path in folder.glob("[0-9]*")} == {"0", "1", "2"}
    end_use(user)
    cut(folder, 1)
    assert {path.name for path in folder.glob("[0-9]*")} == {"0"}
