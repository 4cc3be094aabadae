"""Room for caches on a node's disk: how much each may take, which one makes way, and which ones are in use.

A cache is a folder, named by a key of 16 hexadecimal digits, with ``plan.json`` (what it may come to, bytes; its time
says when it was last used), ``users/`` (a file for each training that uses it, locked by it) and a folder for each
epoch.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from hkd.files import write_atomically

PLAN_FILE = "plan.json"

_KEY = re.compile(r"[0-9a-f]{16}")
# Left free on the disk for all else that a study writes.
_RESERVE_BYTES = 4 * 10**9


@dataclass(frozen=True)
class CacheRoom:
    """Where pyramids may be kept, and how much of them."""

    folder: Path
    budget_bytes: int
    """For all keys together; 0 keeps nothing."""


@dataclass(frozen=True)
class _Entries:
    """What lies under one key."""

    folder: Path
    present_bytes: int
    planned_bytes: int
    used_at: float
    is_in_use: bool

    @property
    def claimed_bytes(self) -> int:
        """What must be reckoned with: entries in use may yet grow to what was planned for them."""
        return max(self.present_bytes, self.planned_bytes) if self.is_in_use else self.present_bytes


def most_room(room: CacheRoom) -> tuple[int, str]:
    """What :func:`make_room` would return if all other keys made way; changes nothing."""
    present = sum(_size(path) for path in room.folder.glob("*/*/*"))
    existing = next(folder for folder in (room.folder, *room.folder.absolute().parents) if folder.is_dir())
    return _bounds(room, shutil.disk_usage(existing).free + present, 0)


def make_room(room: CacheRoom, key: str, *, unit_bytes: int, wanted_bytes: int) -> tuple[int, str]:
    """Remove what is in the way of a key: not in use, and least recently used first.

    Call it under a lock, for which :func:`begin_use` is called as well.

    Args:
        unit_bytes: what is of use to the key at all; nothing is removed where not even that can be had.
        wanted_bytes: what the key may come to.

    Returns:
        The bytes that the key may take, with what it has; and what bounds them, in words.
    """
    own = _entries(room.folder / key)
    others = [_entries(path) for path in room.folder.iterdir() if _KEY.fullmatch(path.name) and path.name != key]
    free = shutil.disk_usage(room.folder).free + own.present_bytes + sum(entries.present_bytes for entries in others)

    def available(kept: list[_Entries]) -> tuple[int, str]:
        return _bounds(room, free, sum(entries.claimed_bytes for entries in kept))

    in_use = [entries for entries in others if entries.is_in_use]
    unused = sorted((entries for entries in others if not entries.is_in_use), key=lambda entries: entries.used_at)
    if available(in_use)[0] >= unit_bytes:
        while unused and available(in_use + unused)[0] < wanted_bytes:
            shutil.rmtree(unused.pop(0).folder, ignore_errors=True)
    return available(in_use + unused)


def _bounds(room: CacheRoom, free_bytes: int, claimed_bytes: int) -> tuple[int, str]:
    """What is left of the disk or of the budget, whichever is less, and its name."""
    by_disk, by_budget = free_bytes - _RESERVE_BYTES - claimed_bytes, room.budget_bytes - claimed_bytes
    if by_disk < by_budget:
        return max(0, by_disk), f"the disk has free, less {_RESERVE_BYTES / 1e9:g} GB for all else"
    return max(0, by_budget), f"the budget of {room.budget_bytes / 1e9:g} GB has room for"


def _entries(folder: Path) -> _Entries:
    present, plan = sum(_size(path) for path in folder.glob("*/*")), folder / PLAN_FILE
    try:
        planned, used_at = int(json.loads(plan.read_text(encoding="utf-8"))["bytes"]), plan.stat().st_mtime
    except (OSError, ValueError, KeyError, TypeError):
        planned, used_at = 0, 0.0  # half removed: the first to go
    return _Entries(folder, present, planned, used_at, _is_in_use(folder))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0  # a partial file that was moved to its place meanwhile


def _is_in_use(folder: Path) -> bool:
    """Whether a training holds its lock; those of processes that were killed are free, and are removed."""
    is_held = False
    for path in folder.glob("users/*"):
        lock = FileLock(path, timeout=0, thread_local=False)
        try:
            lock.acquire()
        except Timeout:
            is_held = True
        else:
            lock.release()
            path.unlink(missing_ok=True)
    return is_held


def begin_use(folder: Path, planned_bytes: int) -> FileLock:
    """Take note that a training uses the entries; held until the lock is released, or the process ends."""
    (folder / "users").mkdir(parents=True, exist_ok=True)
    entries = _entries(folder)
    if entries.is_in_use:
        planned_bytes = max(planned_bytes, entries.planned_bytes)
    write_atomically(folder / PLAN_FILE, json.dumps({"bytes": planned_bytes}))
    user = FileLock(folder / "users" / f"{os.getpid()}-{secrets.token_hex(4)}", thread_local=False)
    user.acquire()
    return user


def end_use(user: FileLock) -> None:
    """Let go of what :func:`begin_use` took."""
    user.release()
    Path(user.lock_file).unlink(missing_ok=True)


def cut(folder: Path, epochs: int) -> None:
    """Remove the epochs from the given one on, for which there is no room since the budget was lowered."""
    if not _is_in_use(folder):
        for path in folder.glob("[0-9]*"):
            if path.name.isdecimal() and int(path.name) >= epochs:
                shutil.rmtree(path, ignore_errors=True)
