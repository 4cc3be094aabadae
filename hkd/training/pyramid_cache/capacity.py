"""Capacity of the caches on a node's disk: budget, eviction of the least recently used, and locks of their users.

A cache is a folder, named by a key of 16 hexadecimal digits, with ``plan.json`` (planned size in bytes; its
modification time is that of the last use), ``users/`` (a file for each training that uses the cache, locked by it) and
a folder for each epoch.
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

from hkd.files import open_replacement, read_record
from hkd.own_folders import create_own_folder

PLAN_FILE = "plan.json"

_KEY = re.compile(r"[0-9a-f]{16}")
# Left free on the disk for everything else that a study writes.
_RESERVE_BYTES = 4 * 10**9


@dataclass(frozen=True)
class CacheBudget:
    """Where pyramids may be cached, and how much of them."""

    folder: Path
    max_bytes: int
    """Of all caches together; 0 caches nothing."""


@dataclass(frozen=True)
class _Entries:
    """The files of one key."""

    folder: Path
    present_bytes: int
    planned_bytes: int
    used_at: float
    is_in_use: bool

    @property
    def claimed_bytes(self) -> int:
        """Bytes that this key occupies or may occupy: a cache in use may grow to its planned size."""
        return max(self.present_bytes, self.planned_bytes) if self.is_in_use else self.present_bytes


def maximum_capacity(budget: CacheBudget) -> tuple[int, str]:
    """What :func:`reserve_capacity` would return if all other keys could be evicted; changes nothing."""
    present = sum(_size(path) for path in budget.folder.glob("*/*/*"))
    existing = next(folder for folder in (budget.folder, *budget.folder.absolute().parents) if folder.is_dir())
    return _bounds(budget, shutil.disk_usage(existing).free + present, 0)


def reserve_capacity(budget: CacheBudget, key: str, *, unit_bytes: int, wanted_bytes: int) -> tuple[int, str]:
    """Evict other keys that are not in use, least recently used first, until a key has the capacity it wants.

    Call it under a lock that also covers :func:`start_use`.

    Args:
        unit_bytes: The least capacity that is useful; nothing is evicted if not even that can be reached.
        wanted_bytes: The most that the key may need.

    Returns:
        Capacity of the key in bytes, including its present files; and what limits it, as text.
    """
    own = _entries(budget.folder / key)
    others = [_entries(path) for path in budget.folder.iterdir() if _KEY.fullmatch(path.name) and path.name != key]
    free = shutil.disk_usage(budget.folder).free + own.present_bytes + sum(entries.present_bytes for entries in others)

    def available(kept: list[_Entries]) -> tuple[int, str]:
        return _bounds(budget, free, sum(entries.claimed_bytes for entries in kept))

    in_use = [entries for entries in others if entries.is_in_use]
    unused = sorted((entries for entries in others if not entries.is_in_use), key=lambda entries: entries.used_at)
    if available(in_use)[0] >= unit_bytes:
        while unused and available(in_use + unused)[0] < wanted_bytes:
            shutil.rmtree(unused.pop(0).folder, ignore_errors=True)
    return available(in_use + unused)


def _bounds(budget: CacheBudget, free_bytes: int, claimed_bytes: int) -> tuple[int, str]:
    """What remains of the disk or of the budget, whichever is less, and its description."""
    by_disk, by_budget = free_bytes - _RESERVE_BYTES - claimed_bytes, budget.max_bytes - claimed_bytes
    if by_disk < by_budget:
        return max(0, by_disk), f"the disk has free, less {_RESERVE_BYTES / 1e9:g} GB in reserve"
    return max(0, by_budget), f"the budget of {budget.max_bytes / 1e9:g} GB allows"


def _entries(folder: Path) -> _Entries:
    present, plan = sum(_size(path) for path in folder.glob("*/*")), folder / PLAN_FILE
    try:
        planned, used_at = int(read_record(plan)["bytes"]), plan.stat().st_mtime
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        planned, used_at = 0, 0.0  # partially removed: evicted first
    return _Entries(folder, present, planned, used_at, _is_in_use(folder))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0  # a partial file that was renamed in the meantime


def _is_in_use(folder: Path) -> bool:
    """Whether a training holds a lock in it; locks of killed processes are released, and are removed."""
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


def start_use(folder: Path, planned_bytes: int) -> FileLock:
    """Register a training as a user, until :func:`end_use` or the end of the process."""
    create_own_folder(folder / "users", "data.cache_dir")
    entries = _entries(folder)
    if entries.is_in_use:
        planned_bytes = max(planned_bytes, entries.planned_bytes)
    with open_replacement(folder / PLAN_FILE) as file:
        file.write(json.dumps({"bytes": planned_bytes}).encode())
    user = FileLock(folder / "users" / f"{os.getpid()}-{secrets.token_hex(4)}", thread_local=False)
    user.acquire()
    return user


def end_use(user: FileLock) -> None:
    """Release what :func:`start_use` registered."""
    user.release()
    Path(user.lock_file).unlink(missing_ok=True)


def remove_epochs_from(folder: Path, epochs: int) -> None:
    """Remove the epochs from ``epochs`` on, which exceed a budget that was lowered, unless a training uses them."""
    if not _is_in_use(folder):
        for path in folder.glob("[0-9]*"):
            if path.name.isdecimal() and int(path.name) >= epochs:
                shutil.rmtree(path, ignore_errors=True)
