"""Which device and precision a configuration means on which machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest
import torch
from torch import nn

from hkd.runtime.device import DeviceError, autocast_dtype, place, resolve_device

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("name", "has_gpu", "expected"),
    [("auto", True, "cuda"), ("auto", False, "cpu"), ("cpu", True, "cpu"), ("cuda", True, "cuda")],
)
def test_device(
    monkeypatch: pytest.MonkeyPatch, name: Literal["auto", "cpu", "cuda"], has_gpu: bool, expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    assert resolve_device(name) == torch.device(expected)


def test_missing_gpu_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError, match='training.device is "cuda", but torch finds no GPU'):
        resolve_device("cuda")


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"amx_bf16": True}, torch.bfloat16),
        ({"avx512_bf16": True, "amx_bf16": False}, torch.bfloat16),
        ({"architecture": "x86_64", "avx2": True, "avx512_f": True}, None),
        ({}, None),
    ],
)
def test_auto_precision_follows_the_processor(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, object], expected: torch.dtype | None
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert autocast_dtype("auto", CPU) == expected
    assert autocast_dtype("fp32", CPU) is None
    assert autocast_dtype("bf16", CPU) == torch.bfloat16


def test_auto_precision_is_fp32_where_torch_cannot_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert autocast_dtype("auto", CPU) is None


@pytest.mark.parametrize("native", [True, False])
def test_auto_precision_on_a_gpu_is_bf16_where_native(monkeypatch: pytest.MonkeyPatch, native: bool) -> None:
    # Emulated bf16 counts as supported for torch, but is slow.
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or native)
    assert autocast_dtype("auto", GPU) == (torch.bfloat16 if native else None)


def test_placed_convolutions_lie_channels_last() -> None:
    placed = place(nn.Conv2d(3, 4, 3), "cpu")
    assert placed.weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="page faults are counted by Linux")
def test_freed_memory_is_kept() -> None:
    # 16 MB is 4096 pages of 4 KiB: handed back and taken anew, each would fault once in every round. The heap
    # takes a few rounds to grow to its size.
    program = (
        "import resource, torch\n"
        "from hkd.runtime.device import keep_freed_memory\n"
        "keep_freed_memory()\n"
        "faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "for _ in range(20): torch.ones(4_000_000)\n"
        "before = faults()\n"
        "for _ in range(20): torch.ones(4_000_000)\n"
        "print(faults() - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 4096


@pytest.mark.skipif(not Path("/sys/kernel/mm/transparent_hugepage").is_dir(), reason="a system without huge pages")
def test_freed_memory_is_advised_to_lie_in_huge_pages() -> None:
    # "hg" among the flags of the mapping that holds a tensor is Linux's mark of that advice. How many huge pages there
    # are is the system's affair.
    program = (
        "import torch\n"
        "from hkd.runtime.device import keep_freed_memory\n"
        "keep_freed_memory()\n"
        "address, flags = torch.ones(4_000_000).data_ptr(), []\n"
        "for line in open('/proc/self/smaps'):\n"
        "    first, _, last = line.split()[0].partition('-')\n"
        "    if last:\n"
        "        holds = int(first, 16) <= address < int(last, 16)\n"
        "    elif holds and first == 'VmFlags:':\n"
        "        flags = line.split()\n"
        "print(flags)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "'hg'" in done.stdout
