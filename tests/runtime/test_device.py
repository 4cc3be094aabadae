"""Device and precision of a configuration."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch import nn

from hkd.runtime.device import DeviceError, autocast_dtype, is_host_readable, place, resolve_device

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("name", "has_gpu", "expected"),
    [("auto", True, "cuda"), ("auto", False, "cpu"), ("cpu", True, "cpu"), ("cuda", True, "cuda")],
)
def test_device_of_configuration(
    monkeypatch: pytest.MonkeyPatch, name: Literal["auto", "cpu", "cuda"], has_gpu: bool, expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    assert resolve_device(name) == torch.device(expected)


def test_missing_gpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_auto_precision_is_fp32_if_capabilities_are_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert autocast_dtype("auto", CPU) is None


@pytest.mark.parametrize("native", [True, False])
def test_auto_precision_on_a_gpu_is_bf16_where_native(monkeypatch: pytest.MonkeyPatch, native: bool) -> None:
    # Emulated bf16 counts as supported for torch, but is slow.
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or native)
    assert autocast_dtype("auto", GPU) == (torch.bfloat16 if native else None)


def test_placed_convolutions_are_channels_last() -> None:
    placed = place(nn.Conv2d(3, 4, 3), "cpu")
    assert placed.weight.is_contiguous(memory_format=torch.channels_last)


def test_values_are_read_on_a_cpu_and_not_in_a_traced_graph() -> None:
    assert is_host_readable(torch.zeros(1))
    assert not is_host_readable(torch.zeros(1, device="meta"))

    def marked(values: torch.Tensor) -> torch.Tensor:
        return values + 1 if is_host_readable(values) else values

    assert torch.compile(marked, fullgraph=True, backend="eager")(torch.zeros(1)) == 0
