"""Memory of this process and of its machine, in bytes."""

from __future__ import annotations

import os
import re
import resource
import sys
from pathlib import Path

_BYTES_PER_GIB = 2**30

_OWN_STATUS = Path("/proc/self/status")
_MACHINE_STATUS = Path("/proc/meminfo")
_OWN_GROUPS = Path("/proc/self/cgroup")
_GROUPS = Path("/sys/fs/cgroup")
_OWN_PEAK_RESET = Path("/proc/self/clear_refs")
# proc(5): "resets the peak resident set size to the process's current resident set size".
_RESET_PEAK = "5"


def peak_resident_bytes() -> int:
    """Peak resident memory of this process since :func:`reset_peak_resident_bytes`; off Linux, since it started."""
    try:
        found = re.search(r"^VmHWM:\s*(\d+) kB$", _OWN_STATUS.read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        found = None
    if found is not None:
        return int(found[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def reset_peak_resident_bytes() -> None:
    """Set the peak to the current resident memory; does nothing off Linux and where the kernel forbids it."""
    try:
        _OWN_PEAK_RESET.write_text(_RESET_PEAK, encoding="ascii")
    except OSError:
        return


def machine_bytes() -> int:
    """Memory of this machine, or of the container that this process runs in, whichever is less."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([physical, *(limit for limit, _ in _group_limits())])


def available_bytes() -> int:
    """Memory that can be allocated without swapping or exceeding the container's limit; off Linux, all memory."""
    try:
        found = re.search(r"^MemAvailable:\s*(\d+) kB$", _MACHINE_STATUS.read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        found = None
    available = machine_bytes() if found is None else int(found[1]) * 1024
    return min([available, *(max(0, limit - used) for limit, used in _group_limits())])


def format_bytes(size_bytes: float) -> str:
    """A size for messages: ``1.2 GiB``, or ``340 MiB`` where it is less than 1 GiB."""
    if size_bytes < _BYTES_PER_GIB:
        return f"{size_bytes / 2**20:.0f} MiB"
    return f"{size_bytes / _BYTES_PER_GIB:.1f} GiB"


def _group_limits() -> list[tuple[int, int]]:
    """Memory limit and usage of each control group (cgroup) that limits this process; bytes.

    A group's parents limit it as well. In a container that shows its own group as the root, the path in
    /proc/self/cgroup does not exist, and only the root is read.
    """
    try:
        lines = _OWN_GROUPS.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    limits: list[tuple[int, int] | None] = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":  # version 2
            root, names = _GROUPS, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            root = _GROUPS / "memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        own = root / path.lstrip("/")
        limits += [_group_limit(group, *names) for group in (own, *own.parents) if group.is_relative_to(root)]
    return [limit for limit in limits if limit is not None]


def _group_limit(group: Path, limit_name: str, usage_name: str, cache_name: str) -> tuple[int, int] | None:
    """A group's limit and its usage without reclaimable file cache; None without a limit."""
    try:
        limit = (group / limit_name).read_text(encoding="ascii").strip()
        usage = int((group / usage_name).read_text(encoding="ascii"))
        cached = re.search(rf"^{cache_name} (\d+)$", (group / "memory.stat").read_text(encoding="ascii"), re.MULTILINE)
    except (OSError, ValueError):
        return None
    if not limit.isdecimal():  # "max"
        return None
    return int(limit), usage - (0 if cached is None else int(cached[1]))
