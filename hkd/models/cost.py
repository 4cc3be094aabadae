"""Parameters and floating-point operations of a deployed detector."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from hkd.config import DetectorConfig
from hkd.metric_names import FLOPS, GMACS, NUM_PARAMS
from hkd.models.build import build_detector
from hkd.models.detector import Detector


@dataclass(frozen=True)
class Cost:
    """Cost of a detector and of one image through it."""

    num_params: int
    """Parameters of the detector, without buffers, adapters and teacher."""
    flops: int
    """Floating-point operations of convolutions and matrix products, 2 per multiply-add."""

    @property
    def gmacs(self) -> float:
        """Billions of multiply-adds, which is half the FLOPs."""
        return self.flops / 2e9

    def as_metrics(self) -> dict[str, float]:
        """The costs by metric name."""
        return {NUM_PARAMS: self.num_params, FLOPS: self.flops, GMACS: self.gmacs}


def detector_cost(detector: Detector, image_height: int, image_width: int) -> Cost:
    """Cost of ``detector`` for one image of this size in pixels; its mode is restored.

    All ``proposals_per_image`` slots pass the box head, as in detection, so the count does not depend on the image.
    """
    reference = next(detector.parameters())
    images = torch.zeros(1, 3, image_height, image_width, device=reference.device)
    valid_sizes = torch.tensor([[image_height, image_width]], dtype=torch.float32, device=reference.device)
    was_training = detector.training
    detector.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        pyramid = detector.forward_pyramid(images, valid_sizes)
        detector.rpn([pyramid[name] for name in pyramid])
        slots = torch.zeros(1, detector.proposals_per_image, 4, device=reference.device)
        detector.forward_regions(pyramid, detector.region_taps(pyramid, slots, image_height))
    detector.train(was_training)
    return Cost(
        num_params=sum(parameter.numel() for parameter in detector.parameters()), flops=counter.get_total_flops()
    )


def config_cost(config: DetectorConfig, image_height: int, image_width: int) -> Cost:
    """:func:`detector_cost` of the configured detector; torch's global generator keeps its state."""
    with torch.random.fork_rng(devices=[]):
        return detector_cost(build_detector(config), image_height, image_width)
