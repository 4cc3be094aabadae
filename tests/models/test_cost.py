"""Costs from numbers equal those counted in a forward pass of the built detector."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from hkd.config import DetectorConfig
from hkd.models.build import build_detector
from hkd.models.components.heads import PersonPredictor
from hkd.models.cost import Cost, config_cost, detector_cost
from hkd.models.detector import Detector
from tests.models.test_detector import TINY


def _counted(detector: Detector, height: int, width: int) -> Cost:
    """The reference: torch's counter around the operations of one detection, with values."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        pyramid = detector.eval().forward_pyramid(torch.zeros(1, 3, height, width), torch.tensor([[height, width]]))
        detector.rpn(list(pyramid.values()))
        slots = torch.zeros(1, detector.proposals_per_image, 4)
        detector.forward_regions(pyramid, detector.region_taps(pyramid, slots, height))
    return Cost(sum(parameter.numel() for parameter in detector.parameters()), counter.get_total_flops())


# Every backbone, both norms, a first stage with and without a convolution in its shortcut; widths that are rounded up
# and down; sizes that are multiples of all strides (64 x 128), of 32 only (96 x 160), and of none.
CONFIGS = [
    (DetectorConfig(width_multiplier=0.125, pyramid_channels=8, head_channels=16, proposals_per_image=1), 64, 128),
    (DetectorConfig(width_multiplier=0.3, pyramid_channels=24, head_channels=40, proposals_per_image=7), 77, 91),
    (
        DetectorConfig(
            backbone="resnet34",
            width_multiplier=0.19,
            pyramid_channels=40,
            head_channels=24,
            anchor_aspect_ratios=(0.5, 1.0, 2.44),
            pre_nms_proposals_per_level=5,
            proposals_per_image=30,
        ),
        96,
        160,
    ),
    (
        DetectorConfig(
            backbone="resnet50",
            width_multiplier=0.125,
            pyramid_channels=16,
            head_channels=16,
            norm="frozen_batch",
            anchor_aspect_ratios=(1.0, 2.0),
        ),
        97,
        65,
    ),
    (DetectorConfig(backbone="resnet50", width_multiplier=0.35, pyramid_channels=8, head_channels=64), 96, 64),
    (DetectorConfig(width_multiplier=1.0, pyramid_channels=8, head_channels=16, norm="frozen_batch"), 64, 64),
]


@pytest.mark.parametrize(("config", "height", "width"), CONFIGS)
def test_costs_equal_those_of_forward_pass(config: DetectorConfig, height: int, width: int) -> None:
    detector = build_detector(config)
    counted = _counted(detector, height, width)
    assert config_cost(config, height, width) == counted
    assert detector_cost(detector, height, width) == counted


def test_cost_of_loaded_detector_includes_other_classes() -> None:
    detector = build_detector(TINY)
    detector.roi_heads.box_predictor = PersonPredictor(TINY.head_channels, num_scored_classes=91)
    cost, plain = detector_cost(detector, 64, 96), config_cost(TINY, 64, 96)
    # 91 class rows instead of 2, of 16 weights and a bias each, on 8 regions.
    assert cost.num_params - plain.num_params == 89 * (16 + 1)
    assert cost.flops - plain.flops == 2 * 8 * 89 * 16


def test_costs_keep_global_generator_and_detector() -> None:
    torch.manual_seed(5)
    detector = build_detector(TINY)
    generator = torch.get_rng_state()
    tensors = {name: (tensor, tensor.clone()) for name, tensor in detector.state_dict(keep_vars=True).items()}
    config_cost(TINY, 64, 96)
    detector_cost(detector, 64, 96)
    assert torch.equal(generator, torch.get_rng_state())
    assert detector.training
    for name, tensor in detector.state_dict(keep_vars=True).items():
        same, value = tensors[name]
        assert tensor is same
        assert torch.equal(tensor, value)


def test_box_head_flops_equal_hand_count() -> None:
    few, many = (config_cost(TINY.model_copy(update={"proposals_per_image": count}), 64, 96).flops for count in (8, 24))
    # One region: fc6 8 x 49 -> 16, fc7 16 -> 16, classes 16 -> 2, deltas 16 -> 8; two operations a product.
    per_region = 2 * (8 * 49 * 16 + 16 * 16 + 16 * 2 + 16 * 8)
    assert many - few == 16 * per_region
