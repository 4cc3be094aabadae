from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from hkd.config import PYRAMID_LEVELS
from hkd.distillation.adapters import Adapter, Adapters


def _adapters(**changes: Any) -> Adapters:
    arguments: dict[str, Any] = {
        "student_channels": 8,
        "teacher_channels": 16,
        "student_embedding": 24,
        "teacher_embedding": 32,
        "pyramid": "pearson",
        "region": "pearson",
        "embedding": "pearson",
        "seed": 3,
    }
    return Adapters(**arguments | changes)


def test_each_stage_has_separate_adapter_to_teacher_width() -> None:
    adapters = _adapters()
    assert tuple(adapters.pyramid) == ("p2", "p3", "p4", "p5", "p6")
    shapes = {name: tuple(parameter.shape) for name, parameter in adapters.named_parameters()}
    assert shapes == {
        **{f"pyramid.{level}.weight": (16, 8) for level in PYRAMID_LEVELS},
        "region.weight": (16, 8),
        "embedding.weight": (32, 24),
    }
    weights = [parameter.detach() for name, parameter in adapters.named_parameters() if name != "embedding.weight"]
    assert not any(torch.equal(a, b) for place, a in enumerate(weights) for b in weights[:place])


def test_equal_widths_have_no_adapter() -> None:
    adapters = _adapters(teacher_channels=8, teacher_embedding=24)
    assert list(adapters.parameters()) == []
    assert all(isinstance(adapter, nn.Identity) for adapter in adapters.pyramid.values())
    assert isinstance(adapters.region, nn.Identity)
    assert isinstance(adapters.embedding, nn.Identity)
    # Pyramid and embedding widths are compared separately.
    assert [name for name, _ in _adapters(teacher_channels=8).named_parameters()] == ["embedding.weight"]


def test_undistilled_stages_have_no_adapters() -> None:
    adapters = _adapters(pyramid=None, region=None, embedding=None)
    assert list(adapters.parameters()) == []
    assert len(adapters.pyramid) == 0
    assert adapters.region is None
    assert adapters.embedding is None


def test_adapters_have_bias_except_for_pearson() -> None:
    # The second represents any further loss: most see a channel's offset, which a bias corrects.
    for loss in ("mse", "smooth_l1"):
        adapters = _adapters(region=loss, embedding=loss)
        names = {name for name, _ in adapters.named_parameters() if name.endswith("bias")}
        assert names == {"region.bias", "embedding.bias"}
        assert {name for name, _ in _adapters(pyramid=loss).named_parameters() if name.endswith("bias")} == {
            f"pyramid.{level}.bias" for level in PYRAMID_LEVELS
        }


def test_initial_weights_depend_on_seed_and_not_on_global_generator() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = _adapters().state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    again, other = _adapters().state_dict(), _adapters(seed=4).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(weight, other_weight) for weight in first.values() for other_weight in other.values())


def test_removing_stage_does_not_change_other_adapters() -> None:
    every = _adapters().state_dict()
    for left_out in ("pyramid", "region", "embedding"):
        fewer = _adapters(**{left_out: None}).state_dict()
        assert set(fewer) == {name for name in every if not name.startswith(left_out)}
        assert all(torch.equal(fewer[name], every[name]) for name in fewer)


def test_initial_weights_keep_variance() -> None:
    # Uniform in +-sqrt(3 / in): variance 1 / in. 64k draws: standard error of the variance about 0.35%.
    weight = Adapter(256, 256, bias=False, seed=0).weight.detach()
    assert weight.abs().max().item() <= math.sqrt(3.0 / 256)
    assert weight.var().item() == pytest.approx(1.0 / 256, rel=0.02)


def test_adapter_is_pointwise_convolution_or_matrix_product() -> None:
    adapter = Adapter(3, 5, bias=True, seed=0)
    assert adapter.bias is not None
    nn.init.normal_(adapter.bias, generator=torch.Generator().manual_seed(1))
    maps = torch.randn(2, 3, 4, 6, generator=torch.Generator().manual_seed(2))
    pixels = functional.linear(maps.permute(0, 2, 3, 1), adapter.weight, adapter.bias)
    torch.testing.assert_close(adapter(maps), pixels.permute(0, 3, 1, 2))
    rows = torch.randn(7, 3, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(adapter(rows), rows @ adapter.weight.T + adapter.bias)


def test_adapter_works_on_bf16_features_with_and_without_autocast() -> None:
    adapter = Adapter(3, 5, bias=True, seed=0)
    features = torch.ones(2, 3, 4, 6, dtype=torch.bfloat16)
    outside = adapter(features)
    assert outside.dtype == torch.bfloat16
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(adapter(features), outside)
        assert adapter(features.float()).dtype == torch.bfloat16
    torch.autograd.backward(outside.sum())
    assert adapter.weight.grad is not None
    assert adapter.weight.grad.dtype == torch.float32


def test_selected_channels_are_mapped_to_their_origin() -> None:
    adapters, random = _adapters(is_selected=True), _adapters()
    # Channels 0, 2, 4 ... of 16 were selected for 8: each of these rows has a 1 at its own channel.
    level = adapters.pyramid["p3"]
    features = torch.randn(2, 8, 3, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(level(features)[:, ::2], features)
    expected = random.pyramid["p3"]
    assert isinstance(level, Adapter)
    assert isinstance(expected, Adapter)
    assert torch.equal(level.weight[1::2], expected.weight[1::2])
