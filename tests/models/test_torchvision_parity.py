"""The batched detector equals torchvision's ``FasterRCNN`` with the same weights on the same images.

Weights are random. Their class scores are all about 1 / K, with none above a threshold, so the output layers are scaled
until scores vary. That amplifies rounding as well, so both run in fp64.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import resnet50
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection._utils import overwrite_eps
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor
from torchvision.models.detection.roi_heads import fastrcnn_loss
from torchvision.ops import FrozenBatchNorm2d

from hkd.config import DetectorConfig, TeacherConfig
from hkd.models.build import build_detector
from hkd.models.components.anchors import pyramid_grid_sizes
from hkd.models.components.backbone import build_backbone
from hkd.models.components.losses import region_losses, rpn_losses
from hkd.models.components.sampling import append_ground_truth, match_anchors, sample_anchors, sample_regions
from hkd.models.detector import Detector
from hkd.models.weight_formats import torchvision_names
from hkd.models.weights import load_weights
from hkd.structures import Targets
from tests.models.weight_formats.torchvision_files import old_names

pytestmark = pytest.mark.thorough

# fasterrcnn_resnet50_fpn's settings, in our configuration's words.
TORCHVISION_RESNET50 = DetectorConfig(
    backbone="resnet50",
    width_multiplier=1.0,
    pyramid_channels=256,
    head_channels=1024,
    anchor_sizes=(32.0, 64.0, 128.0, 256.0, 512.0),
    anchor_aspect_ratios=(0.5, 1.0, 2.0),
    canonical_region_size=224.0,
    pre_nms_proposals_per_level=150,
    proposals_per_image=100,
)
SMALL = DetectorConfig(
    backbone="resnet18", width_multiplier=0.5, pyramid_channels=32, head_channels=64, canonical_region_size=224.0
)


def _torchvision_detector(
    config: DetectorConfig, num_classes: int, norm_layer: type[nn.Module] = nn.BatchNorm2d
) -> FasterRCNN:
    """torchvision's detector without resizing, so that both detectors get the same pixels."""
    settings = {
        "rpn_pre_nms_top_n_test": config.pre_nms_proposals_per_level,
        "rpn_post_nms_top_n_test": config.proposals_per_image,
        "box_score_thresh": 0.2,
        "box_detections_per_img": 40,
    }
    if config is TORCHVISION_RESNET50:
        # What fasterrcnn_resnet50_fpn builds, which chooses the norm by the weights that it downloads.
        backbone = _resnet_fpn_extractor(resnet50(weights=None, norm_layer=norm_layer), 5)
        model = FasterRCNN(backbone, num_classes, **settings)
    else:
        backbone = build_backbone(config.backbone, config.width_multiplier, config.pyramid_channels, config.norm)
        anchors = AnchorGenerator(
            tuple((size,) for size in config.anchor_sizes), (config.anchor_aspect_ratios,) * len(config.anchor_sizes)
        )
        model = FasterRCNN(backbone, num_classes, rpn_anchor_generator=anchors, **settings)
        model.roi_heads.box_head.fc6 = nn.Linear(config.pyramid_channels * 49, config.head_channels)
        model.roi_heads.box_head.fc7 = nn.Linear(config.head_channels, config.head_channels)
        model.roi_heads.box_predictor.cls_score = nn.Linear(config.head_channels, num_classes)
        model.roi_heads.box_predictor.bbox_pred = nn.Linear(config.head_channels, 4 * num_classes)
    model.transform.resize = lambda image, target: (image, target)
    return model.double().eval()


def _spread_out(model: nn.Module) -> None:
    """Set random batch-norm statistics."""
    generator = torch.Generator().manual_seed(7)
    for name, tensor in model.state_dict().items():
        if name.endswith("running_mean"):
            tensor.copy_(0.2 * torch.randn(tensor.shape, generator=generator))
        elif name.endswith("running_var"):
            tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))


def _spread_outputs(reference: FasterRCNN, images: list[Tensor]) -> None:
    """Shift and scale the output layers so that logits have standard deviation 2, and deltas 0.5 or 1, over the image.

    The input of a random head's last layers is nearly constant: without this, all scores or none would pass the
    threshold.
    """
    head, predictor = reference.rpn.head, reference.roi_heads.box_predictor
    layers = ((head.cls_logits, 2.0), (head.bbox_pred, 0.5), (predictor.cls_score, 2.0), (predictor.bbox_pred, 1.0))
    for layer, deviation in layers:
        seen: list[Tensor] = []
        handle = layer.register_forward_hook(
            lambda _module, _inputs, output, seen=seen: seen.append(output.transpose(0, 1).flatten(1))
        )
        with torch.no_grad():
            reference(images)
            handle.remove()
            outputs = torch.cat(seen, dim=1)  # (channels, places of all levels)
            scale = deviation / outputs.std(dim=1)
            layer.bias.copy_((layer.bias - outputs.mean(dim=1)) * scale)
            layer.weight.mul_(scale.view(-1, *[1] * (layer.weight.dim() - 1)))


def _image(height: int, width: int) -> Tensor:
    """Smooth random colours with noise, so that image regions differ from each other."""
    blotches = functional.interpolate(torch.rand(1, 3, 6, 6), size=(height, width), mode="bilinear")[0]
    return (0.8 * blotches + 0.2 * torch.rand(3, height, width)).double()


def _padded(images: list[Tensor]) -> tuple[Tensor, Tensor]:
    """One batch of the size torchvision pads to: the largest, rounded up to a multiple of 32."""
    height = max(-(-image.shape[1] // 32) * 32 for image in images)
    width = max(-(-image.shape[2] // 32) * 32 for image in images)
    batch = torch.zeros(len(images), 3, height, width, dtype=torch.float64)
    for slot, image in zip(batch, images, strict=True):
        slot[:, : image.shape[1], : image.shape[2]] = image
    return batch, torch.tensor([image.shape[1:] for image in images], dtype=torch.float64)


@pytest.mark.parametrize(
    ("config", "num_classes", "sizes"),
    [
        (TORCHVISION_RESNET50, 91, [(160, 192), (128, 224)]),
        (TORCHVISION_RESNET50, 2, [(200, 150)]),
        (SMALL, 2, [(192, 256), (192, 256), (100, 180)]),
        (SMALL, 2, [(96, 96), (77, 91)]),
    ],
    ids=["resnet50-91-classes", "resnet50-one-image", "small-batch-of-three", "small-odd-sizes"],
)
def test_detections_equal_torchvision(config: DetectorConfig, num_classes: int, sizes: list[tuple[int, int]]) -> None:
    torch.manual_seed(0)
    reference = _torchvision_detector(config, num_classes)
    _spread_out(reference)
    images = [_image(height, width) for height, width in sizes]
    _spread_outputs(reference, images)
    ours = build_detector(config, num_classes=num_classes).double().eval()
    ours.load_state_dict(reference.state_dict())
    batch, valid_sizes = _padded(images)
    with torch.no_grad():
        expected = reference(images)
    found = ours.detect(batch, valid_sizes, score_threshold=0.2, nms_iou=0.5, max_detections=40)
    assert sum(len(image["scores"]) for image in expected) >= 5 * len(images)  # the comparison is not vacuous
    for index, image in enumerate(expected):
        valid = found.valid[index]
        assert int(valid.sum()) == len(image["scores"])
        torch.testing.assert_close(found.scores[index][valid], image["scores"], atol=1e-4, rtol=0)
        torch.testing.assert_close(found.boxes_xyxy[index][valid], image["boxes"], atol=1e-4, rtol=0)
        assert torch.equal(found.labels[index][valid], image["labels"])


@pytest.mark.parametrize(("num_classes", "epsilon"), [(91, 0.0), (2, 1e-5)])
def test_people_of_torchvision_file_are_detected_as_torchvision_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_classes: int, epsilon: float
) -> None:
    """teacher.torchvision with a file of frozen norms, in old names and a training's wrapping."""
    torch.manual_seed(0)
    reference = _torchvision_detector(TORCHVISION_RESNET50, num_classes, norm_layer=FrozenBatchNorm2d)
    _spread_out(reference)
    overwrite_eps(reference, epsilon)
    # torchvision sets epsilon 0 for the files it distributes, which are known by their hash.
    monkeypatch.setattr(torchvision_names, "is_trained_without_epsilon", lambda _path: epsilon == 0)
    images = [_image(160, 192), _image(128, 224)]
    _spread_outputs(reference, images)
    with torch.no_grad():
        reference.roi_heads.box_predictor.cls_score.bias[1] += 3  # people among all classes
    reference.roi_heads.detections_per_img = 1000  # the best of all classes there, of people here
    torch.save({"model": old_names(reference.state_dict())}, tmp_path / "model_25.pth")
    config = TeacherConfig(
        torchvision=tmp_path / "model_25.pth", pre_nms_proposals_per_level=150, proposals_per_image=100
    )
    ours = build_detector(config).double().eval()
    load_weights(ours, tmp_path / "model_25.pth")
    batch, valid_sizes = _padded(images)
    with torch.no_grad():
        expected = reference(images)
    found = ours.detect(batch, valid_sizes, score_threshold=0.2, nms_iou=0.5, max_detections=1000)
    assert sum(int((image["labels"] == 1).sum()) for image in expected) >= 2
    for index, image in enumerate(expected):
        valid, people = found.valid[index], image["labels"] == 1
        assert int(valid.sum()) == int(people.sum())
        torch.testing.assert_close(found.scores[index][valid], image["scores"][people], atol=1e-4, rtol=0)
        torch.testing.assert_close(found.boxes_xyxy[index][valid], image["boxes"][people], atol=1e-4, rtol=0)


def test_image_without_detections_equals_torchvision() -> None:
    torch.manual_seed(0)
    reference = _torchvision_detector(SMALL, 2)
    _spread_out(reference)
    with torch.no_grad():
        # Background certain everywhere: no score of a pedestrian passes 0.2.
        reference.roi_heads.box_predictor.cls_score.bias.copy_(torch.tensor([1000.0, -1000.0]))
    ours = build_detector(SMALL).double().eval()
    ours.load_state_dict(reference.state_dict())
    images = [torch.zeros(3, 96, 128, dtype=torch.float64), _image(96, 128)]
    with torch.no_grad():
        assert [len(image["scores"]) for image in reference(images)] == [0, 0]
    found = ours.detect(*_padded(images), score_threshold=0.2, nms_iou=0.5, max_detections=10)
    assert found.valid.sum() == 0
    assert found.boxes_xyxy.shape == (2, 10, 4)


@pytest.fixture(scope="module")
def training_case() -> tuple[Detector, FasterRCNN, Tensor, Tensor, Targets]:
    """Both detectors in training mode with equal weights, and a batch of three images, one without objects."""
    torch.manual_seed(1)
    reference = _torchvision_detector(SMALL, 2)
    _spread_out(reference)
    images = torch.stack([_image(128, 160) for _ in range(3)])
    _spread_outputs(reference, list(images))
    ours = build_detector(SMALL).double()
    ours.load_state_dict(reference.state_dict())
    boxes = torch.zeros(3, 4, 4, dtype=torch.float64)
    boxes[0, 0] = torch.tensor([10.0, 20.0, 34.0, 80.0])
    boxes[0, 1] = torch.tensor([60.0, 30.0, 75.0, 66.0])
    boxes[2, 0] = torch.tensor([100.0, 5.0, 150.0, 125.0])
    valid = torch.tensor([[True, True, False, False], [False] * 4, [True, False, False, False]])
    targets = Targets(boxes, valid, torch.zeros_like(valid))
    return ours, reference, images, torch.tensor([[128.0, 160.0]] * 3, dtype=torch.float64), targets


def test_rpn_losses_equal_torchvision_on_same_anchors(
    training_case: tuple[Detector, FasterRCNN, Tensor, Tensor, Targets],
) -> None:
    ours, reference, images, valid_sizes, targets = training_case
    with torch.no_grad():
        pyramid = ours.eval().forward_pyramid(images, valid_sizes)
        rpn, _ = ours.forward_proposals(pyramid, 128, 160, valid_sizes)
    keys = torch.rand(3, rpn.anchors_xyxy.shape[0], generator=torch.Generator().manual_seed(3))
    matches = match_anchors(rpn.anchors_xyxy, targets)
    sampled = sample_anchors(matches, targets, keys, sampled_anchors_per_image=64, positive_fraction=0.5)
    ours_losses = rpn_losses(rpn, sampled)

    # torchvision: its own matching of every anchor, and our sample handed to its loss in its sampler's place.
    target_dicts = [{"boxes": boxes[valid]} for boxes, valid in zip(targets.boxes_xyxy, targets.valid, strict=True)]
    anchors = [rpn.anchors_xyxy] * 3
    labels, matched = reference.rpn.assign_targets_to_anchors(anchors, target_dicts)
    for image in range(3):
        assert torch.equal(labels[image] == 1, matches.positive[image])
        assert torch.equal(labels[image] == 0, matches.negative[image])
    reference.rpn.fg_bg_sampler = lambda _: (
        _masks(sampled.positive_index, sampled.positive_valid, len(rpn.anchors_xyxy)),
        _masks(sampled.negative_index, sampled.negative_valid, len(rpn.anchors_xyxy)),
    )
    objectness, box = reference.rpn.compute_loss(
        rpn.objectness.reshape(-1, 1),
        rpn.deltas.reshape(-1, 4),
        [of_image.double() for of_image in labels],
        reference.rpn.box_coder.encode(matched, anchors),
    )
    assert int(sampled.positive_valid.sum()) > 0
    torch.testing.assert_close(ours_losses["rpn_objectness"], objectness, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(ours_losses["rpn_box"], box, atol=1e-6, rtol=1e-5)


def _masks(index: Tensor, valid: Tensor, count: int) -> list[Tensor]:
    """Masks of sampled anchors, one per image, as torchvision's sampler returns them."""
    masks = []
    for image_index, image_valid in zip(index, valid, strict=True):
        mask = torch.zeros(count, dtype=torch.uint8)
        mask[image_index[image_valid]] = 1
        masks.append(mask)
    return masks


def test_region_losses_equal_torchvision_on_same_regions(
    training_case: tuple[Detector, FasterRCNN, Tensor, Tensor, Targets],
) -> None:
    ours, reference, images, valid_sizes, targets = training_case
    with torch.no_grad():
        pyramid = ours.eval().forward_pyramid(images, valid_sizes)
        _, proposals = ours.forward_proposals(pyramid, 128, 160, valid_sizes)
        candidates = append_ground_truth(proposals, targets)
        keys = torch.rand(candidates.valid.shape, generator=torch.Generator().manual_seed(5))
        sampled = sample_regions(candidates, targets, keys, sampled_regions_per_image=24, positive_fraction=0.25)
        region = ours.forward_regions(pyramid, ours.region_taps(pyramid, sampled.regions.boxes_xyxy, 128))
    ours_losses = region_losses(region, sampled)

    valid = sampled.regions.valid
    per_image = [sampled.regions.boxes_xyxy[image][valid[image]] for image in range(3)]
    matched = [sampled.matched_boxes_xyxy[image][valid[image]] for image in range(3)]
    # torchvision's own matching gives the same labels to the same regions.
    target_boxes = [boxes[ok] for boxes, ok in zip(targets.boxes_xyxy, targets.valid, strict=True)]
    _, expected_labels = reference.roi_heads.assign_targets_to_proposals(
        per_image, target_boxes, [torch.ones(len(boxes), dtype=torch.int64) for boxes in target_boxes]
    )
    labels = [sampled.labels[image][valid[image]] for image in range(3)]
    for ours_of_image, expected_of_image in zip(labels, expected_labels, strict=True):
        assert torch.equal(ours_of_image, expected_of_image)
    flat_valid = valid.reshape(-1)
    classification, box = fastrcnn_loss(
        region.class_logits[flat_valid],
        region.box_deltas[flat_valid],
        labels,
        reference.roi_heads.box_coder.encode(matched, per_image),
    )
    assert int(torch.cat(labels).sum()) > 0
    torch.testing.assert_close(ours_losses["roi_classification"], classification, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(ours_losses["roi_box"], box, atol=1e-6, rtol=1e-5)


def test_training_proposals_equal_torchvision(
    training_case: tuple[Detector, FasterRCNN, Tensor, Tensor, Targets],
) -> None:
    ours, reference, images, valid_sizes, _ = training_case
    with torch.no_grad():
        pyramid = ours.eval().forward_pyramid(images, valid_sizes)
        rpn, proposals = ours.forward_proposals(pyramid, 128, 160, valid_sizes)
        levels = [rows * columns for rows, columns in pyramid_grid_sizes(128, 160)]
        decoded = reference.rpn.box_coder.decode(rpn.deltas.reshape(-1, 4), [rpn.anchors_xyxy] * 3).view(3, -1, 4)
        boxes, scores = reference.rpn.filter_proposals(decoded, rpn.objectness, [(128, 160)] * 3, levels)
    for image in range(3):
        valid = proposals.valid[image]
        torch.testing.assert_close(proposals.boxes_xyxy[image][valid], boxes[image], atol=1e-4, rtol=0)
        torch.testing.assert_close(proposals.scores[image][valid], scores[image], atol=1e-6, rtol=0)
