"""Memory of the machine and its control groups."""

from __future__ import annotations

from pathlib import Path

import pytest

from hkd.runtime import memory
from hkd.runtime.memory import format_bytes


def test_sizes_have_units_for_messages() -> None:
    assert format_bytes(79.2 * 2**30) == "79.2 GiB"
    assert format_bytes(2**30) == "1.0 GiB"
    assert format_bytes(0.5 * 2**30) == "512 MiB"


MIB = 2**20
VERSION_2 = ("0::/pod/trial", "", "memory.max", "memory.current", "inactive_file")
VERSION_1 = (
    "9:cpu:/\n4:hugetlb,memory:/pod/trial\n0::/",
    "memory",
    "memory.limit_in_bytes",
    "memory.usage_in_bytes",
    "total_inactive_file",
)


@pytest.mark.parametrize("version", [VERSION_2, VERSION_1], ids=["version 2", "version 1"])
@pytest.mark.parametrize("is_own_root", [False, True])
def test_container_limits_bound_machine_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: tuple[str, ...], is_own_root: bool
) -> None:
    listed, controller, limit, used, cached = version
    root = tmp_path / "groups" / controller

    def make_group(folder: Path, limit_text: str, used_bytes: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / limit).write_text(f"{limit_text}\n")
        (folder / used).write_text(f"{used_bytes}\n")
        (folder / "memory.stat").write_text(f"anon 1\n{cached} {2 * MIB}\n")

    monkeypatch.setattr(memory, "_GROUPS", tmp_path / "groups")
    monkeypatch.setattr(memory, "_OWN_GROUPS", tmp_path / "cgroup")
    physical = memory.machine_bytes()  # no such file: no groups
    (tmp_path / "cgroup").write_text(f"{listed}\n")
    if is_own_root:
        # The listed path is that on the host, which the container does not see.
        make_group(root, str(20 * MIB), 7 * MIB)
    else:
        make_group(root / "pod", str(20 * MIB), 7 * MIB)
        make_group(root / "pod" / "trial", "max", 3 * MIB)
    # 20 - (7 - 2): cached files are reclaimable.
    assert (memory.machine_bytes(), memory.available_bytes()) == (20 * MIB, 15 * MIB)
    (tmp_path / "cgroup").write_text("1:name=systemd:/pod\n")
    assert memory.machine_bytes() == physical
