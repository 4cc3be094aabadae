from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from hkd.config import DetectorConfig
from hkd.models.build import build_detector
from hkd.models.components.anchors import grid_anchors, pyramid_grid_sizes
from hkd.models.components.backbone import build_backbone, scaled_channels
from hkd.models.cost import config_cost
from hkd.models.detector import Detector
from hkd.structures import Targets

TINY = DetectorConfig(
    width_multiplier=0.125,
    pyramid_channels=8,
    head_channels=16,
    pre_nms_proposals_per_level=16,
    proposals_per_image=8,
)
SAMPLING: dict[str, Any] = {
    "sampled_anchors_per_image": 32,
    "positive_anchor_fraction": 0.5,
    "sampled_regions_per_image": 16,
    "positive_region_fraction": 0.25,
}


def _batch(objects: int) -> tuple[Tensor, Tensor, Targets]:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2, 3, 64, 96, generator=generator)
    corners = torch.rand(2, 6, 2, generator=generator) * 40
    valid = (torch.arange(6) < objects).expand(2, -1)
    boxes = torch.cat((corners, corners + torch.tensor([8.0, 20.0])), dim=-1) * valid[..., None]
    return images, torch.tensor([[64.0, 96.0], [60.0, 80.0]]), Targets(boxes, valid, torch.zeros_like(valid))


def _losses(detector: Detector, images: Tensor, valid_sizes: Tensor, targets: Targets) -> dict[str, Tensor]:
    anchor_keys, region_keys = detector.draw_sampling_keys(images, targets, torch.Generator().manual_seed(1))
    _, losses = detector.forward_train(
        images, valid_sizes, targets, anchor_keys=anchor_keys, region_keys=region_keys, **SAMPLING
    )
    return losses


@pytest.mark.parametrize("objects", [0, 3, 6])
def test_training_forward_traces_as_one_graph(objects: int) -> None:
    # Reading a tensor's value in Python breaks the graph: one graph means no device-to-host synchronization.
    torch.manual_seed(0)
    detector = build_detector(TINY)
    images, valid_sizes, targets = _batch(objects)
    anchor_keys, region_keys = detector.draw_sampling_keys(images, targets, torch.Generator().manual_seed(1))
    detector.anchors(64, 96, images.device)

    def step(images: Tensor, valid_sizes: Tensor, targets: Targets) -> dict[str, Tensor]:
        _, losses = detector.forward_train(
            images, valid_sizes, targets, anchor_keys=anchor_keys, region_keys=region_keys, **SAMPLING
        )
        return losses

    traced = torch.compile(step, fullgraph=True, backend="eager", dynamic=False)(images, valid_sizes, targets)
    eager = step(images, valid_sizes, targets)
    assert set(eager) == {"rpn_objectness", "rpn_box", "roi_classification", "roi_box"}
    for name, value in eager.items():
        torch.testing.assert_close(traced[name], value, atol=1e-5, rtol=1e-5)


def test_batch_without_objects_has_zero_box_losses_and_finite_gradients() -> None:
    torch.manual_seed(0)
    detector = build_detector(TINY)
    losses = _losses(detector, *_batch(0))
    assert losses["rpn_box"] == 0
    assert losses["roi_box"] == 0
    assert losses["rpn_objectness"] > 0
    sum(losses.values()).backward()  # type: ignore[union-attr]
    for parameter in detector.parameters():
        assert parameter.grad is None or torch.isfinite(parameter.grad).all()


def test_ignored_object_has_no_box_loss_and_no_negatives_inside() -> None:
    torch.manual_seed(0)
    detector = build_detector(TINY).eval()
    images, valid_sizes, targets = _batch(3)
    ignored = Targets(targets.boxes_xyxy, targets.valid, targets.valid)
    losses = _losses(detector, images, valid_sizes, ignored)
    # No positives are left, so there is no box loss.
    assert losses["rpn_box"] == 0
    assert losses["roi_box"] == 0
    # Anchors on ignored people are not negatives either.
    from hkd.models.components.sampling import match_anchors

    anchors = detector.anchors(64, 96, images.device)
    free = match_anchors(anchors, Targets(targets.boxes_xyxy * 0, targets.valid & False, targets.valid & False))
    matches = match_anchors(anchors, ignored)
    assert matches.negative.sum() < free.negative.sum()
    assert not (matches.positive | (matches.negative & ~free.negative)).any()


def test_anchors_equal_torchvision() -> None:
    sizes, ratios = (13.0, 23.0, 41.0, 72.0, 113.0), (1.0, 2.44)
    grids = [(24, 40), (12, 20), (6, 10), (3, 5), (2, 3)]
    ours = grid_anchors(96, 160, sizes, ratios)
    generator = AnchorGenerator(tuple((size,) for size in sizes), (ratios,) * 5)
    theirs = generator(ImageList(torch.zeros(1, 3, 96, 160), [(96, 160)]), [torch.zeros(1, 1, *grid) for grid in grids])
    assert torch.equal(ours, theirs[0])


@pytest.mark.parametrize(("height", "width"), [(96, 160), (77, 91)])
def test_grid_sizes_equal_shapes_of_pyramid(height: int, width: int) -> None:
    detector = build_detector(TINY).eval()
    images = torch.zeros(1, 3, height, width)
    pyramid = detector.forward_pyramid(images, torch.tensor([[height, width]]))
    assert [tuple(level.shape[2:]) for level in pyramid.values()] == pyramid_grid_sizes(height, width)


def test_parameter_counts_equal_published_ones() -> None:
    # torchvision documents fasterrcnn_resnet50_fpn at 41,755,286 parameters with 91 classes and a frozen
    # batch norm. DESIGN: ResNet-50 with FPN 256 and head 1024 has 41.3M with 2 classes; ResNet-18 28.3M.
    resnet50 = DetectorConfig(
        backbone="resnet50",
        width_multiplier=1.0,
        pyramid_channels=256,
        head_channels=1024,
        norm="frozen_batch",
        anchor_aspect_ratios=(0.5, 1.0, 2.0),
    )
    detector = build_detector(resnet50, num_classes=91)
    # Frozen batch norm holds its scale and bias as buffers; torchvision freezes conv1 and layer1 besides,
    # but counts them.
    assert sum(parameter.numel() for parameter in detector.parameters()) == 41_755_286
    resnet18 = resnet50.model_copy(update={"backbone": "resnet18"})
    assert round(config_cost(resnet18, 96, 128).num_params / 1e6, 1) == 28.3


def test_scaled_channels_are_multiples_of_8() -> None:
    assert [scaled_channels(64, multiplier) for multiplier in (0.125, 0.3, 0.5, 1.0)] == [8, 16, 32, 64]


def test_subsampled_shortcut_equals_strided_convolution() -> None:
    # At width 1/8 stage 1 has 8 channels, for which oneDNN's own gradient overruns its memory at odd batches (not at
    # this even one). The 2 x 2 blocks of cells are read at their first, gradients of the others are zero.
    body = build_backbone("resnet18", 0.125, 8, "batch").body
    shortcut = body["layer2"][0].downsample[0]
    assert type(shortcut) is not torch.nn.Conv2d
    features = torch.randn(2, 8, 7, 6, generator=torch.Generator().manual_seed(0))
    results = []
    for strided in (shortcut, lambda cells: torch.nn.functional.conv2d(cells, shortcut.weight, stride=2)):
        cells = features.clone().requires_grad_()
        made = strided(cells)
        results.append((made, *torch.autograd.grad(made.square().sum(), (cells, shortcut.weight))))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)
    assert "layer2.0.downsample.0.weight" in body.state_dict()
    # From stage 2 on there are 16 channels, and more: torchvision's own.
    assert type(body["layer3"][0].downsample[0]) is torch.nn.Conv2d
