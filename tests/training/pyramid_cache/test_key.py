"""What a cache's key depends on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from hkd.data.prepare import PreparedData
from hkd.models.detector import Detector
from hkd.models.fused import fuse_for_inference
from hkd.training.pyramid_cache.key import cache_key
from tests.training.tiny import TEACHER_SHAPE, build, trial_config


@pytest.fixture(scope="module")
def teacher() -> Detector:
    return build(TEACHER_SHAPE, 1)


@pytest.mark.parametrize(
    ("changes", "is_same"),
    [
        (
            {"training__learning_rate": 1e-2, "training__total_epochs": 7, "training__sampled_regions_per_image": 4},
            True,
        ),
        ({"student__width_multiplier": 0.25, "distillation__region__weight": 0.0}, True),
        ({"training__seed": 1}, False),
        ({"training__batch_size": 4}, False),
        ({"data__augmentation__flip_probability": 0.0}, False),
        ({"data__max_objects_per_image": 40}, False),
        ({"data__image_width": 128}, False),
    ],
)
def test_key_depends_on_batches_only(
    scenes_dir: Path, data: PreparedData, teacher: Detector, changes: dict[str, Any], is_same: bool
) -> None:
    cpu = torch.device("cpu")
    key = cache_key(trial_config(scenes_dir), data, teacher, cpu, torch.bfloat16)
    assert (cache_key(trial_config(scenes_dir, **changes), data, teacher, cpu, torch.bfloat16) == key) == is_same


def test_key_depends_on_teacher_data_precision_and_threads(
    scenes_dir: Path, data: PreparedData, teacher: Detector
) -> None:
    config, cpu = trial_config(scenes_dir), torch.device("cpu")
    keys = [cache_key(config, data, teacher, cpu, torch.bfloat16), cache_key(config, data, teacher, cpu, None)]
    nearly = build(TEACHER_SHAPE, 1)
    with torch.no_grad():
        nearly.backbone.fpn.get_parameter("layer_blocks.0.0.bias")[3] += 1e-6
    keys.append(cache_key(config, data, nearly, cpu, torch.bfloat16))
    keys.append(cache_key(config, replace(data, train_store=data.validation_store), teacher, cpu, torch.bfloat16))
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        keys.append(cache_key(config, data, teacher, cpu, torch.bfloat16))
    finally:
        torch.set_num_threads(threads)
    assert len(set(keys)) == len(keys)
    assert cache_key(config, data, build(TEACHER_SHAPE, 1), cpu, torch.bfloat16) == keys[0]


def test_key_depends_on_matrix_instructions_of_processor(
    scenes_dir: Path, data: PreparedData, teacher: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, cpu = trial_config(scenes_dir), torch.device("cpu")
    machines: list[dict[str, Any]] = [
        {"avx512_f": True, "amx_bf16": True, "avx512_bf16": True, "num_sockets": 1},
        {"avx512_f": True, "amx_bf16": False, "avx512_bf16": True, "num_sockets": 1},
        {"avx512_f": True, "amx_bf16": False, "avx512_bf16": False, "num_sockets": 1},
    ]
    keys = []
    for machine in [*machines, {**machines[0], "num_sockets": 2}]:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda machine=machine: machine, raising=False)
        keys.append(cache_key(config, data, teacher, cpu, torch.bfloat16))
    assert len(set(keys[:3])) == 3
    assert keys[3] == keys[0], "sockets change no kernel"
    monkeypatch.delattr(torch.cpu, "get_capabilities")  # as in the oldest torch
    cache_key(config, data, teacher, cpu, torch.bfloat16)


def test_key_depends_on_convolutions_settings_without_weights(
    scenes_dir: Path, data: PreparedData, teacher: Detector
) -> None:
    config, cpu = trial_config(scenes_dir), torch.device("cpu")
    strided = build(TEACHER_SHAPE, 1)
    strided.backbone.body["layer2"][0].conv1.stride = (1, 1)
    strided.backbone.body["layer2"][0].conv2.stride = (2, 2)
    fused = [fuse_for_inference(either, torch.bfloat16) for either in (teacher, strided)]
    keys = {cache_key(config, data, either, cpu, torch.bfloat16) for either in fused}
    assert len(keys) == 2
