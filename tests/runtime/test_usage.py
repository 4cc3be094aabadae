"""What a training takes of its machine, as it is measured and told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from hkd.runtime import usage
from hkd.runtime.usage import UsageMeter, cpu_utilisation, gibibytes, peak_resident_bytes, release_memory

CPU = torch.device("cpu")


def test_the_share_of_the_threads_time() -> None:
    # 3 s of computing in 2 s of two threads: 3 of 4.
    assert cpu_utilisation(3.0, 2.0, 2) == 0.75
    assert cpu_utilisation(2.5, 2.0, 1) == 1.0
    assert cpu_utilisation(0.0, 0.0, 1) == 0.0


def test_sizes_are_told_to_people() -> None:
    assert gibibytes(79.2 * 2**30) == "79.2 GiB"
    assert gibibytes(2**30) == "1.0 GiB"
    assert gibibytes(0.5 * 2**30) == "512 MiB"


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
def test_a_containers_limits_bound_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: tuple[str, ...], is_own_root: bool
) -> None:
    listed, controller, limit, used, cached = version
    root = tmp_path / "groups" / controller

    def make_group(folder: Path, limit_text: str, used_bytes: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / limit).write_text(f"{limit_text}\n")
        (folder / used).write_text(f"{used_bytes}\n")
        (folder / "memory.stat").write_text(f"anon 1\n{cached} {2 * MIB}\n")

    monkeypatch.setattr(usage, "_GROUPS", tmp_path / "groups")
    monkeypatch.setattr(usage, "_OWN_GROUPS", tmp_path / "cgroup")
    physical = usage.machine_bytes()  # no such file: no groups
    (tmp_path / "cgroup").write_text(f"{listed}\n")
    if is_own_root:
        # What is told is the path on the host, which the container does not see.
        make_group(root, str(20 * MIB), 7 * MIB)
    else:
        make_group(root / "pod", str(20 * MIB), 7 * MIB)
        make_group(root / "pod" / "trial", "max", 3 * MIB)
    # 20 - (7 - 2): cached files make way.
    assert (usage.machine_bytes(), usage.available_bytes()) == (20 * MIB, 15 * MIB)
    (tmp_path / "cgroup").write_text("1:name=systemd:/pod\n")
    assert usage.machine_bytes() == physical


def test_each_measurement_has_a_peak_of_its_own() -> None:
    release_memory(CPU)
    with UsageMeter(CPU) as nothing:
        pass
    with UsageMeter(CPU) as large:
        torch.ones(64 * 2**20, dtype=torch.uint8).sum()
    release_memory(CPU)
    with UsageMeter(CPU) as after:
        pass
    peaks = [meter.read()["peak_memory_bytes"] for meter in (nothing, large, after)]
    # 64 MiB were written; another 8 MiB are left for what Python and torch do on the way.
    assert peaks[1] - peaks[0] > 56 * 2**20
    assert peaks[1] - peaks[2] > 56 * 2**20
    assert peaks[2] <= peak_resident_bytes()


def test_a_meter_of_the_cpu_tells_a_share() -> None:
    with UsageMeter(CPU) as meter:
        torch.ones(2**20).sin().sum()
    assert meter.read().keys() == {"peak_memory_bytes", "utilisation"}
    assert 0 < meter.read()["utilisation"] <= 1


def test_a_gpu_is_asked_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hkd.runtime.usage.SECONDS_BETWEEN_SAMPLES", 0.001)
    answers: Iterator[float] = iter([60.0, 100.0])

    def tell() -> float:
        # The third time there is no answer: nothing is asked any more.
        return next(answers)

    with UsageMeter(CPU, gpu_utilisation=tell) as meter:
        while meter._samples is not None and meter._samples._thread.is_alive():
            pass
    assert meter.read()["utilisation"] == 0.8


def test_without_the_drivers_package_utilisation_is_left_out() -> None:
    def tell() -> float:
        raise ModuleNotFoundError("nvidia-ml-py does not seem to be installed or it can't be imported.")

    with UsageMeter(CPU, gpu_utilisation=tell) as meter:
        pass
    assert meter.read().keys() == {"peak_memory_bytes"}


def test_a_meter_ends_with_its_block_even_where_that_fails() -> None:
    meter = UsageMeter(CPU, gpu_utilisation=lambda: 50.0)
    with pytest.raises(MemoryError), meter:
        raise MemoryError
    assert meter._samples is not None
    assert not meter._samples._thread.is_alive()
